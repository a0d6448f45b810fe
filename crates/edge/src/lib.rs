//! The edge: serves browsers what comes over ØMQ.
//!
//! Data flows one way: [`ingest`] takes messages from ØMQ into one log (record), each shard reads it by a cursor of its
//! own, finds who wants what (route), encodes each message once a format and writes it to the sockets (deliver). What goes
//! up is one channel each: the prefixes that browsers want, to the ingest thread, and what they publish, to the forwarder.
//! The rooms: `http` knows warp, `ingest` and `publish` know ØMQ, `control`, `recorder` and `publish` know tonic, `shard` knows sockets; the protocol and its state are `trestle_hub`'s.
//!
//! Behind a forwarder an edge is a clone: it is ready when it has all that the forwarder keeps, and asks again for what the
//! link loses.
//!
//! ```no_run
//! # async fn run() -> anyhow::Result<()> {
//! use clap::Parser as _;
//! let config = trestle_edge::Config::parse_from(["trestle-edge", "--source", "tcp://127.0.0.1:28332"]);
//! let mut edge = trestle_edge::start(config).await?;
//! println!("http://{}/", edge.address);
//! edge.shutdown().await
//! # }
//! ```

#![forbid(unsafe_code)]

mod address;
mod admission;
mod assets;
pub mod config;
mod control;
pub mod decoders;
mod door;
mod drain;
mod events;
mod gate;
mod http;
pub mod ingest;
pub mod limits;
mod memory;
pub mod metrics;
pub mod origin;
mod publish;
mod recorder;
mod shard;
pub mod tally;
pub mod tokens;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use trestle_hub::Grant;
use trestle_hub::encode::GoodbyeReason;
use trestle_process::private_http::{self, Private, Readiness};
use trestle_recorder::Log;

pub use config::Config;

use address::Proxies;
use admission::Admission;
use drain::{Drain, Draining, Emptied, LINGER};
use ingest::{Ingest, Upstream};
use limits::{Floods, Room};
use metrics::ShardMetrics;
use origin::Origins;
use publish::pace::Pace;
use tokens::{Known, NO_KEYS, Tokens};

/// How often [`Running::ready`] looks.
const READY_POLL: Duration = Duration::from_millis(5);

/// A running edge. Dropped without [`shutdown`](Self::shutdown) its browsers are cut without a word.
#[derive(Debug)]
pub struct Running {
    /// Where browsers connect.
    pub address: SocketAddr,
    /// Where gRPC listens.
    pub control: SocketAddr,
    /// Where health and metrics are.
    pub metrics: SocketAddr,
    ingest: Ingest,
    known: Arc<Known>,
    shards: Vec<JoinHandle<()>>,
    failures: mpsc::UnboundedReceiver<anyhow::Error>,
    drain: Drain,
    drain_timeout: Duration,
    emptied: Emptied,
    /// Ends the shards.
    stop: watch::Sender<bool>,
    private: Vec<AbortHandle>,
}

