//! One thread that takes messages from ØMQ into the log: the only room of the edge that knows ØMQ.
//!
//! [`start`] gives an [`Ingest`]. What goes in while it runs is interest ([`InterestSender`]) and what was missing on a link
//! (`Replays`); what comes out is the log, a notification to each shard after each batch, and the state and counters of
//! [`Upstream`].

mod feed;
mod interest;
mod link;
mod monitor;
mod multipart;
mod poll;
mod reach;
mod replays;
mod sources;
#[cfg(test)]
mod tests;
mod upstream;
mod wants;
mod writer;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::sync::{Notify, oneshot};
use trestle_process::curve::Identity;
use trestle_process::seldom::Seldom;
use trestle_process::source::Source;
use trestle_process::wake::{self, Waker};
use trestle_process::zmq::Bounds;
use trestle_recorder::{Log, Sequences};

pub use interest::InterestSender;
pub(crate) use replays::{Answer, Answers, Replays};
pub use upstream::Upstream;

use crate::config;
use feed::{Feed, Sockets};
use link::Link;
use multipart::Multipart;
use poll::{Entry, Poll};
use replays::Asker;
use sources::Sources;
use wants::Wants;
use writer::Writer;

/// All frames of a message together may have so many times the bound of one.
const FRAMES_AT_BOUND_MAX: usize = 16;

/// What an ingest needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where messages come from.
    pub upstream: config::Upstream,
    /// Bounds of each socket.
    pub bounds: Bounds,
    /// Who this edge is where it connects by CURVE.
    pub identity: Identity,
    /// A prefix that nobody wants any more is fetched for this long.
    pub interest_linger: Duration,
    /// So many prefixes that are not recorded are subscribed upward, 2 or more; beyond that shorter ones.
    pub interest_max: usize,
}

/// The running thread; dropping it ends it, too.
#[derive(Debug)]
pub struct Ingest {
    /// What shards want goes in here.
    pub interest: InterestSender,
    /// What the thread says about itself.
    pub upstream: Arc<Upstream>,
    /// What is asked of the recorder, if there is one; to be taken by who answers.
    pub(crate) replays: Option<Replays>,
    failed: oneshot::Receiver<anyhow::Error>,
    /// Ends the thread when dropped.
    _thread: Thread,
}

/// Starts the thread: messages go into `log`, after each batch every one of `shards` is notified.
///
/// # Errors
/// If there are no more threads or file descriptors, or libzmq refuses an endpoint. An unreachable upstream is no error.
pub fn start(options: Options, log: Arc<Log>, shards: Vec<Arc<Notify>>) -> anyhow::Result<Ingest> {
    let (waker, wakeable) = wake::pair().context("no file descriptor to wake the ingest thread")?;
    let (interest, wants) = interest::channel(waker.clone());
    let upstream = Arc::new(Upstream::default());
    let has_recorder = matches!(options.upstream, config::Upstream::Link { recorder: Some(_), .. });
    let (asker, replays) = has_recorder.then(|| replays::channel(waker.clone())).unzip();
    let (sockets, mut poll) = open(options, asker, Writer::new(log, shards, Arc::clone(&upstream)))?;
    // Before the thread runs, so that an edge on sources is ready when it is started.
    poll.begin(&sockets, Instant::now())?;
    let (thread, failed) = spawn(waker, move |stop| poll.run(&sockets, wakeable, &wants, stop))?;
    Ok(Ingest { interest, upstream, replays, failed, _thread: thread })
}

/// Runs `run` in a thread of its own until it sees the flag; an error or a panic of it is what the receiver gets.
fn spawn(
    waker: Waker,
    run: impl FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<(Thread, oneshot::Receiver<anyhow::Error>)> {
    let (failure, failed) = oneshot::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let body = move || {
        // Whatever the panic left half done goes with the thread.
        let result = catch_unwind(AssertUnwindSafe(|| run(&stopped)));
        let result = result.unwrap_or_else(|panic| Err(anyhow!("{}", panic_text(&*panic))));
        if let Err(error) = result {
            tracing::error!("the ingest thread ended: {error:#}");
            // During shutdown nobody listens.
            let _ = failure.send(error.context("the ingest thread ended"));
        }
    };
    let handle = thread::Builder::new().name("ingest".to_owned()).spawn(body).context("the ingest thread")?;
    Ok((Thread { stop, waker, handle: Some(handle) }, failed))
}

impl Ingest {
    /// Resolves if the thread ends by itself, by an error or a panic: then nothing comes in any more, and the process must
    /// end with this error. Cancel safe.
    pub async fn failed(&mut self) -> anyhow::Error {
        (&mut self.failed).await.unwrap_or_else(|_| anyhow!("the ingest thread ended"))
    }

    /// Ends the thread; returns when its sockets are closed, within a second.
    pub fn shutdown(self) {}
}

/// Ends its thread when dropped.
#[derive(Debug)]
struct Thread {
    stop: Arc<AtomicBool>,
    waker: Waker,
    handle: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        // A panic inside was caught and told already.
        let _ = self.handle.take().map(JoinHandle::join);
    }
}

/// Opens and dials every feed.
fn open(options: Options, asker: Option<Asker>, writer: Writer) -> anyhow::Result<(Vec<Sockets>, Poll)> {
    let Options { upstream: from, bounds, identity, interest_linger, interest_max } = options;
    let (context, now) = (zmq::Context::new(), Instant::now());
    let feed = |flag, endpoint, alias| Feed::open(&context, flag, endpoint, alias, (bounds, &identity), now);
    let (opened, entry) = match from {
        config::Upstream::Link { link, .. } => {
            (vec![feed("--link", link, None)?], Entry::Link(Box::new(Link::new(asker))))
        }
        config::Upstream::Sources { sources, splits, rules, sequences } => {
            let dial = |Source { alias, endpoint }| feed("--source", endpoint, alias);
            let feeds = sources.into_iter().map(dial).collect::<anyhow::Result<_>>()?;
            let sequences = Sequences::new(sequences.into_iter().map(String::into_bytes).collect());
            (feeds, Entry::Sources(Sources::new(new_epoch()?, splits, rules, sequences)))
        }
    };
    let (sockets, feeds) = opened.into_iter().unzip();
    let poll = Poll {
        feeds,
        entry,
        wants: Wants::new(interest_linger, interest_max),
        multipart: Multipart::new(message_bytes_max(bounds)),
        upstream: Arc::clone(&writer.upstream),
        writer,
        expire_at: now,
        no_beats: Seldom::default(),
        unsent: Seldom::default(),
        unsent_said: 0,
        too_large: Seldom::default(),
    };
    Ok((sockets, poll))
}

/// All frames of a message together.
pub(crate) fn message_bytes_max(bounds: Bounds) -> usize {
    let frame_bytes_max = usize::try_from(bounds.frame_bytes_max).unwrap_or(usize::MAX);
    frame_bytes_max.saturating_mul(FRAMES_AT_BOUND_MAX)
}

/// Drawn at random, so that two edges on one publisher never share one.
fn new_epoch() -> anyhow::Result<u64> {
    Ok(getrandom::u64().context("no randomness for an epoch")?.max(1))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.as_deref().unwrap_or("no reason given"))
}
