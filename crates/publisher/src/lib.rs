//! Publishes to ØMQ: demo events of two real kinds, or as a tool lines of standard input and generated load.
//!
//! [`start`] runs it in a thread of its own with its own ØMQ context; [`Running`] ends it. The kinds stand in
//! `kinds/`; `socket.rs` alone knows ØMQ. It knows nothing of forwarders: any SUB or XSUB is its peer.
//!
//! ```no_run
//! let demo = trestle_publisher::Config::demo("tcp://127.0.0.1:5555");
//! let running = trestle_publisher::start(demo)?;
//! running.shutdown()?;
//! # anyhow::Ok(())
//! ```

#![forbid(unsafe_code)]

pub mod config;
mod demo;
mod event;
mod interest;
mod kinds;
mod pace;
mod random;
mod socket;
mod tool;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, anyhow};
use tracing::info;
use trestle_process::wake::{self, Waker};

pub use config::{Attach, Config, Demo, Payloads, Task, Tool};

use socket::{Control, Delivery, Outlets};

/// A publisher that runs. Dropped without a word, it runs on until its job is done.
#[derive(Debug)]
pub struct Running {
    endpoints: Vec<String>,
    stopper: Stopper,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// Ends a [`Running`] from another thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl Stopper {
    /// Asks the publisher to end. A demo ends at once; a tool first sends for up to 5 s what it has queued.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Running {
    /// Where it listens or what it connects to, as ØMQ endpoints; a port that was 0 is the one it got.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// A handle that ends it while somebody waits in [`wait`](Self::wait).
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until it ends by itself or by a [`Stopper`]. A demo never ends by itself.
    ///
    /// # Errors
    /// Why it could not do its job; a [`trestle_process::exit::Exit`] where that decides the exit code (69: nobody
    /// subscribed).
    pub fn wait(self) -> anyhow::Result<()> {
        self.thread.join().map_err(|_| anyhow!("the publisher's thread panicked"))?
    }

    /// Ends it and waits for that.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn shutdown(self) -> anyhow::Result<()> {
        self.stopper.stop();
        self.wait()
    }
}

/// Opens the sockets and publishes in a new thread.
///
/// # Errors
/// An [`Exit`](trestle_process::exit::Exit) with code 64 for an endpoint that is none or a topic that cannot be
/// published on, 71 for an address that cannot be bound.
pub fn start(config: Config) -> anyhow::Result<Running> {
    config.check()?;
    let (waker, wakeable) = wake::pair().context("no socket pair to wake the publisher with")?;
    let stop = Arc::new(AtomicBool::new(false));
    let control = Control::new(wakeable, stop.clone());
    let delivery = match config.task {
        Task::Demo(_) => Delivery::Newest,
        Task::Tool(_) => Delivery::Every,
    };
    let outlets = Outlets::open(&config.attach, &config.curve, delivery, control)?;
    let endpoints = outlets.endpoints();
    match &config.attach {
        Attach::Bind(_) => info!(endpoint = endpoints[0], "listening for subscribers"),
        Attach::Connect(_) => info!(?endpoints, "connecting"),
    }
    let thread = thread::Builder::new().name("publisher".to_owned()).spawn(move || match config.task {
        Task::Demo(demo) => demo::run(outlets, &demo),
        Task::Tool(tool) => tool::run(outlets, &tool),
    })?;
    Ok(Running { endpoints, stopper: Stopper { stop, waker }, thread })
}
