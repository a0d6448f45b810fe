//! Wakes a thread that polls ØMQ sockets, from any other thread.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// The waking end; clones wake the same thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<UnixStream>);

/// The polling end: poll its file descriptor for reading, then [`drain`](Self::drain).
#[derive(Debug)]
pub struct Wakeable(UnixStream);

/// A connected pair. ØMQ's own `ZMQ_FD` is edge-triggered and easily missed; a socket pair in the same `zmq::poll` as
/// the sockets is not.
///
/// # Errors
/// If no socket pair can be opened.
pub fn pair() -> std::io::Result<(Waker, Wakeable)> {
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    Ok((Waker(Arc::new(wake)), Wakeable(woken)))
}

impl Waker {
    /// Wakes the poller, now or when it polls next.
    pub fn wake(&self) {
        // A full buffer means that it has wakes enough to read; a closed one that nobody polls any more.
        let _ = (&*self.0).write(&[1]);
    }
}

impl Wakeable {
    /// Takes all wakes that have come, so that the next poll waits for another. Whatever the waker wrote elsewhere
    /// before it woke is visible after this.
    pub fn drain(&mut self) {
        let mut sink = [0; 64];
        loop {
            match self.0.read(&mut sink) {
                Ok(n) if n == sink.len() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}

impl AsRawFd for Wakeable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(wakeable: &Wakeable) -> bool {
        let mut items = [::zmq::PollItem::from_fd(wakeable.as_raw_fd(), ::zmq::POLLIN)];
        ::zmq::poll(&mut items, 0).unwrap() == 1
    }

    #[test]
    fn many_wakes_are_one() {
        let (waker, mut wakeable) = pair().unwrap();
        assert!(!readable(&wakeable));
        (0..1_000_000).for_each(|_| waker.wake());
        assert!(readable(&wakeable));
        wakeable.drain();
        assert!(!readable(&wakeable));
    }
}
