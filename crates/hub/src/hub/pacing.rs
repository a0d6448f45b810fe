//! When `max_hz` lets go of what it holds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use trestle_recorder::Message;

use super::place::Kinds;
use super::{Hub, SessionId};
use crate::backlog::{Backlog, Waiting, What};
use crate::encode::{self, Policy};
use crate::pace::Held;
use crate::session::deciding;

/// Sessions that hold something, by the time when it is due. There may be more times than needed, never fewer.
#[derive(Debug, Default)]
pub(super) struct Dues {
    heap: BinaryHeap<Reverse<(Instant, SessionId, u32)>>,
}

impl Dues {
    pub(super) fn add(&mut self, at: Instant, id: SessionId, generation: u32) {
        let due = Reverse((at, id, generation));
        if self.heap.peek() != Some(&due) {
            self.heap.push(due);
        }
    }
}

impl Hub {
    /// When [`release`](Self::release) has something to do.
    pub fn next_release(&self) -> Option<Instant> {
        self.dues.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Lets go of what `max_hz` held until `now`. Then the sessions of [`take_dirty`](Self::take_dirty) are to be visited.
    pub fn release(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some(Reverse((at, id, generation))) = self.dues.heap.peek().copied() {
            if at > self.now {
                break;
            }
            self.dues.heap.pop();
            if self.sessions.get(id as usize).is_some_and(|session| session.generation == generation) {
                self.release_due(id);
            }
        }
    }

    /// `max_hz` holds a message until it is time.
    pub(super) fn hold(&mut self, id: SessionId, message: &Message<'_>) {
        let format = Kinds::format(self.places[id as usize].kind);
        let session = &mut self.sessions[id as usize];
        let held = deciding(&session.subscriptions, message.topic(), message.seq());
        let is_limited = held.is_some_and(|held| !held.interval.is_zero());
        let frame = encode::frame(message, format, &self.decoders).clone();
        let held = Held { topic: message.topic().into(), frame, position: message.position() };
        let pace = session.pace.as_mut().expect("it is concerned");
        let (due, has_replaced) = pace.hold(message.seq(), held, is_limited);
        self.counts.conflated += u64::from(has_replaced);
        if self.sessions[id as usize]
            .pace
            .as_ref()
            .is_some_and(|pace| pace.bytes() > self.limits.outbox_bytes_max)
        {
            return self.close_slow(id);
        }
        self.dues.add(due, id, self.sessions[id as usize].generation);
    }

    /// Lets go of what is due, unless the client is behind already: then it waits where a newer one replaces it.
    fn release_due(&mut self, id: SessionId) {
        let now = self.now;
        let session = &mut self.sessions[id as usize];
        let waits = |backlog: &Backlog| backlog.is_blocked || backlog.catches_up;
        let has_to_wait = session.backlog.as_deref().is_some_and(waits);
        let Some(pace) = session.pace.as_mut().filter(|_| !has_to_wait) else { return };
        let due = pace.release(now);
        self.push_held(id, due);
        self.schedule(id);
    }

    /// Sees to it that what a session still holds is let go of in its time.
    pub(super) fn schedule(&mut self, id: SessionId) {
        let session = &self.sessions[id as usize];
        if let Some(due) = session.pace.as_ref().and_then(|pace| pace.due()) {
            self.dues.add(due, id, session.generation);
        }
    }

    /// Lets go of everything: the session says no more.
    pub(super) fn release_all(&mut self, id: SessionId) {
        if let Some(mut pace) = self.sessions[id as usize].pace.take() {
            let held = pace.take_all();
            self.push_held(id, held);
        }
        self.review(id);
    }

    pub(super) fn push_held(&mut self, id: SessionId, held: Vec<(u64, Held)>) {
        self.push_held_before(id, self.routed, held);
    }

    /// The same, to go out before message `before` of the log.
    pub(super) fn push_held_before(&mut self, id: SessionId, before: u64, held: Vec<(u64, Held)>) {
        for (seq, Held { topic, frame, position }) in held {
            // From here on it is sent: what comes later is held in turn.
            let topic = self.verifier.is_some().then(|| Box::from(&*topic));
            let what = What::Event { policy: Policy::Disconnect, topic, conflates: false, seq, position };
            self.push(id, Waiting { before, frame, what });
        }
    }
}
