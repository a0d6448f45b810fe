//! The forwarder: joins ØMQ publishers and subscribers, and numbers what edges follow.
//!
//! Publishers connect to the frontend (XSUB) or are connected to; subscribers connect to the backend (XPUB, frames
//! untouched), edges to the link (XPUB, a stamp behind the frames). [`start`] opens everything and gives a [`Running`];
//! read `proxy.rs` for the loop that moves messages, `interest.rs` for what goes up.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let config = trestle_forwarder::Config { no_record: true, ..Default::default() };
//! let forwarder = trestle_forwarder::start(config).await?;
//! println!("publish to {}, subscribe at {}", forwarder.frontend, forwarder.backend);
//! forwarder.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod beat;
mod config;
mod grpc;
mod interest;
mod message;
mod metrics;
mod monitor;
mod proxy;
mod recording;
mod replay;
mod sequences;
mod sockets;
mod state;
mod store;
mod submit;
mod wait;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use trestle_process::private_http::{self, Private};
use trestle_process::wake::{self, Wakeable, Waker};
use trestle_process::zmq::check_build;
use trestle_recorder::Intake;

pub use crate::config::Config;
use crate::metrics::{Metrics, PublicationMetrics};
use crate::proxy::Proxy;
use crate::recording::Recording;
use crate::replay::Patience;
use crate::sequences::Counters;
use crate::sockets::Sockets;
use crate::state::State;

/// Open gRPC calls may take this long to end at shutdown.
const CALLS_END_MAX: Duration = Duration::from_secs(1);
/// The proxy thread ends within this: a second of passing on, a second of lingering, and slack.
const PROXY_END_MAX: Duration = Duration::from_secs(4);

/// A forwarder at work. Dropped without [`shutdown`](Self::shutdown), it stops soon after, by itself.
pub struct Running {
    /// Where publishers connect, as a ØMQ endpoint such as `tcp://127.0.0.1:5555`.
    pub frontend: String,
    /// Where any ØMQ subscriber connects.
    pub backend: String,
    /// Where edges connect.
    pub link: String,
    /// Where the gRPC service `trestle.v1.Recorder` listens.
    pub grpc: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub metrics: SocketAddr,
    proxy: ProxyThread,
    grpc_stop: oneshot::Sender<()>,
    grpc_task: JoinHandle<()>,
    /// Aborted when dropped.
    metrics_task: JoinSet<()>,
}

struct ProxyThread {
    state: Arc<State>,
    waker: Waker,
    ended: oneshot::Receiver<Result<(), zmq::Error>>,
}

