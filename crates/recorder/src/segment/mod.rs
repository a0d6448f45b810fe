//! A batch of messages, immutable once made, in few allocations for all their frames.

mod builder;
mod content;
mod encodings;
mod index;
mod message;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use trestle_messages::Position;

use content::Content;
use encodings::Encodings;

pub use builder::SegmentBuilder;
pub use encodings::Slot;
pub use message::{Frames, Message};

/// Bytes that a message costs beside its frames: its record, number, frame ends, its place in the index by topic and in
/// the list of encodings.
const RECORD_OVERHEAD_BYTES: usize = 72;

/// Bytes that a segment costs beside its messages: itself, its allocations, its place in the log.
pub(crate) const SEGMENT_OVERHEAD_BYTES: usize = 320;

/// A part of the sequence that is not in the log, in its place: what came before it and what comes after do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last position before it; `None` where nothing recorded was known.
    pub from: Option<Position>,
    /// The last position in it. Of another epoch than `from` where the sequence was begun anew.
    pub until: Position,
    /// Messages in it; `None` where nobody can know.
    pub messages: Option<u64>,
}

/// Bytes of all encodings that a log's segments hold.
pub(crate) type EncodedBytes = Arc<AtomicUsize>;

/// Messages in their order: those that entered together, or what is kept of older ones.
#[derive(Debug)]
pub struct Segment {
    content: Arc<Content>,
    first_seq: u64,
    end_seq: u64,
    gap: Option<Gap>,
    /// Made with the first encoding: much of what is recorded nobody is ever sent.
    encodings: OnceLock<Box<[Encodings]>>,
    /// Bytes of its own encodings, and of all in its log: counted when one is made, which is once for all its readers.
    encoded_bytes: AtomicUsize,
    log_encoded_bytes: EncodedBytes,
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.log_encoded_bytes.fetch_sub(*self.encoded_bytes.get_mut(), Ordering::Relaxed);
    }
}

impl Segment {
    fn new(
        content: Arc<Content>,
        numbers: Range<u64>,
        gap: Option<Gap>,
        log_encoded_bytes: EncodedBytes,
    ) -> Self {
        let Range { start: first_seq, end: end_seq } = numbers;
        let (encodings, encoded_bytes) = (OnceLock::new(), AtomicUsize::new(0));
        Self { content, first_seq, end_seq, gap, encodings, encoded_bytes, log_encoded_bytes }
    }

    /// The same messages without the encodings made so far. Those who hold this one keep theirs.
    pub(crate) fn fresh(&self, log_encoded_bytes: EncodedBytes) -> Arc<Self> {
        let numbers = self.first_seq..self.end_seq;
        Arc::new(Self::new(Arc::clone(&self.content), numbers, self.gap, log_encoded_bytes))
    }

    /// The number of its first message.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The number behind its last message. A gap has a number, too. Of those in between only some may be here: ask each
    /// message for its [`seq`](Message::seq).
    pub fn end_seq(&self) -> u64 {
        self.end_seq
    }

    fn seq(&self, index: usize) -> u64 {
        self.content.seqs.as_ref().map_or(self.first_seq + index as u64, |seqs| seqs[index])
    }

    /// The index of its first message whose number is at least `seq`; [`len`](Self::len) if there is none.
    pub fn index_from(&self, seq: u64) -> usize {
        match &self.content.seqs {
            Some(seqs) => seqs.partition_point(|other| *other < seq),
            None => {
                usize::try_from(seq.saturating_sub(self.first_seq)).map_or(self.len(), |i| i.min(self.len()))
            }
        }
    }

    /// The part of the sequence that is missing here, if that is what this segment stands for; then it has no messages.
    pub fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// Adds to `out` the indices of the messages whose topic begins with `topic`, or is exactly that. They come by topic,
    /// not in their order. What does not match costs next to nothing: the segment is searched, not read.
    pub fn matching(&self, topic: &[u8], exact: bool, out: &mut Vec<u32>) {
        self.content.by_topic.matching(self, topic, exact, out);
    }

    /// Messages in it, at least 1 unless it is a gap.
    pub fn len(&self) -> usize {
        self.content.records.len()
    }

