//! What the log has for one session that is behind.

use std::collections::VecDeque;
use std::sync::Arc;

use trestle_recorder::{Listed, Log, Message, Segment};

use crate::backlog::Ended;
use crate::session::{Due, Subscription, due};

/// Segments held at once while they are read: no more, so that reading keeps little alive that the log has dropped.
const SEGMENTS_MAX: usize = 16;
/// With more subscriptions than this a segment is not searched for each of them but read.
const SEARCHES_MAX: usize = 8;
/// Last values that are listed at once: 16 KiB, which the session keeps until it has come by them. So few in tests that they
/// often meet the end of a list.
const LISTED_MAX: usize = if cfg!(test) { 3 } else { 2048 };
/// A segment this short is read, too: a search would first have to sort it.
const SHORT_SEGMENT: usize = 4;

/// Recorded messages that a session's subscriptions match, in their order, from one of the log on.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    log: &'a Log,
    held: &'a [Subscription],
    ended: &'a [Ended],
    /// Messages before this one were looked at.
    next: u64,
    /// Messages from this one on have not been routed.
    end: u64,
    /// Before this one nothing is due but last values.
    events: u64,
    /// Those that are, as far as they were listed.
    listed: &'a mut Listed,
    segments: VecDeque<Arc<Segment>>,
    /// Of the first segment, those that may match and were not looked at, the last first.
    candidates: Vec<u32>,
    /// They are all up to this message.
    chosen: u64,
}

/// One of them, and the subscription that decides over it.
pub(crate) struct Found<'a> {
    segment: Arc<Segment>,
    index: usize,
    pub(crate) held: &'a Subscription,
    /// It belongs to a snapshot.
    pub(crate) is_snapshot: bool,
}

impl Found<'_> {
    pub(crate) fn message(&self) -> Message<'_> {
        self.segment.message(self.index)
    }
}

impl<'a> Pending<'a> {
    /// Those from message `next` to message `end` of the log. `listed` is what an earlier one has left for these
    /// subscriptions.
    pub(crate) fn new(
        log: &'a Log,
        (held, ended): (&'a [Subscription], &'a [Ended]),
        (next, end): (u64, u64),
        listed: &'a mut Listed,
    ) -> Self {
        let had = ended.iter().flat_map(|ended| ended.subscriptions.iter().map(|had| (had, ended.until)));
        let had = had.filter(|(had, until)| had.next(next) < *until).map(|(had, _)| had);
        let events = held.iter().chain(had).map(|held| held.next(next)).min().unwrap_or(end);
        let (segments, candidates) = (VecDeque::new(), Vec::new());
        Self { log, held, ended, next, end, events, listed, segments, candidates, chosen: next }
    }

    /// All before this message was looked at.
    pub(crate) fn looked_at(&self) -> u64 {
        self.next
    }

    /// The next one; `None` at the end, and before that after each `segments_max` segments that had none.
    pub(crate) fn find(&mut self, segments_max: &mut usize) -> Option<Found<'a>> {
        while self.next < self.end {
            let Some(segment) = self.segments.front() else {
                self.read();
                continue;
            };
            while let Some(index) = self.candidates.pop() {
                let message = segment.message(index as usize);
                let seq = message.seq();
                if seq >= self.end {
                    break;
                }
                self.next = seq + 1;
                if message.position().is_none() {
                    continue;
                }
                let (held, is_snapshot) = match due(self.held, self.ended, message.topic(), seq) {
                    Some(Due::Event(held)) => (held, false),
                    Some(Due::LastValue(held)) if self.log.is_last_value(&message) => (held, true),
                    _ => continue,
                };
                let (segment, index) = (Arc::clone(segment), index as usize);
                return Some(Found { segment, index, held, is_snapshot });
            }
            self.next = self.chosen.min(self.end).max(self.next);
            self.go_on();
            *segments_max = segments_max.saturating_sub(1);
            if *segments_max == 0 {
                return None;
            }
        }
        None
    }

    fn read(&mut self) {
        self.seek();
        let mut segments = Vec::new();
        let oldest = self.log.read_from(self.next, SEGMENTS_MAX, &mut segments);
        self.next = self.next.max(oldest);
        if segments.is_empty() {
            self.next = self.end;
        }
        self.segments = segments.into();
        self.go_on();
    }

    /// Goes on with the segment that has the next message which may go out.
    fn go_on(&mut self) {
        self.seek();
        while self.segments.pop_front_if(|segment| segment.end_seq() <= self.next).is_some() {}
        self.choose();
    }

    /// Passes over what nothing is due of: rings keep many messages for each last value.
    fn seek(&mut self) {
        let until = self.events.min(self.end);
        while self.next < until {
            let (log, next) = (self.log, self.next);
            let mut wanted = self.held.iter().filter(|held| held.snapshot.end > next).peekable();
            if wanted.peek().is_none() {
                self.next = until;
                return;
            }
            if !self.listed.range.contains(&next) {
                let wanted = wanted.map(|held| (&*held.topic, held.exact));
                *self.listed = log.last_values(wanted, next..self.end, LISTED_MAX);
            }
            match self.listed.first_from(next) {
                Some(seq) => {
                    self.next = seq.min(until);
                    return;
                }
                None => self.next = self.listed.range.end.min(until),
            }
        }
    }

    /// Chooses what of the first segment may match.
    fn choose(&mut self) {
        self.candidates.clear();
        let Some(segment) = self.segments.front() else { return };
        let listed_end = self.listed.range.end;
        self.chosen = segment.end_seq();
        if self.next < self.events && listed_end < self.events.min(self.chosen) {
            // What comes behind has not been listed.
            self.chosen = listed_end;
        } else {
            self.choose_events();
        }
        let segment = &self.segments[0];
        let before = self.next..self.events.min(self.chosen);
        self.candidates.extend(self.listed.within(&before).iter().rev().filter_map(|seq| {
            let index = segment.index_from(*seq);
            // It may have ceased to be one, and gone.
            let is_there = index < segment.len() && segment.message(index).seq() == *seq;
            is_there.then(|| u32::try_from(index).expect("a segment has less than 2^32 messages"))
        }));
    }

    /// Chooses what of the first segment may be more than a last value.
    fn choose_events(&mut self) {
        let segment = &self.segments[0];
        let next = self.next.max(self.events);
        let index = |index| u32::try_from(index).expect("a segment has less than 2^32 messages");
        let (skip, len) = (index(segment.index_from(next)), index(segment.len()));
        let n_ended: usize = self.ended.iter().map(|ended| ended.subscriptions.len()).sum();
        if segment.len() <= SHORT_SEGMENT || self.held.len() + n_ended > SEARCHES_MAX {
            self.candidates.extend((skip..len).rev());
            return;
        }
        let ended = self.ended.iter().flat_map(|ended| &ended.subscriptions);
        for held in self.held.iter().chain(ended) {
            segment.matching(&held.topic, held.exact, &mut self.candidates);
        }
        self.candidates.retain(|index| *index >= skip);
        self.candidates.sort_unstable_by_key(|index| std::cmp::Reverse(*index));
        self.candidates.dedup();
    }
}
