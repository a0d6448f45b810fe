//! What goes because a ring or the last values have reached their bounds.

use super::bounds::nanos;
use super::mark::Mark;
use super::views::Views;
use super::{Bounds, Log};
use crate::Message;

/// Segments that are held at once while they are looked through.
const SEGMENTS_MAX: usize = 16;

impl Log {
    /// Each ring lets go exactly what is beyond its bounds; with `now`, what is too old, too.
    pub(super) fn trim_rings(&self, views: &mut Views, now_unix_ns: Option<u64>) {
        for rule in 0..views.rings.len() {
            let ring = &mut views.rings[rule];
            let cutoff = now_unix_ns.map_or(0, |now| ring.cutoff(now));
            loop {
                let ring = &mut views.rings[rule];
                ring.drop_parts(cutoff, &mut views.live);
                if cutoff == 0 && !ring.is_beyond(u64::MAX, 0) {
                    break;
                }
                if !self.trim_front(views, rule, |ring, message, _| {
                    ring.is_beyond(message.time_unix_ns(), cutoff)
                }) {
                    break;
                }
            }
        }
    }

    /// Looks through the first segment that `rule`'s ring has a part of, and lets go its messages one by one while `goes`.
    /// Returns whether all of that part went.
    pub(super) fn trim_front(
        &self,
        views: &mut Views,
        rule: usize,
        goes: impl Fn(&super::ring::Ring, &Message<'_>, Mark) -> bool,
    ) -> bool {
        let Views { rules, rings, live, .. } = views;
        let ring = &mut rings[rule];
        let Some(seq) = ring.front_seq() else { return false };
        let Some(segment) = self.shelf().segments_from(seq).next().map(|shelved| shelved.segment.clone())
        else {
            return false;
        };
        for message in segment.messages_from(ring.first_seq()) {
            let Some(position) = message.position() else { continue };
            if rules.ruling_index(message.topic()) != Some(rule) {
                continue;
            }
            let mark = Mark { offset: position.offset, seq: message.seq() };
            if !goes(ring, &message, mark) {
                return false;
            }
            if ring.drop_first(&message, mark, live) {
                return true;
            }
        }
        false
    }

    /// Last values that are beyond their bounds go, the least recently updated first; with `now`, those that are too old,
    /// too.
    pub(super) fn trim_last_values(&self, views: &mut Views, now_unix_ns: Option<u64>) {
        let Bounds { last_values_max, last_values_bytes_max, last_value_age_max, .. } = self.bounds;
        let cutoff = now_unix_ns.map_or(0, |now| now.saturating_sub(nanos(last_value_age_max)));
        let are_beyond =
            |views: &Views| views.last.len() > last_values_max || views.last.bytes() > last_values_bytes_max;
        if cutoff > 0 || are_beyond(views) {
            self.expire_while(views, |views, message| are_beyond(views) || message.time_unix_ns() < cutoff);
        }
    }

    /// Last values go, the least recently updated first, while `goes`.
    pub(super) fn expire_while(&self, views: &mut Views, goes: impl Fn(&Views, &Message<'_>) -> bool) {
        loop {
            let from = views.last.sought_seq();
            let found: Vec<_> = self.shelf().segments_from(from).take(SEGMENTS_MAX).cloned().collect();
            if found.is_empty() {
                return;
            }
            for shelved in &found {
                if views.live.has_last(shelved.id) {
                    for message in shelved.segment.messages_from(views.last.sought_seq()) {
                        if views.last.is_last(message.topic(), message.seq()) {
                            if !goes(views, &message) {
                                return;
                            }
                            views.last.expire(&message, &mut views.live);
                        }
                        views.last.set_sought_seq(message.seq() + 1);
                    }
                }
                views.last.set_sought_seq(shelved.segment.end_seq());
            }
        }
    }
}
