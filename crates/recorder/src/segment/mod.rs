//! A batch of messages, immutable once made, in one allocation for all their frames.

mod encodings;
mod index;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use trestle_messages::Position;
use trestle_messages::v1::Stamp;

use encodings::Encodings;
use index::TopicIndex;

pub use encodings::Slot;

/// Bytes that a message costs beside its frames: its record, frame ends, its place in the index by topic.
const RECORD_OVERHEAD_BYTES: usize = 72;

#[derive(Debug)]
struct Record {
    /// Index of its first frame in `Segment::ends`.
    first_frame: u32,
    stamp: Stamp,
    encodings: Encodings,
}

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

/// Messages that entered together, in their order.
#[derive(Debug)]
pub struct Segment {
    first_seq: u64,
    bytes: Bytes,
    /// End of each frame in `bytes`.
    ends: Box<[u32]>,
    records: Box<[Record]>,
    gap: Option<Gap>,
    by_topic: TopicIndex,
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
    /// The number of its first message.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The number behind its last message. A gap has a number, too.
    pub fn end_seq(&self) -> u64 {
        self.first_seq + self.records.len() as u64 + u64::from(self.gap.is_some())
    }

    /// The part of the sequence that is missing here, if that is what this segment stands for; then it has no messages.
    pub fn gap(&self) -> Option<Gap> {
        self.gap
    }

    /// Adds to `out` the indices of the messages whose topic begins with `topic`, or is exactly that. They come by topic,
    /// not in their order. What does not match costs next to nothing: the segment is searched, not read.
    pub fn matching(&self, topic: &[u8], exact: bool, out: &mut Vec<u32>) {
        self.by_topic.matching(self, topic, exact, out);
    }

    /// Messages in it, at least 1 unless it is a gap.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Only a gap's is.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The `index`th message.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn message(&self, index: usize) -> Message<'_> {
        assert!(index < self.records.len(), "message {index} of {}", self.records.len());
        Message { segment: self, index }
    }

    /// All messages in order.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        (0..self.len()).map(|index| self.message(index))
    }

    /// The position of its last recorded message, or of the end of the gap.
    pub fn last_position(&self) -> Option<Position> {
        let gap = self.gap.map(|gap| gap.until);
        gap.or_else(|| (0..self.len()).rev().find_map(|index| self.message(index).position()))
    }

    /// What it holds in memory, without encodings.
    pub fn cost_bytes(&self) -> usize {
        self.bytes.len() + self.records.len() * RECORD_OVERHEAD_BYTES
    }

    /// What its encodings hold in memory by now.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.encoded_bytes.load(Ordering::Relaxed)
    }
}

/// One message: its frames as they are routed (a topic frame in front where alias or split put one) and its stamp.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    segment: &'a Segment,
    index: usize,
}

/// A message's frames in order.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    segment: &'a Segment,
    next: usize,
    end: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.next == self.end {
            return None;
        }
        let start = if self.next == 0 { 0 } else { self.segment.ends[self.next - 1] as usize };
        let end = self.segment.ends[self.next] as usize;
        self.next += 1;
        Some(&self.segment.bytes[start..end])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Frames<'_> {}

