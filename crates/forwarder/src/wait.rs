//! Waits until a socket may have something, in half the system calls that `zmq_poll` takes.
//!
//! `zmq_poll` asks each socket for its events twice, each time by a poll of its own. Here each is asked once, and then all
//! file descriptors are polled together. `ZMQ_FD` is edge-triggered, it says that something has happened since the socket
//! was last asked; so whoever asks every socket before every poll misses nothing.

use std::time::Duration;

use trestle_process::zmq::poll;
use zmq::{Error, PollItem};

use crate::message::Port;

/// Polls some ports and a further file descriptor.
pub(crate) struct Wait {
    /// Of the ports in their order, then the further one.
    items: Vec<PollItem<'static>>,
    /// Ports that had something before the poll.
    ready: Vec<bool>,
}

impl Wait {
    /// Waits for the ports in this order. `wake`: a file descriptor that ends the wait as well; it outlives this.
    ///
    /// # Errors
    /// What libzmq answers; in practice never.
    pub(crate) fn new<'a>(ports: impl Iterator<Item = &'a Port>, wake: i32) -> Result<Self, Error> {
        let fds = ports.map(|port| port.socket().get_fd()).chain([Ok(wake)]);
        let items =
            fds.map(|fd| Ok(PollItem::from_fd(fd?, zmq::POLLIN))).collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { ready: vec![false; items.len()], items })
    }

    /// Waits until one of them may have something, or for `timeout`. The same ports in the same order as before.
    ///
    /// # Errors
    /// What libzmq answers; in practice never.
    pub(crate) fn wait<'a>(
        &mut self,
        ports: impl Iterator<Item = &'a Port>,
        timeout: Duration,
    ) -> Result<(), Error> {
        for (ready, port) in self.ready.iter_mut().zip(ports) {
            *ready = port.socket().get_events()?.contains(zmq::POLLIN);
        }
        // Rounded up: a wait of 0 ms would spin through the last millisecond.
        let timeout_ms = timeout.as_micros().div_ceil(1_000);
        let any = self.ready.contains(&true);
        poll(&mut self.items, if any { 0 } else { i64::try_from(timeout_ms).unwrap_or(i64::MAX) })?;
        Ok(())
    }

    /// Whether the `n`th port may have something to receive; the one behind the last is the further file descriptor.
    pub(crate) fn may_have(&self, n: usize) -> bool {
        self.ready[n] || self.items[n].is_readable()
    }
}
