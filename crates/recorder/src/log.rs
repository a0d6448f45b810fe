//! The newest messages of the process, as segments that readers follow at their own pace.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trestle_messages::Position;

use crate::segment::EncodedBytes;
use crate::{Gap, Message, Segment, SegmentBuilder};

/// One writer appends, each reader follows with its own [`Cursor`]: the writer never waits, and a slow reader holds up
/// nobody. A reader that falls behind the bound is told by [`Overrun`].
#[derive(Debug)]
pub struct Log {
    /// Locked once for a batch by the writer and once for a drain by each reader, never for a message.
    ring: Mutex<Ring>,
    bytes_max: usize,
    /// What the readers' encodings cost; they count as the segments' own bytes do.
    encoded_bytes: EncodedBytes,
}

#[derive(Debug, Default)]
struct Ring {
    segments: VecDeque<Arc<Segment>>,
    /// Segments dropped at the front since the start: the number of the front one.
    dropped: u64,
    /// Messages ever appended.
    next_seq: u64,
    bytes: usize,
    position: Option<Position>,
    /// From this message on no part of the sequence is missing.
    whole_from: u64,
}

/// Where a reader stands: the number of the segment it reads next.
#[derive(Debug, Clone)]
pub struct Cursor {
    segment: u64,
    next_seq: u64,
    position: Option<Position>,
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

impl Ring {
    fn cursor(&self) -> Cursor {
        Cursor { segment: self.end(), next_seq: self.next_seq, position: self.position }
    }

    /// The number of the segment that comes next.
    fn end(&self) -> u64 {
        self.dropped + self.segments.len() as u64
    }

    fn oldest_seq(&self) -> u64 {
        self.segments.front().map_or(self.next_seq, |segment| segment.first_seq())
    }
}

/// The reader fell off the log: what it had not read is gone. It goes on at the oldest segment there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{messages} messages fell off the log before they were read")]
pub struct Overrun {
    /// Messages it missed, at least 1.
    pub messages: u64,
}

/// Why a position is none of this log's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHere {
    /// The log's sequence is another one.
    #[error("the position is of another epoch")]
    OtherEpoch,
    /// The log has not come so far.
    #[error("the position is ahead of the log")]
    Ahead,
}