/// Starts everything. Upstream need not be reachable: the edge says so and waits for it. The process's limit of open files
/// is raised as far as it goes.
///
/// # Errors
/// An [`Exit`](trestle_process::exit::Exit) with code 64 for flags that contradict each other, 71 for an address that
/// cannot be bound; each names the flag.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let ingest_options = ingest::Options {
        upstream: config.upstream()?,
        bounds: config.limits.of_sockets(),
        identity: config.identity()?,
        interest_linger: config.interest_linger,
        interest_max: config.limits.interest_max.into(),
    };
    let (rate, access) = (config.limits.connection_rate()?, config.access()?);
    let way = publish::Way::of(&config)?;
    let decoders = Arc::new(decoders::of(&config)?);
    let publish = config.allow_publish.iter().map(|prefix| prefix.as_bytes()).collect();
    let (tokens, keeping) = Tokens::of(&config.tokens, Grant { publish, ..Grant::everything() })?;
    let tokens = Arc::new(tokens);
    shard::raise_limit();
    let listeners = shard::listeners(config.listen, config.shards(), config.limits.half_open_timeout)?;
    let address = listeners.first().context("at least one shard")?.local_addr()?;
    let metrics_listener = private_http::bind("--metrics", config.metrics).await?;
    let metrics_address = metrics_listener.local_addr()?;

    let log = Arc::new(Log::new(config.limits.log_bytes_max()));
    let appended: Vec<_> = listeners.iter().map(|_| Arc::new(Notify::new())).collect();
    let mut ingest = ingest::start(ingest_options, Arc::clone(&log), appended.clone())?;
    let upstream = Arc::clone(&ingest.upstream);
    let mut tasks = Vec::new();
    tasks.extend(keeping.map(|keeping| tokio::spawn(keeping.run()).abort_handle()));
    let options = config.recorder.clone().map(|url| {
        let message_bytes_max = ingest::message_bytes_max(config.limits.of_sockets());
        Arc::new(recorder::Options { url, access: access.clone(), message_bytes_max })
    });
    let (publications, publishing) = publish::start(way, &config, options.as_ref())?;
    tasks.extend(publishing);
    let questions = options.zip(ingest.replays.take()).map(|(options, replays)| {
        let (questions, answers) = recorder::questions(Arc::clone(&options));
        tasks.push(tokio::spawn(recorder::serve(options, replays)).abort_handle());
        tasks.push(tokio::spawn(answers).abort_handle());
        questions
    });
    if questions.is_none() && config.link.is_some() {
        tracing::warn!("no --recorder: history begins with this edge, and what the link loses is lost");
    }

    let admission = Arc::new(Admission::new(rate, Instant::now()));
    let limits = &config.limits;
    let [connections_max, address_connections_max] =
        [limits.connections_max, limits.address_connections_max].map(|max| max.map(NonZeroU32::get));
    let proxies = Proxies::new(&config.trusted_proxy);
    let room = Arc::new(Room::new(proxies, connections_max, address_connections_max));
    let floods = Arc::new(Floods::default());
    let post_pace = Arc::new(Pace::new(limits.publications_per_second, Instant::now()));
    let origins = Arc::new(Origins::new(
        &config.allow_origin,
        config.require_origin,
        config.tokens.auth_cookie.is_some(),
    ));
    let (stop, stopping) = watch::channel(false);
    let (failed, failures) = mpsc::unbounded_channel();
    let (occupied, emptied) = Emptied::new();
    let counts: Vec<_> = listeners.iter().map(|_| Arc::new(ShardMetrics::default())).collect();
    let drain = Drain::new(counts.clone());
    let mut replica = [0; 4];
    getrandom::fill(&mut replica).map_err(|error| anyhow!("no random bytes for session names: {error}"))?;
    let mut shards = Vec::new();
    for (nth, (listener, appended)) in listeners.into_iter().zip(appended).enumerate() {
        let options = shard::Options {
            name: format!("{:08x}-{nth}", u32::from_be_bytes(replica)),
            limits: config.limits(),
            handshake_timeout: config.limits.handshake_timeout,
            head_bytes_max: config.limits.head_bytes_max(),
            flush_window: config.flush_window,
            log: Arc::clone(&log),
            appended,
            upstream: Arc::clone(&upstream),
            interest: ingest.interest.clone(),
            questions: questions.clone(),
            publications: publications.clone(),
            post_pace: Arc::clone(&post_pace),
            decoders: Arc::clone(&decoders),
            metrics: Arc::clone(&counts[nth]),
            admission: Arc::clone(&admission),
            room: Arc::clone(&room),
            floods: Arc::clone(&floods),
            origins: Arc::clone(&origins),
            tokens: Arc::clone(&tokens),
            draining: drain.draining(),
            occupied: occupied.clone(),
            stopping: stopping.clone(),
        };
        shards.push(shard::start(listener, options, failed.clone())?);
    }

    let guard = access.guard();
    let (control, serving) = control::start(
        &config,
        (&access, &guard),
        Arc::clone(&upstream),
        tokens.known(),
        counts.clone(),
        drain.clone(),
    )
    .await?;
    let readiness = {
        let (upstream, known, draining) = (Arc::clone(&upstream), tokens.known(), drain.draining());
        move || readiness(&upstream, &known, &draining)
    };
    let private = Private {
        registry: metrics::registry(
            counts,
            upstream,
            log,
            decoders,
            publications.outcomes(),
            (tokens.failures(), tokens.known()),
            guard.refused(),
        ),
        readiness: Box::new(readiness),
        token: access.token().cloned(),
    };
    let private = tokio::spawn(private_http::serve(metrics_listener, private)).abort_handle();
    tasks.extend([private, serving]);
    tracing::info!(
        "listening on http://{address}/, gRPC on {control}, metrics on http://{metrics_address}/metrics"
    );
    if !config.asks_for_tokens() {
        tracing::warn!(
            "--auth none: nobody is asked for a token; whoever reaches {address} may read every topic"
        );
    }
    let known = tokens.known();
    Ok(Running {
        address,
        control,
        metrics: metrics_address,
        ingest,
        known,
        shards,
        failures,
        drain,
        drain_timeout: config.drain_timeout,
        emptied,
        stop,
        private: tasks,
    })
}

