//! One thread that takes messages from ØMQ into the log: the only room of the edge that knows ØMQ.

mod endpoint;
mod interest;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use trestle_process::zmq::Bounds;
use trestle_recorder::Log;

pub use endpoint::{Endpoint, EndpointError, Source};
pub use interest::InterestSender;
pub use upstream::Upstream;

use crate::config;

/// What an ingest needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where messages come from.
    pub upstream: config::Upstream,
    /// Bounds of each socket.
    pub bounds: Bounds,
    /// A prefix that nobody wants any more is fetched for this long.
    pub interest_linger: Duration,
}

/// The running thread.
#[derive(Debug)]
pub struct Ingest {
    /// What shards want goes in here.
    pub interest: InterestSender,
    /// What the thread says about itself.
    pub upstream: Arc<Upstream>,
    failed: oneshot::Receiver<anyhow::Error>,
}

/// Starts the thread: messages go into `log`, after each batch every one of `shards` is notified.
///
/// # Errors
/// If there are no more threads or file descriptors. An unreachable upstream is no error.
pub fn start(options: Options, log: Arc<Log>, shards: Vec<Arc<Notify>>) -> anyhow::Result<Ingest> {
    let _ = (options, log, shards);
    anyhow::bail!("not yet")
}

impl Ingest {
    /// Resolves if the thread ends by itself: then the process must end too, with this error. Cancel safe.
    pub async fn failed(&mut self) -> anyhow::Error {
        (&mut self.failed).await.unwrap_or_else(|_| anyhow::anyhow!("the ingest thread ended"))
    }

    /// Ends the thread; returns when its sockets are closed, within a second.
    pub fn shutdown(self) {}
}
