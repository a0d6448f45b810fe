//! The history of one record rule: which messages it keeps, in bytes and age.

use std::collections::VecDeque;

use super::bounds::nanos;
use super::live::{Live, SegmentId};
use super::mark::Mark;
use super::views::Held;
use crate::{Message, RecordRule};

/// A rule's newest messages: an unbroken run at the end of all that the rule rules. The messages are in the log's segments;
/// here is only how much of each segment belongs to it.
#[derive(Debug)]
pub(super) struct Ring {
    bytes_max: u64,
    age_ns_max: u64,
    parts: VecDeque<Part>,
    bytes: u64,
    /// The newest message that it has let go.
    gone: Option<Mark>,
}

/// What it keeps of one segment.
#[derive(Debug)]
struct Part {
    segment: SegmentId,
    last: Mark,
    bytes: u64,
    oldest_unix_ns: u64,
}

impl Ring {
    /// An empty ring whose messages up to `gone` are not here.
    pub(super) fn new(rule: &RecordRule, gone: Option<Mark>) -> Self {
        let age_ns_max = nanos(rule.age_max);
        Self { bytes_max: rule.bytes_max, age_ns_max, parts: VecDeque::new(), bytes: 0, gone }
    }

    pub(super) fn gone(&self) -> Option<Mark> {
        self.gone
    }

    /// The number of the newest message that it has let go; 0 if it has all.
    pub(super) fn gone_seq(&self) -> u64 {
        self.gone.map_or(0, |gone| gone.seq)
    }

    /// The offset of that message.
    pub(super) fn gone_offset(&self) -> u64 {
        self.gone.map_or(0, |gone| gone.offset)
    }

    /// Whether a message of its rule is still in it.
    pub(super) fn keeps(&self, seq: u64) -> bool {
        seq > self.gone_seq()
    }

    /// A message of its rule comes, which entered at `time_unix_ns`.
    pub(super) fn enter(&mut self, held: &Held<'_>, time_unix_ns: u64, live: &mut Live) {
        let Held { bytes, mark, segment, .. } = *held;
        if mark.offset <= self.gone_offset() {
            return;
        }
        self.bytes += bytes;
        live.hold_for_ring(segment, bytes);
        match self.parts.back_mut().filter(|part| part.segment == segment) {
            Some(part) => {
                part.last = mark;
                part.bytes += bytes;
                part.oldest_unix_ns = part.oldest_unix_ns.min(time_unix_ns);
            }
            None => self.parts.push_back(Part { segment, last: mark, bytes, oldest_unix_ns: time_unix_ns }),
        }
    }

    /// Messages that entered before this are too old at `now`.
    pub(super) fn cutoff(&self, now_unix_ns: u64) -> u64 {
        now_unix_ns.saturating_sub(self.age_ns_max)
    }

    /// Whether it has more bytes than it may.
    pub(super) fn is_too_large(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Lets go what it has too many bytes of, as far as that is whole segments.
    pub(super) fn drop_excess(&mut self, live: &mut Live) {
        while let Some(front) = self.parts.front() {
            if front.bytes > self.bytes.saturating_sub(self.bytes_max) {
                break;
            }
            self.drop_front(live);
        }
    }

    /// Lets go all before the segment that has the newest message from before `cutoff`: whatever came before that is let go
    /// with it, also what a clock that was ahead has stamped. Returns whether there is one.
    pub(super) fn drop_older(&mut self, cutoff: u64, live: &mut Live) -> bool {
        let Some(last) = self.parts.iter().rposition(|part| part.oldest_unix_ns < cutoff) else {
            return false;
        };
        (0..last).for_each(|_| self.drop_front(live));
        true
    }

    /// Lets go all up to `offset`, as far as that is whole segments.
    pub(super) fn drop_parts_to(&mut self, offset: u64, live: &mut Live) {
        while self.parts.front().is_some_and(|front| front.last.offset <= offset) {
            self.drop_front(live);
        }
    }

    fn drop_front(&mut self, live: &mut Live) {
        let front = self.parts.pop_front().expect("it was looked at");
        self.bytes -= front.bytes;
        live.release_by_ring(front.segment, front.bytes);
        self.gone = Some(front.last);
    }

    /// Nothing is in it any more.
    pub(super) fn clear(&mut self, live: &mut Live) {
        for part in self.parts.drain(..) {
            live.release_by_ring(part.segment, part.bytes);
        }
        self.bytes = 0;
    }

    /// A number at or before its first message.
    pub(super) fn first_seq(&self) -> u64 {
        self.gone_seq() + 1
    }

    /// The number of the last message of its first segment.
    pub(super) fn front_seq(&self) -> Option<u64> {
        self.parts.front().map(|front| front.last.seq)
    }

    /// Lets go its first message. Returns whether that was the last one of its segment.
    pub(super) fn drop_first(&mut self, message: &Message<'_>, mark: Mark, live: &mut Live) -> bool {
        let bytes = message.ring_bytes();
        let front = self.parts.front_mut().expect("the message is in it");
        front.bytes -= bytes;
        self.bytes -= bytes;
        live.release_by_ring(front.segment, bytes);
        if mark.offset > self.gone_offset() {
            self.gone = Some(mark);
        }
        let is_last = self.parts.front().is_some_and(|front| front.bytes == 0);
        if is_last {
            self.parts.pop_front();
        }
        is_last
    }

    /// It is known by now where what it never had ends.
    pub(super) fn place_gone(&mut self, mark: Mark) {
        self.gone = Some(mark);
    }

    /// What it keeps of the messages `first..end` is now in one segment.
    pub(super) fn move_parts(&mut self, first: u64, end: u64, segment: SegmentId, live: &mut Live) {
        let at = |seq| move |part: &Part| part.last.seq < seq;
        let parts = self.parts.partition_point(at(first))..self.parts.partition_point(at(end));
        let Some(last) = parts.clone().last() else { return };
        let moved = Part {
            segment,
            last: self.parts[last].last,
            bytes: self.parts.range(parts.clone()).map(|part| part.bytes).sum(),
            oldest_unix_ns: self
                .parts
                .range(parts.clone())
                .map(|part| part.oldest_unix_ns)
                .min()
                .unwrap_or(0),
        };
        live.hold_for_ring(segment, moved.bytes);
        self.parts[parts.start] = moved;
        self.parts.drain(parts.start + 1..parts.end);
    }
}