fn readiness(upstream: &Upstream, known: &Known, draining: &Draining) -> Readiness {
    if draining.order().is_some() {
        return Err("draining".to_owned());
    }
    if !known.are_here() {
        return Err(format!("not ready: {NO_KEYS}; is --auth-jwks reached?"));
    }
    match (upstream.is_ready(), upstream.is_stale()) {
        (false, _) if upstream.rules_version() > 0 => {
            Err("not ready: what upstream keeps is not here yet; is --recorder reached?".to_owned())
        }
        (false, _) => Err("not ready: nothing has come from upstream yet".to_owned()),
        (true, true) => Ok("ready, stale: upstream is silent".to_owned()),
        (true, false) => Ok("ready".to_owned()),
    }
}

impl Running {
    /// Resolves if a part of the edge ends by itself: then the process must end too, with this error. Cancel safe.
    pub async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.ingest.failed() => error,
            Some(error) = self.failures.recv() => error,
        }
    }

    /// Resolves when the edge can serve browsers.
    pub async fn ready(&self) {
        while !self.ingest.upstream.is_ready() || !self.known.are_here() {
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Resolves when `Control.Drain` has been called: then [`shutdown`](Self::shutdown) sees it to its end. Cancel safe.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut draining = self.drain.draining();
        async move {
            draining.begun().await;
        }
    }

    /// Begins the drain of [`shutdown`](Self::shutdown), also while that waits for the end of a longer one.
    pub fn stopper(&self) -> impl FnOnce() + Send + use<> {
        let (drain, timeout) = (self.drain.clone(), self.drain_timeout);
        move || {
            drain.begin(GoodbyeReason::Restarting, timeout);
        }
    }

    /// Takes no new browsers, says goodbye to all, closes one after the other, and ends when the last has gone, within
    /// `--drain-timeout`. Where a drain is under way it sees that to its end.
    ///
    /// # Errors
    /// If a shard's thread panicked.
    pub async fn shutdown(mut self) -> anyhow::Result<()> {
        if self.drain.draining().order().is_none() {
            self.stopper()();
        }
        self.drained().await;
        self.stop.send_replace(true);
        let Self { ingest, shards, private, .. } = self;
        let ended = tokio::task::spawn_blocking(move || {
            let ended = shards.into_iter().map(JoinHandle::join).collect::<Result<Vec<()>, _>>();
            ingest.shutdown();
            ended.map_err(|_| anyhow!("a shard's thread panicked"))
        });
        let ended = ended.await.context("the shutdown panicked")?;
        private.iter().for_each(AbortHandle::abort);
        ended.map(drop)
    }

    /// Resolves when no browser is left or the time is over.
    async fn drained(&mut self) {
        let mut draining = self.drain.draining();
        let mut order = draining.begun().await;
        loop {
            tokio::select! {
                () = self.emptied.wait() => break,
                () = tokio::time::sleep_until(order.until.into()) => break,
                sooner = draining.next() => order = sooner,
            }
        }
        if order.clients > 0 {
            tokio::time::sleep_until(order.until.min(Instant::now() + LINGER).into()).await;
        }
    }
}