impl Log {
    /// A log that keeps at least its last segment, and older ones while all cost at most `bytes_max` with their encodings.
    pub fn new(bytes_max: usize) -> Self {
        Self { ring: Mutex::default(), bytes_max, encoded_bytes: EncodedBytes::default() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // No code panics while it holds the lock; a poisoned one is as good as any.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what `batch` gathered as one segment and empties it; nothing if it is empty.
    pub fn append(&self, batch: &mut SegmentBuilder) {
        if batch.is_empty() {
            return;
        }
        let ring = self.ring();
        let segment = batch.build(ring.next_seq, self.encoded_bytes.clone());
        self.push(ring, segment);
    }

    /// Appends the news that a part of the sequence will not come. No replay reaches across it.
    pub fn append_gap(&self, gap: Gap) {
        let mut ring = self.ring();
        let segment = SegmentBuilder::gap(ring.next_seq, gap, self.encoded_bytes.clone());
        ring.whole_from = segment.end_seq();
        self.push(ring, segment);
    }

    fn push(&self, mut ring: MutexGuard<'_, Ring>, segment: Arc<Segment>) {
        let mut evicted = Vec::new();
        ring.next_seq = segment.end_seq();
        ring.bytes += segment.cost_bytes();
        ring.position = segment.last_position().or(ring.position);
        ring.segments.push_back(segment);
        let mut encoded_bytes = self.encoded_bytes.load(Ordering::Relaxed);
        while ring.bytes + encoded_bytes > self.bytes_max && ring.segments.len() > 1 {
            let oldest = ring.segments.pop_front().expect("there is more than one");
            ring.bytes -= oldest.cost_bytes();
            encoded_bytes = encoded_bytes.saturating_sub(oldest.encoded_bytes());
            ring.dropped += 1;
            evicted.push(oldest);
        }
        drop(ring);
        // Freed here, outside the lock, where readers do not wait for it.
        drop(evicted);
    }

    /// The sequence has come to `position` without a message here: where it stood at the start, or what was lost.
    /// Appended messages carry their own.
    pub fn advance(&self, position: Position) {
        let mut ring = self.ring();
        ring.position = Some(position);
        ring.whole_from = ring.next_seq;
    }

    /// The number of the first message behind `position`, where a replay from there begins.
    ///
    /// # Errors
    /// [`NotHere`] if the log's sequence has not been there.
    pub fn seq_after(&self, position: Position) -> Result<u64, NotHere> {
        let ring = self.ring();
        let head = ring.position.filter(|head| head.epoch == position.epoch).ok_or(NotHere::OtherEpoch)?;
        if position.offset > head.offset {
            return Err(NotHere::Ahead);
        }
        let is_behind =
            |at: Option<Position>| at.is_some_and(|at| at.epoch == head.epoch && at.offset > position.offset);
        let messages = ring.segments.iter().flat_map(|segment| segment.messages());
        let first =
            messages.filter(|message| is_behind(message.position())).map(|message| message.seq()).next();
        Ok(first.unwrap_or(ring.next_seq))
    }

    /// The number from which on the log has every recorded message that a subscription of `topic` may match: a replay
    /// that begins there or later misses nothing.
    pub fn complete_from(&self, topic: &[u8], exact: bool) -> u64 {
        let _ = (topic, exact);
        self.complete_from_all()
    }

    /// The number from which on the log has every recorded message.
    pub fn complete_from_all(&self) -> u64 {
        let ring = self.ring();
        ring.oldest_seq().max(ring.whole_from)
    }

    /// Whether `message` is the last value of its topic.
    pub fn is_last_value(&self, message: &Message<'_>) -> bool {
        let ring = self.ring();
        let mut messages = ring
            .segments
            .iter()
            .rev()
            .flat_map(|segment| segment.messages().collect::<Vec<_>>().into_iter().rev());
        let newest = messages.find(|other| other.topic() == message.topic());
        newest.is_none_or(|newest| newest.seq() <= message.seq())
            && message.has_topic()
            && message.position().is_some()
            && message.body().any(|frame| !frame.is_empty())
    }

    /// A cursor behind everything appended so far.
    pub fn cursor(&self) -> Cursor {
        let ring = self.ring();
        ring.cursor()
    }

    /// Adds all that `cursor` has not read to `out` and moves it to the end. After an [`Overrun`], too, `out` has all
    /// that is left.
    ///
    /// # Errors
    /// [`Overrun`] if segments were dropped unread.
    pub fn read(&self, cursor: &mut Cursor, out: &mut Vec<Arc<Segment>>) -> Result<(), Overrun> {
        let ring = self.ring();
        let messages = ring.oldest_seq().saturating_sub(cursor.next_seq);
        let unread = cursor.segment.saturating_sub(ring.dropped);
        let skip = usize::try_from(unread).expect("a cursor is within the log");
        out.extend(ring.segments.range(skip..).cloned());
        *cursor = ring.cursor();
        if messages == 0 { Ok(()) } else { Err(Overrun { messages }) }
    }

    /// Adds to `out` at most `segments_max` segments from the one that has message `seq` on, or from the oldest if that
    /// one is gone. Returns the number of the oldest message there is.
    pub fn read_from(&self, seq: u64, segments_max: usize, out: &mut Vec<Arc<Segment>>) -> u64 {
        let ring = self.ring();
        let first = ring.segments.partition_point(|segment| segment.end_seq() <= seq);
        out.extend(ring.segments.range(first..).take(segments_max).cloned());
        ring.oldest_seq()
    }

    /// The number of the oldest message there is; of the next one, if there is none.
    pub fn oldest_seq(&self) -> u64 {
        self.ring().oldest_seq()
    }

    /// What it holds in memory.
    pub fn bytes(&self) -> usize {
        self.ring().bytes + self.encoded_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trestle_messages::v1::Stamp;

    use super::*;

    fn append(log: &Log, topics: &[u64]) {
        let mut batch = SegmentBuilder::default();
        for topic in topics {
            batch.push([&topic.to_be_bytes()[..]], Stamp::default());
        }
        log.append(&mut batch);
    }

    fn read(log: &Log, cursor: &mut Cursor) -> (Vec<u64>, bool) {
        let mut segments = Vec::new();
        let overrun = log.read(cursor, &mut segments).is_err();
        let number = |topic: &[u8]| u64::from_be_bytes(topic.try_into().unwrap());
        (
            segments
                .iter()
                .flat_map(|s| s.messages().map(|m| number(m.topic())).collect::<Vec<_>>())
                .collect(),
            overrun,
        )
    }

    proptest! {
        /// However appends and reads alternate, a reader sees an unbroken run, or is told where it broke.
        #[test]
        fn a_reader_misses_nothing_untold(script in proptest::collection::vec((1u64..5, any::<bool>()), 1..50),
                                          bytes_max in 100usize..2_000) {
            let log = Log::new(bytes_max);
            let (mut cursor, mut sent, mut next) = (log.cursor(), 0, 0);
            for (n, reads) in script {
                append(&log, &(sent..sent + n).collect::<Vec<_>>());
                sent += n;
                if reads {
                    let (seen, overrun) = read(&log, &mut cursor);
                    prop_assert_eq!(overrun, seen[0] != next, "told exactly when it missed something");
                    prop_assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1));
                    prop_assert_eq!(*seen.last().unwrap(), sent - 1);
                    next = sent;
                }
            }
        }
    }

    #[test]
    fn an_empty_batch_is_no_segment() {
        let log = Log::new(1000);
        let mut cursor = log.cursor();
        append(&log, &[]);
        assert_eq!(read(&log, &mut cursor), (vec![], false));
    }

    #[test]
    fn a_cursor_knows_the_position_behind_what_it_read() {
        let log = Log::new(10_000);
        let mut cursor = log.cursor();
        assert_eq!(cursor.position(), None);
        let at = |offset| Position { epoch: 3, offset };
        log.advance(at(7));
        assert_eq!(log.cursor().position(), Some(at(7)));
        let mut batch = SegmentBuilder::default();
        for offset in [8, 9, 0] {
            batch.push([&[0; 8][..]], Stamp { epoch: 3, offset, ..Stamp::default() });
        }
        log.append(&mut batch);
        assert_eq!(cursor.position(), None, "not before it reads");
        read(&log, &mut cursor);
        assert_eq!(cursor.position(), Some(at(9)));
    }

    #[test]
    fn memory_stays_bounded_and_numbers_rise() {
        let log = Log::new(1_000);
        for n in 0..1_000 {
            append(&log, &[n]);
        }
        assert!(log.bytes() <= 1_000);
        let mut late = Cursor { segment: 0, next_seq: 0, position: None };
        let mut segments = Vec::new();
        let overrun = log.read(&mut late, &mut segments).unwrap_err();
        assert_eq!(overrun.messages, segments[0].message(0).seq());
        assert_eq!(segments.last().unwrap().message(0).seq(), 999);
    }

    #[test]
    fn encodings_count_and_go_with_their_segment() {
        let log = Log::new(10_000);
        append(&log, &[1]);
        let before = log.bytes();
        let mut segments = Vec::new();
        assert_eq!(log.read_from(0, 1, &mut segments), 0);
        segments[0].message(0).encoded(crate::Slot::new(1), || vec![0; 20_000].into());
        assert!(log.bytes() > before + 20_000);
        append(&log, &[2]);
        assert_eq!(log.oldest_seq(), 1, "it weighs what its encoding does");
        segments.clear();
        assert_eq!(log.bytes(), before);
    }

    #[test]
    fn a_reader_can_start_anywhere() {
        let log = Log::new(10_000);
        for batch in [&[0, 1, 2][..], &[3], &[4, 5]] {
            append(&log, batch);
        }
        for (seq, first) in [(0, 0), (2, 0), (3, 3), (5, 4)] {
            let mut segments = Vec::new();
            assert_eq!(log.read_from(seq, 1, &mut segments), 0);
            assert_eq!(segments.iter().map(|segment| segment.first_seq()).collect::<Vec<_>>(), [first]);
        }
        let mut segments = Vec::new();
        log.read_from(6, 9, &mut segments);
        assert!(segments.is_empty());
        log.read_from(1, 9, &mut segments);
        assert_eq!(segments.len(), 3);
    }
}