/// Binds every address, connects to the sources and starts moving messages. Call it within a tokio runtime with I/O and
/// time, which then serves gRPC and metrics; messages are moved by a thread of their own.
///
/// # Errors
/// An [`Exit`](trestle_process::exit::Exit) with code 64 (a flag is wrong) or 71 (an address cannot be bound, the data folder cannot be used), naming the flag.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    check_build()?;
    let rules = config.rules()?;
    let access = config.access()?;
    let mut registry = Registry::default();
    let (recording, stamper) = Recording::open(rules.clone(), config.data.as_deref(), &mut registry)?;
    let (sockets, watch, bound) = Sockets::open(&config, metrics::curve(&mut registry))?;
    let grpc_listener = private_http::bind("--grpc", config.grpc).await?;
    let metrics_listener = private_http::bind("--metrics", config.metrics).await?;
    let (grpc, metrics) = (grpc_listener.local_addr()?, metrics_listener.local_addr()?);

    let state = Arc::new(State::new((&rules).into(), Arc::clone(recording.log())));
    let counters = Metrics::new(&mut registry, stamper.epoch(), &watch.names().collect::<Vec<_>>());
    let intake = Intake::new(config.split.clone());
    let counted = config.sequence.iter().map(|prefix| prefix.clone().into_bytes()).collect();
    let patience = Patience { take_max: config.replay_timeout, ended: metrics::replays_ended(&mut registry) };
    let (waker, wakeable) = wake::pair().context("cannot open a socket pair")?;
    let publications = PublicationMetrics::new(&mut registry);
    let (submit, submissions) = submit::channel(waker.clone(), publications, config.frame_bytes_max);
    let proxy = Proxy::new(
        &sockets,
        (recording, stamper),
        (intake, Counters::new(counted)),
        counters,
        watch,
        submissions,
        Arc::clone(&state),
    )?;
    let proxy = ProxyThread::spawn(proxy, sockets, Arc::clone(&state), waker, wakeable)?;

    tracing::info!(
        "publishers connect to {}, subscribers to {}, edges to {}",
        bound.frontend,
        bound.backend,
        bound.link
    );
    tracing::info!("gRPC on {grpc}; /metrics, /healthz and /readyz on http://{metrics}");
    for source in &config.source {
        tracing::info!("connecting to source {}", source.endpoint);
    }
    if access.is_open() {
        tracing::warn!("no --link-token-file: whoever reaches {grpc} is served");
    }

    let guard = access.guard();
    metrics::grpc_refused(&mut registry, guard.refused());
    let token = access.token().cloned();
    let (grpc_stop, stopped) = oneshot::channel();
    let service = grpc::serve(grpc_listener, (access, guard), Arc::clone(&state), submit, patience, stopped);
    let grpc_task = tokio::spawn(async {
        if let Err(error) = service.await {
            tracing::error!("gRPC has ended: {error:#}");
        }
    });
    let private = Private { registry, readiness: Box::new(move || state.readiness()), token };
    let mut metrics_task = JoinSet::new();
    metrics_task.spawn(private_http::serve(metrics_listener, private));
    let sockets::Bound { frontend, backend, link } = bound;
    Ok(Running { frontend, backend, link, grpc, metrics, proxy, grpc_stop, grpc_task, metrics_task })
}

impl Running {
    /// Waits until the proxy thread ends by itself, which it does only if libzmq fails; then the forwarder is of no more
    /// use.
    ///
    /// # Errors
    /// Always, with what libzmq said.
    pub async fn failed(&mut self) -> anyhow::Result<()> {
        match (&mut self.proxy.ended).await {
            Ok(Err(error)) => Err(error).context("the proxy thread has ended"),
            Ok(Ok(())) | Err(_) => anyhow::bail!("the proxy thread has ended"),
        }
    }

    /// Passes on what has come in, lets it go out for up to a second, and closes everything; at most 5 s in all.
    pub async fn shutdown(self) {
        let Self { mut proxy, grpc_stop, mut grpc_task, metrics_task: _kept_to_the_end, .. } = self;
        proxy.stop();
        // Its receiver is gone if gRPC ended by itself.
        let _ = grpc_stop.send(());
        if timeout(CALLS_END_MAX, &mut grpc_task).await.is_err() {
            grpc_task.abort();
        }
        match timeout(PROXY_END_MAX, &mut proxy.ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!("the proxy thread ended: {error}"),
            Ok(Err(_)) => tracing::error!("the proxy thread panicked"),
            Err(_) => tracing::error!("the proxy thread does not end"),
        }
    }
}

impl ProxyThread {
    fn spawn(
        proxy: Proxy,
        sockets: Sockets,
        state: Arc<State>,
        waker: Waker,
        wakeable: Wakeable,
    ) -> anyhow::Result<Self> {
        let (tell, ended) = oneshot::channel();
        let shared = Arc::clone(&state);
        let run = move || {
            let result = proxy.run(sockets, wakeable);
            shared.ended();
            // Nobody listens if the forwarder was dropped.
            let _ = tell.send(result);
        };
        thread::Builder::new().name("proxy".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(Self { state, waker, ended })
    }

    fn stop(&self) {
        self.state.stop();
        self.waker.wake();
    }
}

impl Drop for ProxyThread {
    fn drop(&mut self) {
        self.stop();
    }
}
