//! What browsers publish, on its way upward: one typed channel, from all who take publications to the one who sends them.
//!
//! A `Grant` decides who may, `pace` how fast by `POST`, `forwarder` hands over to a forwarder, `socket` sends where there is none, `post` is what a
//! `POST /publish` says. Nothing waits without end: what cannot go on its way at once is refused.

mod answer;
mod forwarder;
pub(crate) mod pace;
pub(crate) mod post;
mod socket;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use trestle_hub::encode::Publish;
use trestle_hub::{ErrorCode, Grant, Unpublished};
use trestle_messages::Position;
use trestle_process::exit::Exit;
use trestle_process::source::Endpoint;

use crate::config::Config;
use crate::recorder;

pub(crate) use answer::Outcomes;
use answer::{Answer, OnTheWay};

/// The position, `None` where it is not recorded; or why it was not published, or not certainly.
pub(crate) type Outcome = Result<Option<Position>, Unpublished>;

/// Tokens may allow what an edge has no way for.
const NOWHERE: &str = "nothing is published from here: this edge has neither --recorder nor --publish-to";

/// A publication on its way.
struct Job {
    publish: Publish,
    answer: Answer,
}

type Jobs = mpsc::UnboundedReceiver<Job>;

/// Where publications are handed in, from any thread.
#[derive(Clone)]
pub(crate) struct Publications {
    /// As many wait as [`OnTheWay`] lets. None where nothing is published from here.
    jobs: Option<mpsc::UnboundedSender<Job>>,
    on_the_way: Arc<OnTheWay>,
}

impl Publications {
    /// Hands `publish` in, which its client's grant covers. `answer` is called once, soon: on this thread or another, with the outcome.
    pub(crate) fn hand_in(&self, publish: Publish, answer: impl FnOnce(Outcome) + Send + 'static) {
        let answer = Answer::new(Arc::clone(&self.on_the_way), publish.bytes(), answer);
        if !self.on_the_way.has_room() {
            let reason = "too many publications are on their way";
            return answer.give(Err(Unpublished::new(ErrorCode::Unavailable, reason)));
        }
        let Some(jobs) = &self.jobs else {
            return answer.give(Err(Unpublished::new(ErrorCode::Forbidden, NOWHERE)));
        };
        // During shutdown nobody takes it, and its answer says so.
        let _ = jobs.send(Job { publish, answer });
    }

    /// Whether anything that `grant` covers could be published; without, whether anything at all.
    ///
    /// # Errors
    /// Why not, for people.
    pub(crate) fn may_take(&self, grant: Option<&Grant>) -> Result<(), &'static str> {
        match self.jobs {
            _ if grant.is_some_and(|grant| grant.publish.is_empty()) => Err("publishing is not allowed here"),
            None => Err(NOWHERE),
            Some(_) => Ok(()),
        }
    }

    /// How many ended how.
    pub(crate) fn outcomes(&self) -> Arc<Outcomes> {
        Arc::clone(&self.on_the_way.outcomes)
    }

    /// What was refused before it could be handed in is counted as well.
    pub(crate) fn refuse(&self, refused: Unpublished) -> Outcome {
        let outcome = Err(refused);
        self.on_the_way.outcomes.count(&outcome);
        outcome
    }
}

/// Where publications go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing may be published.
    Off,
    /// To the forwarder that is the recorder.
    Forwarder,
    /// To whoever listens there.
    Socket(Endpoint),
}

