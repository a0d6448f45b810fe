//! What the ingest thread tells the rest of the process about its upstream.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use trestle_recorder::{FollowerCounts, RecordRules};

use crate::tally::Tally;

/// State and counters of the upstream; the ingest thread writes, metrics, readiness and control read.
#[derive(Debug, Default)]
pub struct Upstream {
    ready: AtomicBool,
    stale: AtomicBool,
    /// Locked to copy the rules in or out, which is seldom: readers look at the version first.
    rules: Mutex<RecordRules>,
    rules_version: AtomicU64,
    /// The epoch followed; 0 before the first.
    pub epoch: Tally,
    /// The newest offset of that epoch.
    pub head: Tally,
    /// Messages appended to the log.
    pub messages: Tally,
    /// Bytes of their frames.
    pub bytes: Tally,
    /// Messages that never came, neither on the link nor by a replay.
    pub missing: Tally,
    /// Messages that their publisher's own counter says never came to us.
    pub unsent: Tally,
    /// Places where messages were missing on the link.
    pub holes: Tally,
    /// Parts of the sequence that never came.
    pub gaps: Tally,
    /// Messages that were missing on the link and came by a replay.
    pub repaired: Tally,
    /// Messages that came by a replay because they were recorded before this edge came.
    pub cloned: Tally,
    /// Replays asked for.
    pub replays: Tally,
    /// Messages and beats of a second forwarder on the link.
    pub foreign: Tally,
    /// Messages dropped because they had no stamp or another than a forwarder makes.
    pub malformed: Tally,
    /// Messages dropped because all their frames together were too large.
    pub too_large: Tally,
    /// Messages dropped because their topic is reserved.
    pub reserved: Tally,
    /// Times that the sequence went on in another epoch.
    pub epoch_changes: Tally,
    /// Connections that stood, the first of each endpoint included.
    pub connects: Tally,
    /// Connections that ended or failed.
    pub disconnects: Tally,
    /// Of those, the ones that we cut: a frame over the limit, or no ØMQ.
    pub cuts: Tally,
    /// Connections that stand now.
    pub standing: Tally,
    /// Prefixes subscribed upward now.
    pub prefixes: Tally,
    /// Prefixes wanted now that come by a shorter one, because there are too many.
    pub prefixes_joined: Tally,
}

impl Upstream {
    /// Whether the edge can serve browsers. Latched: on a link when all that its recorder keeps is here, without one at the
    /// first beat; at once on sources.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether the upstream is silent: three beats of the link missed, or no source connected. What there is is served on.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// What is recorded, as far as is known; nothing before the first beat of a link.
    pub fn rules(&self) -> RecordRules {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rises with each change of [`rules`](Self::rules); 0 before they are known.
    pub fn rules_version(&self) -> u64 {
        self.rules_version.load(Ordering::Acquire)
    }

    pub(super) fn set_rules(&self, rules: RecordRules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
        self.rules_version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(super) fn count(&self, counts: &FollowerCounts) {
        let FollowerCounts { holes, gaps, repaired, missing, cloned, replays, epoch_changes, foreign } =
            *counts;
        self.holes.set(holes);
        self.gaps.set(gaps);
        self.repaired.set(repaired);
        self.missing.set(missing);
        self.cloned.set(cloned);
        self.replays.set(replays);
        self.epoch_changes.set(epoch_changes);
        self.foreign.set(foreign);
    }

    pub(super) fn set_stale(&self, stale: bool) {
        self.stale.store(stale, Ordering::Relaxed);
    }
}
