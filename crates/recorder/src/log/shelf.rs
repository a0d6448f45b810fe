//! The segments in their order, and where readers stand.

use std::collections::VecDeque;
use std::sync::Arc;

use trestle_messages::Position;

use super::Overrun;
use super::live::{Live, SegmentId};
use super::mark::Mark;
use crate::Segment;

/// Where a reader stands: the number of the segment it reads next.
#[derive(Debug, Clone)]
pub struct Cursor {
    pub(super) segment: u64,
    pub(super) next_seq: u64,
    pub(super) position: Option<Position>,
}

impl Cursor {
    /// The number of the message that it reads next.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The position behind everything it has read; `None` before the first position is known.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

#[derive(Debug, Clone)]
pub(super) struct Shelved {
    pub(super) segment: Arc<Segment>,
    pub(super) id: SegmentId,
    /// The newest recorded message in it or before it.
    pub(super) last: Mark,
}

/// Where the log ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) next_seq: u64,
    pub(super) position: Option<Position>,
}

/// The newest segments, unbroken, and before them what is kept of older ones.
#[derive(Debug)]
pub(super) struct Shelf {
    kept: VecDeque<Shelved>,
    newest: VecDeque<Shelved>,
    /// Segments that are no longer among the newest: the number of the first that is.
    passed: u64,
    pub(super) end: End,
    newest_bytes: usize,
    kept_bytes: usize,
    /// Where among the kept ones tidying goes on.
    hand: usize,
}

impl Default for Shelf {
    fn default() -> Self {
        let (kept, newest) = (VecDeque::new(), VecDeque::new());
        // Number 0 is before every message: where a replay would begin that comes too late for all.
        let end = End { next_seq: 1, position: None };
        Self { kept, newest, passed: 0, end, newest_bytes: 0, kept_bytes: 0, hand: 0 }
    }
}

impl Shelf {
    /// A segment comes to the end, which is then at `end`.
    pub(super) fn push(&mut self, shelved: Shelved, end: End) {
        self.end = end;
        self.newest_bytes += shelved.segment.cost_bytes();
        self.newest.push_back(shelved);
    }

    /// Takes the oldest of the newest, if there are more than one.
    pub(super) fn pass_on(&mut self) -> Option<Shelved> {
        if self.newest.len() < 2 {
            return None;
        }
        let oldest = self.newest.pop_front()?;
        self.newest_bytes -= oldest.segment.cost_bytes();
        self.passed += 1;
        Some(oldest)
    }

    pub(super) fn keep(&mut self, shelved: Shelved) {
        self.kept_bytes += shelved.segment.cost_bytes();
        self.kept.push_back(shelved);
    }

    /// Takes the oldest segment, if nothing of it is needed.
    pub(super) fn drop_front(&mut self, live: &Live) -> Option<Shelved> {
        let oldest = self.kept.pop_front_if(|oldest| live.bytes(oldest.id) == 0)?;
        self.kept_bytes -= oldest.segment.cost_bytes();
        self.hand = self.hand.saturating_sub(1);
        Some(oldest)
    }

