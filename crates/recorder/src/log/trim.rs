//! What goes because a ring or the last values have reached their bounds.

use super::Log;
use std::sync::Arc;

use super::bounds::nanos;
use super::live::SegmentId;
use super::mark::Mark;
use super::ring::Ring;
use super::shelf::Shelved;
use super::views::Views;
use crate::{Message, RecordRules, Segment};

impl Log {
    /// Each ring lets go exactly what it has too many bytes of.
    pub(super) fn trim_rings(&self, views: &mut Views) {
        for rule in 0..views.rings.len() {
            let ring = &mut views.rings[rule];
            ring.drop_excess(&mut views.live);
            if ring.is_too_large() {
                self.trim_front(views, rule, |ring, _| ring.is_too_large());
            }
        }
    }

    /// Each ring lets go exactly what is too old at `now_unix_ns`, and what came before that.
    pub(super) fn expire_rings(&self, views: &mut Views, now_unix_ns: u64) {
        for rule in 0..views.rings.len() {
            let ring = &mut views.rings[rule];
            let cutoff = ring.cutoff(now_unix_ns);
            if !ring.drop_older(cutoff, &mut views.live) {
                continue;
            }
            let ring = &views.rings[rule];
            let Some(segment) = self.front_segment(ring) else { continue };
            let messages = ruled(&segment, ring.first_seq(), &views.rules, rule);
            let old = messages.filter(|(message, _)| message.time_unix_ns() < cutoff);
            let last = old.map(|(_, mark)| mark.seq).last().unwrap_or(0);
            self.trim_front(views, rule, |_, mark| mark.seq <= last);
        }
    }

    /// The first segment that a ring has a part of.
    fn front_segment(&self, ring: &Ring) -> Option<Arc<Segment>> {
        let seq = ring.front_seq()?;
        self.shelf().segments_from(seq).next().map(|shelved| Arc::clone(&shelved.segment))
    }

    /// Lets go the messages that `rule`'s ring has of its first segment, one by one while `goes`.
    pub(super) fn trim_front(&self, views: &mut Views, rule: usize, goes: impl Fn(&Ring, Mark) -> bool) {
        let Views { rules, rings, live, .. } = views;
        let ring = &mut rings[rule];
        let Some(segment) = self.front_segment(ring) else { return };
        for (message, mark) in ruled(&segment, ring.first_seq(), rules, rule) {
            if !goes(ring, mark) || ring.drop_first(&message, mark, live) {
                return;
            }
        }
    }

    /// There are more last values than there may be, with the one of message `seq` of `segment`, which is not on the shelf
    /// yet: the least recently updated go.
    #[cold]
    pub(super) fn bound_last_values(&self, views: &mut Views, segment: &Segment, id: SegmentId, seq: u64) {
        let goes = |views: &Views, _: &Message<'_>| views.last.is_beyond(&self.bounds);
        self.expire_while(views, goes);
        if views.last.is_beyond(&self.bounds) {
            expire_in(views, segment, id, seq, goes);
        }
    }

    /// Last values that are too old go.
    pub(super) fn expire_last_values(&self, views: &mut Views, now_unix_ns: u64) {
        let cutoff = now_unix_ns.saturating_sub(nanos(self.bounds.last_value_age_max));
        self.expire_while(views, |_, message| message.time_unix_ns() < cutoff);
    }

    /// Last values go, the least recently updated first, while `goes`.
    pub(super) fn expire_while(&self, views: &mut Views, goes: impl Fn(&Views, &Message<'_>) -> bool) {
        let next = |views: &Views| self.shelf().segments_from(views.last.sought_seq()).next().cloned();
        while let Some(Shelved { segment, id, .. }) = next(views) {
            if !expire_in(views, &segment, id, u64::MAX, &goes) {
                return;
            }
            views.last.seek(segment.end_seq());
        }
    }
}

/// The recorded messages of `segment` that `rule` rules, from number `seq` on.
fn ruled<'a>(
    segment: &'a Segment,
    seq: u64,
    rules: &'a RecordRules,
    rule: usize,
) -> impl Iterator<Item = (Message<'a>, Mark)> {
    let messages = segment.messages_from(seq).filter_map(|message| {
        let mark = Mark { offset: message.position()?.offset, seq: message.seq() };
        Some((message, mark))
    });
    messages.filter(move |(message, _)| rules.ruling_index(message.topic()) == Some(rule))
}

/// Last values of `segment` up to message `until` go while `goes`. Returns whether all did.
fn expire_in(
    views: &mut Views,
    segment: &Segment,
    id: SegmentId,
    until: u64,
    goes: impl Fn(&Views, &Message<'_>) -> bool,
) -> bool {
    if !views.live.has_last(id) {
        return true;
    }
    for message in segment.messages_from(views.last.sought_seq()).take_while(|m| m.seq() <= until) {
        if views.last.is_last(message.topic(), message.seq()) {
            if !goes(views, &message) {
                return false;
            }
            views.last.expire(&message, &mut views.live);
        }
        views.last.seek(message.seq() + 1);
    }
    true
}
