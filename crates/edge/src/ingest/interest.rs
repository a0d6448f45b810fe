//! How shards tell the ingest thread what their sessions want.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    // Unbounded, because a shard must not wait; the sessions' own limits bound what is in it.
    wants: mpsc::Sender<Want>,
    signal: Arc<Signal>,
}

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
}

pub(super) fn channel(waker: Waker) -> (InterestSender, InterestReceiver) {
    let (sender, receiver) = mpsc::channel();
    let signal = Arc::new(Signal { waker, woken: AtomicBool::new(false) });
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

    fn send(&self, want: Want) {
        // After shutdown nobody wants anything.
        if self.wants.send(want).is_ok() && !self.signal.woken.swap(true, Ordering::AcqRel) {
            self.signal.waker.wake();
        }
    }
}

impl InterestReceiver {
    /// All wants that have come, in order. Whatever comes later wakes again.
    pub(super) fn drain(&self) -> impl Iterator<Item = Want> {
        // A swap and not a store: it sees what was sent before the flag was set, or the sender sees it cleared and wakes.
        self.signal.woken.swap(false, Ordering::AcqRel);
        self.wants.try_iter()
    }
}