    pub(super) fn newest_bytes(&self) -> usize {
        self.newest_bytes
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// A cursor behind everything.
    pub(super) fn cursor(&self) -> Cursor {
        let segment = self.passed + self.newest.len() as u64;
        Cursor { segment, next_seq: self.end.next_seq, position: self.end.position }
    }

    /// From this number on it has every message.
    pub(super) fn newest_seq(&self) -> u64 {
        self.newest.front().map_or(self.end.next_seq, |shelved| shelved.segment.first_seq())
    }

    pub(super) fn oldest_seq(&self) -> u64 {
        self.all().next().map_or(self.end.next_seq, |shelved| shelved.segment.first_seq())
    }

    /// The newest recorded message that is no longer among the newest, or before it.
    pub(super) fn kept_mark(&self) -> Option<Mark> {
        self.kept.back().map(|shelved| shelved.last)
    }

    pub(super) fn read(&self, cursor: &mut Cursor, out: &mut Vec<Arc<Segment>>) -> Result<(), Overrun> {
        let missed = cursor.segment < self.passed;
        let messages = self.newest_seq().saturating_sub(cursor.next_seq);
        let skip =
            usize::try_from(cursor.segment.saturating_sub(self.passed)).expect("a cursor is within the log");
        out.extend(self.newest.range(skip..).map(|shelved| Arc::clone(&shelved.segment)));
        *cursor = self.cursor();
        if missed { Err(Overrun { messages }) } else { Ok(()) }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Shelved> {
        self.kept.iter().chain(&self.newest)
    }

    /// The segments that have message `seq` or later ones.
    pub(super) fn segments_from(&self, seq: u64) -> impl Iterator<Item = &Shelved> {
        let is_before = |shelved: &Shelved| shelved.segment.end_seq() <= seq;
        let kept = self.kept.partition_point(is_before);
        let newest = if kept < self.kept.len() { 0 } else { self.newest.partition_point(is_before) };
        self.kept.range(kept..).chain(self.newest.range(newest..))
    }

    /// The newest recorded message at or before `offset`, of those in segments from message `seq` on; `None` if all are
    /// behind it.
    pub(super) fn mark_at(&self, offset: u64, epoch: u64, seq: u64) -> Option<Mark> {
        let is_before = |shelved: &Shelved| shelved.last.seq < seq || shelved.last.offset <= offset;
        let kept = self.kept.partition_point(is_before);
        let newest = if kept < self.kept.len() { 0 } else { self.newest.partition_point(is_before) };
        let before = match newest {
            0 => kept.checked_sub(1).map(|last| &self.kept[last]),
            _ => Some(&self.newest[newest - 1]),
        };
        let before = before.map(|shelved| shelved.last).filter(|last| last.seq >= seq);
        let within = self.kept.get(kept).or_else(|| self.newest.get(newest)).and_then(|shelved| {
            let marks = shelved.segment.messages_from(seq).filter_map(|message| {
                let at = message.position().filter(|at| at.epoch == epoch)?;
                Some(Mark { offset: at.offset, seq: message.seq() })
            });
            marks.take_while(|mark| mark.offset <= offset).last()
        });
        within.or(before)
    }

    /// Takes a look at some segments from the hand on: those next to each other that are more waste than need, with small
    /// ones in between, until about `live_bytes_max` are needed of them; or one whose waste is its encodings. Moves the hand
    /// behind them; `None` at the end of a round.
    pub(super) fn look(&mut self, live: &Live, live_bytes_max: u64, n_max: usize) -> Option<Run> {
        if self.hand >= self.kept.len() {
            self.hand = 0;
            return None;
        }
        let mut run = Run { start: self.hand, ..Run::default() };
        for shelved in self.kept.range(self.hand..).take(n_max) {
            run.n_looked_at += 1;
            let (needed, cost) = (live.bytes(shelved.id), shelved.segment.cost_bytes());
            let memory = (cost + shelved.segment.encoded_bytes()) as u64;
            let (is_wasteful, is_first) = (2 * needed < memory, run.segments.is_empty());
            let is_good = 2 * needed >= cost as u64;
            if is_first && !is_wasteful {
                run.start += 1;
                continue;
            }
            let is_too_much = run.live_bytes + needed > live_bytes_max;
            if !is_first && (is_too_much || (is_good && cost >= SMALL_BYTES)) {
                break;
            }
            run.live_bytes += needed;
            run.memory_bytes += memory;
            run.segments.push(shelved.clone());
            run.is_encoded = is_first && is_good;
            if run.is_encoded {
                break;
            }
        }
        self.hand = run.start + run.segments.len();
        Some(run)
    }

    /// Puts `new` in the place of what was looked at.
    pub(super) fn replace(&mut self, run: &Run, new: Option<Shelved>) {
        let end = run.start + run.segments.len();
        self.kept_bytes -= run.segments.iter().map(|shelved| shelved.segment.cost_bytes()).sum::<usize>();
        let n_new = usize::from(new.is_some());
        if let Some(new) = new {
            self.kept_bytes += new.segment.cost_bytes();
            self.kept[run.start] = new;
        }
        self.kept.drain(run.start + n_new..end);
        self.hand = run.start + n_new;
    }
}

/// A segment smaller than this is taken along when its neighbours are rewritten: its own overhead is part of the waste.
const SMALL_BYTES: usize = 4 << 10;

/// Segments next to each other.
#[derive(Debug, Default)]
pub(super) struct Run {
    start: usize,
    pub(super) segments: Vec<Shelved>,
    /// With those before it that are not worth it.
    pub(super) n_looked_at: u64,
    pub(super) live_bytes: u64,
    pub(super) memory_bytes: u64,
    /// It is one segment, of which the messages are needed and the encodings are not.
    pub(super) is_encoded: bool,
}
