//! Heartbeats before their time, where history passes faster than they come: a client of a quiet topic would otherwise come
//! back with a position that is no longer held.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Hub, SessionId};
use crate::encode::Format;
use crate::session::Phase;

/// Between looks. A ring that passes faster than this is too small to come back to.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How far history has passed, by rule.
#[derive(Debug, Default)]
pub(super) struct Passing {
    rings: Vec<Ring>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Ring {
    prefix: Box<[u8]>,
    /// The oldest message it had.
    complete_from: u64,
    /// The head when its clients were told last.
    told: u64,
}

impl Hub {
    /// The rules are others.
    pub(super) fn watch_rings(&mut self) {
        let (log, told) = (&self.log, self.routed);
        let ring = |prefix: &[u8]| Ring {
            prefix: prefix.into(),
            complete_from: log.complete_from(prefix, false),
            told,
        };
        self.passing.rings = self.rules.iter().map(|rule| ring(&rule.prefix)).collect();
    }

    /// Where half of a ring has passed since its clients were told how far they are, they are told again.
    pub(super) fn beat_early(&mut self, heartbeats: &[Bytes; Format::ALL.len()]) {
        if self.passing.looked.is_some_and(|looked| self.now < looked + LOOK_INTERVAL) {
            return;
        }
        self.passing.looked = Some(self.now);
        let (log, routed) = (&self.log, self.routed);
        let passed = self.passing.rings.iter_mut().filter_map(|ring| {
            let before = std::mem::replace(&mut ring.complete_from, log.complete_from(&ring.prefix, false));
            let held = routed.saturating_sub(ring.complete_from);
            let has_passed = ring.complete_from > before && routed - ring.told > held / 2;
            has_passed.then(|| {
                ring.told = routed;
                ring.prefix.clone()
            })
        });
        let passed: Vec<_> = passed.collect();
        if passed.is_empty() {
            return;
        }
        let concerned = self.sessions.iter().filter(|(_, session)| {
            let covers = |prefix: &[u8]| {
                let mut held = session.subscriptions.iter();
                held.any(|held| held.topic.starts_with(prefix) || held.wants(prefix))
            };
            session.phase == Phase::Open
                && session.protocol.is_told()
                && passed.iter().any(|prefix| covers(prefix))
        });
        let ids: Vec<_> = concerned.map(|(index, session)| (index as SessionId, session.protocol)).collect();
        for (id, protocol) in ids {
            self.push_heartbeat(id, &heartbeats[protocol.format() as usize], false);
        }
    }
}
