//! What keeps a message: rings by record rule, and last values.

use std::collections::VecDeque;

use trestle_messages::Position;
use trestle_messages::v1::Stamp;

use super::Bounds;
use super::last::LastValues;
use super::live::{Live, SegmentId};
use super::mark::Mark;
use super::ring::Ring;
use super::shelf::End;
use crate::{Message, RecordRules, Segment, SegmentBuilder};

/// A message as it is held: what several views need of it, looked up once.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pub(super) topic: &'a [u8],
    /// As rings count them.
    pub(super) bytes: u64,
    pub(super) mark: Mark,
    pub(super) segment: SegmentId,
}

impl<'a> Held<'a> {
    fn new(message: &Message<'a>, mark: Mark, segment: SegmentId) -> Self {
        Self { topic: message.topic(), bytes: message.ring_bytes(), mark, segment }
    }
}

/// Views of one sequence of messages, without the messages. The log's writer feeds them; whoever asks about the past
/// looks here.
#[derive(Debug)]
pub(super) struct Views {
    pub(super) rules: RecordRules,
    /// One for each rule, in their order.
    pub(super) rings: Vec<Ring>,
    pub(super) last: LastValues,
    pub(super) live: Live,
    /// Recorded messages that no rule here rules, newest of each segment. They stay while they are among the newest.
    unruled: VecDeque<(SegmentId, Mark)>,
    unruled_gone: Option<Mark>,
    /// 0 before the first.
    epoch: u64,
    /// The first message of the epoch has this number or a higher one.
    epoch_seq: u64,
    /// The newest recorded message, or where the sequence has come without one.
    head: Mark,
    /// Up to here a part of the sequence is missing.
    whole: Mark,
    /// The number of the newest gap that is no longer among the newest.
    gap_gone_seq: u64,
    /// The sequence has come so far elsewhere: a clone's origin said so.
    pub(super) promised_offset: u64,
    next_seq: u64,
}

impl Views {
    pub(super) fn new(next_seq: u64) -> Self {
        Self {
            rules: RecordRules::nothing(),
            rings: Vec::new(),
            last: LastValues::default(),
            live: Live::default(),
            unruled: VecDeque::new(),
            unruled_gone: None,
            epoch: 0,
            epoch_seq: 0,
            head: Mark::default(),
            whole: Mark::default(),
            gap_gone_seq: 0,
            promised_offset: 0,
            next_seq,
        }
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        (self.epoch != 0).then_some(self.epoch)
    }

    pub(super) fn epoch_seq(&self) -> u64 {
        self.epoch_seq
    }

    pub(super) fn head(&self) -> Mark {
        self.head
    }

