//! What the log has for one session that is behind.

use std::collections::VecDeque;
use std::sync::Arc;

use trestle_recorder::{Log, Message, Segment};

use crate::backlog::Ended;
use crate::pace::Pace;
use crate::session::{Due, Subscription, due};

/// Segments held at once while they are read: no more, so that reading keeps little alive that the log has dropped.
const SEGMENTS_MAX: usize = 16;
/// With more subscriptions than this a segment is not searched for each of them but read.
const SEARCHES_MAX: usize = 8;
/// A segment this short is read, too: a search would first have to sort it.
const SHORT_SEGMENT: usize = 4;

/// Recorded messages that a session's subscriptions match, in their order, from one of the log on.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    log: &'a Log,
    held: &'a [Subscription],
    ended: &'a [Ended],
    pace: Option<&'a Pace>,
    /// Messages before this one were looked at.
    next: u64,
    /// Messages from this one on have not been routed.
    end: u64,
    segments: VecDeque<Arc<Segment>>,
    /// Of the first segment, those that may match and were not looked at, the last first.
    candidates: Vec<u32>,
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
    /// Those from message `next` to message `end` of the log.
    pub(crate) fn new(
        log: &'a Log,
        held: &'a [Subscription],
        ended: &'a [Ended],
        pace: Option<&'a Pace>,
        next: u64,
        end: u64,
    ) -> Self {
        let (segments, candidates) = (VecDeque::new(), Vec::new());
        Self { log, held, ended, pace, next, end, segments, candidates }
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
                let is_paced = self.pace.is_some_and(|pace| pace.concerns(message.topic()));
                if message.position().is_none() {
                    continue;
                }
                let (held, is_snapshot) = match due(self.held, self.ended, message.topic(), seq, is_paced) {
                    Some(Due::Event(held)) => (held, false),
                    Some(Due::LastValue(held)) if self.log.is_last_value(&message) => (held, true),
                    _ => continue,
                };
                let (segment, index) = (Arc::clone(segment), index as usize);
                return Some(Found { segment, index, held, is_snapshot });
            }
            self.next = segment.end_seq().min(self.end);
            self.segments.pop_front();
            self.choose();
            *segments_max = segments_max.saturating_sub(1);
            if *segments_max == 0 {
                return None;
            }
        }
        None
    }

    fn read(&mut self) {
        let mut segments = Vec::new();
        let oldest = self.log.read_from(self.next, SEGMENTS_MAX, &mut segments);
        self.next = self.next.max(oldest);
        if segments.is_empty() {
            self.next = self.end;
        }
        self.segments = segments.into();
        self.choose();
    }

    /// Chooses what of the first segment may match.
    fn choose(&mut self) {
        self.candidates.clear();
        let Some(segment) = self.segments.front() else { return };
        let index = |index| u32::try_from(index).expect("a segment has less than 2^32 messages");
        let (skip, len) = (index(segment.index_from(self.next)), index(segment.len()));
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
