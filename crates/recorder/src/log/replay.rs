//! What a clone is made from, and a hole filled with.

use std::collections::VecDeque;
use std::sync::Arc;

use trestle_messages::Position;

use super::{Log, RingStarts};
use crate::{Message, RecordRules, Segment};

/// The recorded messages that a log had at one moment, to be read in its own time. It keeps their segments alive, so that
/// all of it is of that moment: else a clone could read a value and miss its removal.
#[derive(Debug)]
pub struct Replay {
    position: Position,
    starts: RingStarts,
    rules: RecordRules,
    after: u64,
    /// The numbers of the last values.
    last: Vec<u64>,
    /// From this number on it had every message.
    newest_seq: u64,
    segments: VecDeque<Arc<Segment>>,
}

impl Replay {
    /// Where the log stood: whoever has all of the replay goes on behind it.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Where its rings began.
    pub fn starts(&self) -> &RingStarts {
        &self.starts
    }

    /// Takes the next segment that has any of its messages; adds their indices to `out`, in order. `None` at the end.
    pub fn read(&mut self, out: &mut Vec<u32>) -> Option<Arc<Segment>> {
        while let Some(segment) = self.segments.pop_front() {
            let before = out.len();
            let has = (0..).zip(segment.messages()).filter(|(_, message)| self.has(message));
            out.extend(has.map(|(index, _)| index));
            if out.len() > before {
                return Some(segment);
            }
        }
        None
    }

    fn has(&self, message: &Message<'_>) -> bool {
        let Some(at) = message.position().filter(|at| at.epoch == self.position.epoch) else { return false };
        let is_in_ring = || {
            let rule = self.rules.ruling_index(message.topic());
            rule.is_some_and(|rule| at.offset > self.starts.rings[rule].1)
        };
        at.offset > self.after
            && (message.seq() >= self.newest_seq
                || is_in_ring()
                || self.last.binary_search(&message.seq()).is_ok())
    }
}

impl Log {
    /// All that is recorded and kept now, behind `offset` of the current epoch: 0 for a clone. `None` before the first
    /// position is known.
    ///
    /// A clone [`record`](Self::record)s the same rules, [`begin`](Self::begin)s where this began, appends what it reads,
    /// and goes on with what is behind its position.
    pub fn replay(&self, offset: u64) -> Option<Replay> {
        let mut views = self.views();
        let position = views.position()?;
        let starts = self.starts(&mut views);
        let seq = self.mark_at(&views, offset).map_or(0, |mark| mark.seq + 1);
        let mut last: Vec<_> = views.last.seqs().filter(|last| *last >= seq).collect();
        let rules = views.rules.clone();
        let (segments, newest_seq) = {
            let shelf = self.shelf();
            let segments = shelf.segments_from(seq).map(|shelved| Arc::clone(&shelved.segment));
            (segments.collect(), shelf.newest_seq())
        };
        drop(views);
        last.sort_unstable();
        Some(Replay { position, starts, rules, after: offset, last, newest_seq, segments })
    }
}