    pub(super) fn whole(&self) -> Mark {
        self.whole
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub(super) fn gap_gone_seq(&self) -> u64 {
        self.gap_gone_seq
    }

    pub(super) fn end(&self) -> End {
        End { next_seq: self.next_seq, position: self.position() }
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.epoch().map(|epoch| Position { epoch, offset: self.head.offset })
    }

    /// The numbers of the gathered messages, where they are not simply the next ones: missing offsets have theirs, too.
    pub(super) fn numbers(&self, batch: &SegmentBuilder) -> Option<Vec<u64>> {
        let (epoch, mut offset) = (self.epoch, self.head.offset);
        let is_next = |stamp: &Stamp| {
            let before =
                if stamp.offset == 0 { offset } else { std::mem::replace(&mut offset, stamp.offset) };
            stamp.offset == 0 || (stamp.epoch == epoch && stamp.offset == before.wrapping_add(1))
        };
        if batch.stamps().all(is_next) {
            return None;
        }
        let (mut epoch, mut head, mut next) = (self.epoch, self.head, self.next_seq);
        let numbers = batch.stamps().map(|stamp| {
            if stamp.offset != 0 {
                next += if stamp.epoch == epoch { head.skipped(stamp.offset) } else { 0 };
                let rises = stamp.epoch != epoch || stamp.offset > head.offset;
                head.offset = if rises { stamp.offset } else { head.offset };
                epoch = stamp.epoch;
            }
            next += 1;
            next - 1
        });
        Some(numbers.collect())
    }

    /// A segment comes to the end of the log. Where there are too many last values with that of a message, `bound` is called
    /// with its number at once: logs that get the same in other batches keep the same.
    pub(super) fn enter(
        &mut self,
        segment: &Segment,
        id: SegmentId,
        bounds: &Bounds,
        bound: impl Fn(&mut Self, u64),
    ) {
        for message in segment.messages() {
            let Some(position) = message.position() else { continue };
            let mark = Mark { offset: position.offset, seq: message.seq() };
            if position.epoch != self.epoch {
                self.begin_epoch(position.epoch, Mark { offset: mark.offset - 1, seq: mark.seq - 1 });
            }
            self.come_to(mark);
            let held = Held::new(&message, mark, id);
            self.hold_by_rule(&message, &held);
            self.last.update(&message, &held, &mut self.live);
            if self.last.is_beyond(bounds) {
                bound(self, mark.seq);
            }
        }
        self.next_seq = segment.end_seq();
    }

    /// A recorded message of this epoch is kept by its rule's ring, if it has a rule.
    fn hold_by_rule(&mut self, message: &Message<'_>, held: &Held<'_>) {
        match self.rules.ruling_index(held.topic) {
            Some(rule) => self.rings[rule].enter(held, message.time_unix_ns(), &mut self.live),
            None if self.unruled_gone.is_some_and(|gone| held.mark.offset <= gone.offset) => {}
            None => match self.unruled.back_mut().filter(|last| last.0 == held.segment) {
                Some(last) => last.1 = held.mark,
                None => self.unruled.push_back((held.segment, held.mark)),
            },
        }
    }

    /// The sequence has come to `mark`.
    fn come_to(&mut self, mark: Mark) {
        if mark.offset <= self.head.offset {
            return;
        }
        if self.promised_offset > self.head.offset {
            self.place_gone(mark);
        }
        self.head = mark;
    }

    /// What a clone's rings never had ends somewhere before `mark`, or behind it.
    fn place_gone(&mut self, mark: Mark) {
        let head = self.head;
        for ring in self.rings.iter_mut().filter(|ring| ring.gone_offset() > head.offset) {
            let gone = ring.gone_offset();
            ring.place_gone(if gone < mark.offset { head.at(gone) } else { mark.at(gone) });
        }
    }

    /// The sequence begins anew, behind `mark`: nothing of what came before is kept.
    pub(super) fn begin_epoch(&mut self, epoch: u64, mark: Mark) {
        for (ring, rule) in self.rings.iter_mut().zip(self.rules.iter()) {
            ring.clear(&mut self.live);
            *ring = Ring::new(rule, None);
        }
        self.last.clear(&mut self.live);
        self.unruled.clear();
        self.unruled_gone = None;
        (self.epoch, self.epoch_seq, self.head, self.whole) = (epoch, mark.seq + 1, mark, mark);
        self.promised_offset = 0;
    }

    /// The sequence has come to `position` without a message: it has a number there, which is returned, but no message.
    pub(super) fn skip_to(&mut self, position: Position) -> u64 {
        let is_new = position.epoch != self.epoch;
        let skipped = if is_new { 0 } else { self.head.skipped(position.offset) };
        let mark = Mark { offset: position.offset, seq: self.next_seq + skipped };
        self.next_seq = mark.seq + 1;
        if is_new {
            self.begin_epoch(position.epoch, mark);
        } else {
            self.come_to(mark);
            self.head.seq = mark.seq;
            self.whole = self.head;
        }
        mark.seq
    }

    /// A segment is no longer among the newest.
    pub(super) fn pass_on(&mut self, segment: &Segment) {
        while let Some((_, mark)) = self.unruled.pop_front_if(|(_, mark)| mark.seq < segment.end_seq()) {
            self.unruled_gone = Some(mark);
        }
        if segment.gap().is_some() {
            self.gap_gone_seq = segment.first_seq();
        }
    }

    /// The newest message that any ring has let go which a subscription of `topic` may want.
    pub(super) fn gone(&self, topic: &[u8], exact: bool) -> Option<Mark> {
        let ruling = self.rules.ruling_index(topic);
        let unruled = self.unruled_gone.filter(|_| ruling.is_none());
        let deeper = |rule: &[u8]| !exact && rule.len() > topic.len() && rule.starts_with(topic);
        let rules = self.rules.iter().zip(&self.rings).enumerate();
        let rings = rules.filter(|(nth, (rule, _))| Some(*nth) == ruling || deeper(&rule.prefix));
        rings.filter_map(|(_, (_, ring))| ring.gone()).chain(unruled).max_by_key(|mark| mark.seq)
    }

    /// Offsets of which the number is known though the message may not be there.
    pub(super) fn marks(&self) -> impl Iterator<Item = Mark> {
        let known = [self.whole, self.head].into_iter().chain(self.unruled_gone);
        known.chain(self.rings.iter().filter_map(Ring::gone))
    }

    /// Whether a ring or a last value needs `message`.
    pub(super) fn needs(&self, message: &Message<'_>) -> bool {
        let seq = message.seq();
        message.position().is_some_and(|at| at.epoch == self.epoch)
            && (self.is_in_ring(message) || self.last.is_last(message.topic(), seq))
    }

    pub(super) fn is_in_ring(&self, message: &Message<'_>) -> bool {
        let rule = self.rules.ruling_index(message.topic());
        rule.is_some_and(|rule| self.rings[rule].keeps(message.seq()))
    }

    /// Other rules; `segments` are all there are, and `kept` is the newest recorded message that is no longer among the
    /// newest.
    pub(super) fn record<'a>(
        &mut self,
        rules: RecordRules,
        segments: impl Iterator<Item = (&'a Segment, SegmentId)>,
        kept: Option<Mark>,
    ) {
        let rings = rules.iter().map(|rule| Ring::new(rule, self.gone(&rule.prefix, false))).collect();
        let kept = kept.filter(|mark| mark.seq >= self.epoch_seq);
        self.unruled_gone = self.gone(b"", false).into_iter().chain(kept).max_by_key(|mark| mark.seq);
        self.unruled.clear();
        for ring in &mut self.rings {
            ring.clear(&mut self.live);
        }
        (self.rules, self.rings) = (rules, rings);
        for (segment, id) in segments {
            for message in segment.messages_from(self.epoch_seq) {
                if let Some(position) = message.position().filter(|at| at.epoch == self.epoch) {
                    let mark = Mark { offset: position.offset, seq: message.seq() };
                    self.hold_by_rule(&message, &Held::new(&message, mark, id));
                }
            }
        }
    }
}