    /// Only a gap's is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `index`th message.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn message(&self, index: usize) -> Message<'_> {
        assert!(index < self.len(), "message {index} of {}", self.len());
        Message { segment: self, index }
    }

    /// All messages in order.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = Message<'_>> + ExactSizeIterator {
        (0..self.len()).map(|index| Message { segment: self, index })
    }

    /// The messages whose number is at least `seq`, in order.
    pub(crate) fn messages_from(&self, seq: u64) -> impl Iterator<Item = Message<'_>> {
        (self.index_from(seq)..self.len()).map(|index| Message { segment: self, index })
    }

    /// The position of its last recorded message, or of the end of the gap.
    pub fn last_position(&self) -> Option<Position> {
        let gap = self.gap.map(|gap| gap.until);
        gap.or_else(|| self.messages().rev().find_map(|message| message.position()))
    }

    /// What it holds in memory, without encodings.
    pub fn cost_bytes(&self) -> usize {
        self.content.bytes.len() + self.len() * RECORD_OVERHEAD_BYTES + SEGMENT_OVERHEAD_BYTES
    }

    /// What its encodings hold in memory by now.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.encoded_bytes.load(Ordering::Relaxed)
    }

    fn encodings(&self, index: usize) -> &Encodings {
        &self.encodings.get_or_init(|| (0..self.len()).map(|_| Encodings::default()).collect())[index]
    }

    fn count_encoded(&self, bytes: usize) {
        self.encoded_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.log_encoded_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trestle_messages::v1::Stamp;

    use super::*;

    fn segment(messages: &[(&[&[u8]], Stamp)]) -> Arc<Segment> {
        let mut builder = SegmentBuilder::default();
        for (frames, stamp) in messages {
            builder.push(frames.iter().copied(), *stamp);
        }
        builder.build(10, EncodedBytes::default())
    }

    #[test]
    fn frames_come_back_as_they_went_in() {
        let messages: [&[&[u8]]; 4] = [&[b"a", b"", b"xyz"], &[b""], &[b"topic"], &[b"", b""]];
        let segment = segment(&messages.map(|frames| (frames, Stamp::default())));
        for (i, expected) in messages.iter().enumerate() {
            let message = segment.message(i);
            assert_eq!(message.frames().collect::<Vec<_>>(), *expected);
            assert_eq!(message.seq(), 10 + i as u64);
            assert_eq!(message.has_topic(), expected.len() > 1);
            assert_eq!(message.position(), None);
        }
        assert_eq!(segment.message(1).body().collect::<Vec<_>>(), [b""]);
        assert_eq!(segment.message(2).body().collect::<Vec<_>>(), [b"topic"]);
    }

    #[test]
    fn alias_and_split_are_undone_for_raw_readers() {
        let aliased = Stamp { original_frames: true, ..Stamp::default() };
        let split = Stamp { original_frames: true, body_start: 6, ..Stamp::default() };
        let lying = Stamp { original_frames: true, body_start: 99, ..Stamp::default() };
        let segment = segment(&[
            (&[b"eddn", b"raw"], aliased),
            (&[b"10001", b"10001 23 45"], split),
            (&[b"10001", b"10001 23 45"], lying),
        ]);
        let bodies = segment.messages().map(|m| m.body().map(<[u8]>::to_vec).collect::<Vec<_>>());
        assert_eq!(bodies.collect::<Vec<_>>(), [[b"raw".to_vec()], [b"23 45".to_vec()], [b"".to_vec()]]);
        let original = segment.message(1).original_frames().collect::<Vec<_>>();
        assert_eq!(original, [b"10001 23 45"]);
        assert!(segment.messages().all(|m| m.has_topic()));
    }

    #[test]
    fn an_abandoned_message_leaves_nothing() {
        let mut builder = SegmentBuilder::default();
        builder.push([&b"kept"[..]], Stamp::default());
        builder.begin(Stamp::default());
        builder.frame(b"gone");
        builder.frame(b"too");
        builder.abandon();
        builder.push([&b"also kept"[..]], Stamp::default());
        let segment = builder.build(0, EncodedBytes::default());
        let topics: Vec<_> = segment.messages().map(|m| m.topic()).collect();
        assert_eq!(topics, [&b"kept"[..], b"also kept"]);
        assert!(builder.is_empty() && builder.frame_bytes() == 0);
    }

    #[test]
    fn a_slot_is_encoded_once() {
        let segment = segment(&[(&[b"a"], Stamp::default())]);
        let message = segment.message(0);
        assert_eq!(message.encoded_already(Slot::new(2)), None);
        let first = message.encoded(Slot::new(2), || Bytes::from_static(b"one")).clone();
        let second = message.encoded(Slot::new(2), || unreachable!("encoded already"));
        let other = message.encoded(Slot::new(3), || Bytes::from_static(b"other"));
        assert_eq!((&first, &other[..]), (second, &b"other"[..]));
        assert_eq!(message.encoded_already(Slot::new(3)), Some(other));
    }

    #[test]
    fn a_sparse_segment_knows_its_numbers() {
        let mut builder = SegmentBuilder::default();
        for topic in [b"a", b"b", b"c"] {
            builder.push([&topic[..]], Stamp::default());
        }
        let segment = builder.build_sparse(vec![3, 7, 8], EncodedBytes::default());
        assert_eq!((segment.first_seq(), segment.end_seq()), (3, 9));
        assert_eq!(segment.messages().map(|m| m.seq()).collect::<Vec<_>>(), [3, 7, 8]);
        let from = [0, 3, 4, 7, 8, 9, 99].map(|seq| segment.index_from(seq));
        assert_eq!(from, [0, 0, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn a_fresh_segment_has_the_same_messages_and_no_encoding() {
        let (old, new) = (EncodedBytes::default(), EncodedBytes::default());
        let mut builder = SegmentBuilder::default();
        builder.push([&b"a"[..], b"body"], Stamp::default());
        let segment = builder.build(5, old.clone());
        segment.message(0).encoded(Slot::new(0), || Bytes::from_static(b"encoded"));
        let fresh = segment.fresh(new.clone());
        assert_eq!(fresh.message(0).encoded_already(Slot::new(0)), None);
        assert_eq!((fresh.message(0).seq(), fresh.message(0).topic()), (5, &b"a"[..]));
        fresh.message(0).encoded(Slot::new(0), || Bytes::from_static(b"again"));
        assert!(old.load(Ordering::Relaxed) > 7 && new.load(Ordering::Relaxed) > 5);
        drop(segment);
        assert_eq!(old.load(Ordering::Relaxed), 0);
        drop(fresh);
        assert_eq!(new.load(Ordering::Relaxed), 0);
    }
}
