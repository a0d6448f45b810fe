//! How shards tell the ingest thread what their sessions want.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use trestle_process::wake::Waker;

/// One session more, or one less, wants the topics that begin with a prefix.
#[derive(Debug)]
pub(super) enum Want {
    Add(Box<[u8]>),
    Remove(Box<[u8]>),
}

/// The shards' end. Wants are counted over all senders: each [`add`](Self::add) needs one [`remove`](Self::remove), and
/// those of one sender keep their order.
#[derive(Debug, Clone)]
pub struct InterestSender {
    // Unbounded, because a shard must not wait: it reads nothing more from clients while it [is full](Self::is_full).
    wants: mpsc::Sender<Want>,
    signal: Arc<Signal>,
}

/// While more than this waits, clients that subscribe and leave faster than it is taken are not read: a megabyte.
const WAITING_MAX: usize = 10_000;

/// Wants taken at once: a few milliseconds' worth.
const WANTS_MAX: usize = 2_000;

/// The ingest thread's end.
#[derive(Debug)]
pub(super) struct InterestReceiver {
    wants: mpsc::Receiver<Want>,
    signal: Arc<Signal>,
}

#[derive(Debug)]
struct Signal {
    waker: Waker,
    /// A wake is under way: the many wants of a storm cost one system call, not one each.
    woken: AtomicBool,
    /// Wants that were not taken.
    waiting: AtomicUsize,
}

pub(super) fn channel(waker: Waker) -> (InterestSender, InterestReceiver) {
    let (sender, receiver) = mpsc::channel();
    let signal = Arc::new(Signal { waker, woken: AtomicBool::new(false), waiting: AtomicUsize::new(0) });
    let receiver = InterestReceiver { wants: receiver, signal: Arc::clone(&signal) };
    (InterestSender { wants: sender, signal }, receiver)
}

impl InterestSender {
    /// One more wants topics that begin with `prefix`. Returns at once; the first want of an unrecorded prefix travels to
    /// the publishers.
    pub fn add(&self, prefix: &[u8]) {
        self.send(Want::Add(prefix.into()));
    }

    /// Takes one [`add`](Self::add) back.
    pub fn remove(&self, prefix: &[u8]) {
        self.send(Want::Remove(prefix.into()));
    }

    /// Whether more waits than is taken soon.
    pub fn is_full(&self) -> bool {
        self.signal.waiting.load(Ordering::Relaxed) > WAITING_MAX
    }

    fn send(&self, want: Want) {
        self.signal.waiting.fetch_add(1, Ordering::Relaxed);

        // After shutdown nobody wants anything.
        if self.wants.send(want).is_ok() && !self.signal.woken.swap(true, Ordering::AcqRel) {
            self.signal.waker.wake();
        }
    }
}

impl InterestReceiver {
    /// The wants that have come, in order, so many at most that messages do not wait long for them. Whatever is left or
    /// comes later wakes again.
    pub(super) fn drain(&self) -> Vec<Want> {
        // A swap and not a store: it sees what was sent before the flag was set, or the sender sees it cleared and wakes.
        self.signal.woken.swap(false, Ordering::AcqRel);
        let wants: Vec<_> = self.wants.try_iter().take(WANTS_MAX).collect();
        self.signal.waiting.fetch_sub(wants.len(), Ordering::Relaxed);
        if wants.len() == WANTS_MAX && !self.signal.woken.swap(true, Ordering::AcqRel) {
            self.signal.waker.wake();
        }
        wants
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use trestle_process::wake;
    use zmq::{POLLIN, PollItem, poll};

    use super::*;

    #[test]
    fn a_storm_of_wants_is_taken_bit_by_bit() {
        // It was taken whole, and messages waited for a third of a second.
        let (waker, mut wakeable) = wake::pair().unwrap();
        let (sender, receiver) = channel(waker);
        (0..2 * WANTS_MAX + 1).for_each(|_| sender.add(b"x"));
        assert!(!sender.is_full());
        let mut taken = Vec::new();
        while poll(&mut [PollItem::from_fd(wakeable.as_raw_fd(), POLLIN)], 0).unwrap() == 1 {
            wakeable.drain();
            taken.push(receiver.drain().len());
        }
        assert_eq!(taken, [WANTS_MAX, WANTS_MAX, 1]);
        (0..=WAITING_MAX).for_each(|_| sender.remove(b"x"));
        assert!(sender.is_full());
        receiver.drain();
        assert!(!sender.is_full());
    }
}