impl Way {
    /// The way that the flags name.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flags at fault.
    pub(crate) fn of(config: &Config) -> Result<Self, Exit> {
        let (by_prefix, by_token) = (!config.allow_publish.is_empty(), config.asks_for_tokens());
        match (by_prefix, by_token, &config.recorder, &config.publish_to) {
            (true, true, ..) => Err(Exit::usage(
                "--allow-publish and --auth jwt exclude each other: tokens say who may publish what",
            )),
            (_, _, Some(_), Some(_)) => Err(Exit::usage(
                "--publish-to and --recorder exclude each other: a forwarder takes what is published",
            )),
            (false, false, _, Some(_)) => Err(Exit::usage(
                "--publish-to needs --allow-publish PREFIX, which says what may be published, or --auth jwt",
            )),
            (true, false, None, None) => Err(Exit::usage(
                "--allow-publish needs --recorder URL (a forwarder) or --publish-to ENDPOINT (a SUB that listens)",
            )),
            (false, false, _, None) | (false, true, None, None) => Ok(Self::Off),
            (_, _, Some(_), None) => Ok(Self::Forwarder),
            (_, _, None, Some(endpoint)) => Ok(Self::Socket(endpoint.clone())),
        }
    }
}

/// Starts what sends. `recorder`: the forwarder, where there is one.
///
/// # Errors
/// If the endpoint is of no use.
pub(crate) fn start(
    way: Way,
    config: &Config,
    recorder: Option<&Arc<recorder::Options>>,
) -> anyhow::Result<(Publications, Option<AbortHandle>)> {
    let (jobs, taken) = mpsc::unbounded_channel();
    let serving = match (way, recorder) {
        (Way::Socket(endpoint), _) => {
            let socket = socket::connect(&endpoint, config.limits.of_sockets(), &config.identity()?)?;
            Some(tokio::spawn(socket::serve(socket, endpoint, taken)))
        }
        (Way::Forwarder, Some(options)) => Some(tokio::spawn(forwarder::serve(Arc::clone(options), taken))),
        _ => None,
    };
    if serving.is_some() && !config.asks_for_tokens() {
        let prefixes = &config.allow_publish;
        tracing::warn!(?prefixes, "clients may publish to these prefixes, whoever they are");
    }
    let jobs = serving.is_some().then_some(jobs);
    let publications = Publications { jobs, on_the_way: Arc::default() };
    Ok((publications, serving.map(|task| task.abort_handle())))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_way_is_off_or_a_forwarder_or_an_endpoint() {
        let way = |args: &str| {
            let args = std::iter::once("trestle-edge").chain(args.split_whitespace());
            let config = trestle_process::config::parse(args, &HashMap::new()).unwrap();
            Way::of(&config).map_err(|exit| exit.reason)
        };
        let (recorder, to) = ("--recorder http://f:9091", "--publish-to tcp://w:5558");
        assert_eq!(way(recorder), Ok(Way::Off));
        assert_eq!(way(&format!("--allow-publish chat/ --allow-publish x {recorder}")), Ok(Way::Forwarder));
        let endpoint = "tcp://w:5558".parse().unwrap();
        assert_eq!(way(&format!("--allow-publish chat/ {to}")), Ok(Way::Socket(endpoint)));
        let jwt = "--auth jwt --auth-key x";
        assert_eq!(way(jwt), Ok(Way::Off));
        assert_eq!(way(&format!("{jwt} {recorder}")), Ok(Way::Forwarder));
        assert!(matches!(way(&format!("{jwt} {to}")), Ok(Way::Socket(_))));
        for (args, named) in [
            (format!("{to} {recorder}"), ["--publish-to", "--recorder"]),
            (format!("{jwt} {to} {recorder}"), ["--publish-to", "--recorder"]),
            (format!("{jwt} --allow-publish chat/ {recorder}"), ["--allow-publish", "--auth jwt"]),
            (to.to_owned(), ["--publish-to", "--allow-publish"]),
            ("--allow-publish chat/".to_owned(), ["--recorder", "--publish-to"]),
            (format!("--allow-publish chat/ {to} {recorder}"), ["--publish-to", "--recorder"]),
        ] {
            let reason = way(&args).unwrap_err();
            assert!(named.iter().all(|flag| reason.contains(flag)), "{args}: {reason}");
        }
    }
}