impl<'a> Message<'a> {
    fn record(&self) -> &'a Record {
        &self.segment.records[self.index]
    }

    /// Its number in the log, unique in this process and rising.
    pub fn seq(&self) -> u64 {
        self.segment.first_seq + self.index as u64
    }

    /// Every frame, the topic first.
    pub fn frames(&self) -> Frames<'a> {
        let after = self.segment.records.get(self.index + 1);
        let end = after.map_or(self.segment.ends.len(), |record| record.first_frame as usize);
        Frames { segment: self.segment, next: self.record().first_frame as usize, end }
    }

    /// Frame 0: what subscriptions match.
    pub fn topic(&self) -> &'a [u8] {
        self.frames().next().expect("a message has a frame")
    }

    /// Whether frame 0 is a topic beside a body. A single frame without alias or split is both at once.
    pub fn has_topic(&self) -> bool {
        self.record().stamp.original_frames || self.frames().len() > 1
    }

    /// The frames that are the body: all behind the topic, the first without what a split cut off; of a message without
    /// a topic its only frame.
    pub fn body(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let mut frames = self.frames();
        if self.has_topic() {
            frames.next();
        }
        let cut = self.record().stamp.body_start as usize;
        // A stamp from elsewhere may claim more than there is; then nothing is left, and nothing breaks.
        frames
            .enumerate()
            .map(move |(i, frame)| if i == 0 { frame.get(cut..).unwrap_or_default() } else { frame })
    }

    /// The frames as the publisher sent them, without alias and split.
    pub fn original_frames(&self) -> Frames<'a> {
        let mut frames = self.frames();
        if self.record().stamp.original_frames {
            frames.next();
        }
        frames
    }

    /// Where it stands in the recorded sequence; `None` on a topic that is not recorded.
    pub fn position(&self) -> Option<Position> {
        let Stamp { epoch, offset, .. } = self.record().stamp;
        (offset != 0).then_some(Position { epoch, offset })
    }

    /// When it entered, Unix nanoseconds.
    pub fn time_unix_ns(&self) -> u64 {
        self.record().stamp.time_unix_ns
    }

    /// The encoding in `slot`, made by `encode` if this is the first want of it in the process. Cloning shares it.
    pub fn encoded(&self, slot: Slot, encode: impl FnOnce() -> Bytes) -> &'a Bytes {
        self.record().encodings.get_or_init(slot, || {
            let bytes = encode();
            let cost = bytes.len() + encodings::OVERHEAD_BYTES;
            self.segment.encoded_bytes.fetch_add(cost, Ordering::Relaxed);
            self.segment.log_encoded_bytes.fetch_add(cost, Ordering::Relaxed);
            bytes
        })
    }

    /// The encoding in `slot`, if somebody wanted it before.
    pub fn encoded_already(&self, slot: Slot) -> Option<&'a Bytes> {
        self.record().encodings.get(slot)
    }
}

/// Gathers messages until they are appended to a [`Log`](crate::Log) as one segment.
#[derive(Debug, Default)]
pub struct SegmentBuilder {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    records: Vec<Record>,
}

impl SegmentBuilder {
    /// Adds a message by copying its frames: a kept `zmq::Message` would pin libzmq's 8 KiB receive buffer.
    ///
    /// # Panics
    /// If it has no frame, or the segment grows beyond 4 GiB; append before that.
    pub fn push<'a>(&mut self, frames: impl IntoIterator<Item = &'a [u8]>, stamp: Stamp) {
        self.begin(stamp);
        for frame in frames {
            self.frame(frame);
        }
        self.end();
    }

    /// Starts a message whose frames come one by one; [`frame`](Self::frame) adds them, [`end`](Self::end) closes it,
    /// [`abandon`](Self::abandon) takes it back.
    pub fn begin(&mut self, stamp: Stamp) {
        let first_frame = u32::try_from(self.ends.len()).expect("a segment has less than 2^32 frames");
        self.records.push(Record { first_frame, stamp, encodings: Encodings::default() });
    }

    /// Adds the open message's next frame.
    pub fn frame(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.ends.push(u32::try_from(self.bytes.len()).expect("a segment is below 4 GiB"));
    }

    /// Closes the open message.
    pub fn end(&mut self) {
        let record = self.records.last().expect("a message was begun");
        assert!((record.first_frame as usize) < self.ends.len(), "a message has a frame");
    }

    /// Forgets the open message.
    pub fn abandon(&mut self) {
        let record = self.records.pop().expect("a message was begun");
        self.ends.truncate(record.first_frame as usize);
        self.bytes.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    /// Messages gathered.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of all frames gathered.
    pub fn frame_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Makes the segment and leaves the builder empty.
    pub(crate) fn build(&mut self, first_seq: u64, log_encoded_bytes: EncodedBytes) -> Arc<Segment> {
        self.make(first_seq, None, log_encoded_bytes)
    }

    /// Makes a segment that stands for a gap.
    pub(crate) fn gap(first_seq: u64, gap: Gap, log_encoded_bytes: EncodedBytes) -> Arc<Segment> {
        Self::default().make(first_seq, Some(gap), log_encoded_bytes)
    }

    fn make(&mut self, first_seq: u64, gap: Option<Gap>, log_encoded_bytes: EncodedBytes) -> Arc<Segment> {
        Arc::new(Segment {
            gap,
            first_seq,
            bytes: std::mem::take(&mut self.bytes).into(),
            ends: std::mem::take(&mut self.ends).into(),
            records: std::mem::take(&mut self.records).into(),
            by_topic: TopicIndex::default(),
            encoded_bytes: AtomicUsize::new(0),
            log_encoded_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
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
}
