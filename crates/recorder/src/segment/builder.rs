//! Messages on their way into a segment.

use std::ops::Range;
use std::sync::Arc;

use trestle_messages::v1::Stamp;

use super::content::{Content, Record};
use super::index::TopicIndex;
use super::{EncodedBytes, Gap, Segment};

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
        self.records.push(Record { first_frame, stamp });
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

    /// The messages gathered: their frames and stamps.
    pub fn messages(&self) -> impl Iterator<Item = (impl Iterator<Item = &[u8]> + Clone, &Stamp)> {
        self.records.iter().enumerate().map(move |(index, record)| {
            let next = self.records.get(index + 1).map_or(self.ends.len(), |next| next.first_frame as usize);
            let end = |frame: usize| self.ends[frame] as usize;
            let start = move |frame: usize| frame.checked_sub(1).map_or(0, end);
            let frames =
                (record.first_frame as usize..next).map(move |frame| &self.bytes[start(frame)..end(frame)]);
            (frames, &record.stamp)
        })
    }

    /// The stamps of the messages gathered.
    pub(crate) fn stamps(&self) -> impl Iterator<Item = &Stamp> {
        self.records.iter().map(|record| &record.stamp)
    }

    /// Makes the segment and leaves the builder empty. Its messages are numbered from `first_seq` on.
    pub(crate) fn build(&mut self, first_seq: u64, log_encoded_bytes: EncodedBytes) -> Arc<Segment> {
        let end_seq = first_seq + self.records.len() as u64;
        self.make(first_seq..end_seq, None, None, log_encoded_bytes)
    }

    /// Makes a segment of messages with these numbers, one for each and rising.
    pub(crate) fn build_sparse(&mut self, seqs: Vec<u64>, log_encoded_bytes: EncodedBytes) -> Arc<Segment> {
        assert_eq!(seqs.len(), self.records.len(), "each message has a number");
        let (first, last) = (seqs.first().expect("a message"), seqs.last().expect("a message"));
        self.make(*first..last + 1, Some(seqs.into()), None, log_encoded_bytes)
    }

    /// Makes a segment that stands for a gap.
    pub(crate) fn gap(seq: u64, gap: Gap, log_encoded_bytes: EncodedBytes) -> Arc<Segment> {
        Self::default().make(seq..seq + 1, None, Some(gap), log_encoded_bytes)
    }

    fn make(
        &mut self,
        numbers: Range<u64>,
        seqs: Option<Box<[u64]>>,
        gap: Option<Gap>,
        log_encoded_bytes: EncodedBytes,
    ) -> Arc<Segment> {
        let content = Content {
            bytes: std::mem::take(&mut self.bytes).into(),
            ends: std::mem::take(&mut self.ends).into(),
            records: std::mem::take(&mut self.records).into(),
            seqs,
            by_topic: TopicIndex::default(),
        };
        Arc::new(Segment::new(Arc::new(content), numbers, gap, log_encoded_bytes))
    }
}
