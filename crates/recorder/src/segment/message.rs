//! One message of a segment.

use bytes::Bytes;
use trestle_messages::Position;
use trestle_messages::v1::Stamp;

use super::content::{Content, Record};
use super::encodings::{self, Slot};
use super::{RECORD_OVERHEAD_BYTES, Segment};

/// One message: its frames as they are routed (a topic frame in front where alias or split put one) and its stamp.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub(super) segment: &'a Segment,
    pub(super) index: usize,
}

/// A message's frames in order.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    content: &'a Content,
    next: usize,
    end: usize,
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.next == self.end {
            return None;
        }
        let start = if self.next == 0 { 0 } else { self.content.ends[self.next - 1] as usize };
        let end = self.content.ends[self.next] as usize;
        self.next += 1;
        Some(&self.content.bytes[start..end])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Frames<'_> {}

impl<'a> Message<'a> {
    fn content(&self) -> &'a Content {
        &self.segment.content
    }

    fn record(&self) -> &'a Record {
        &self.content().records[self.index]
    }

    /// Its number in the log, unique in this process and rising.
    pub fn seq(&self) -> u64 {
        self.segment.seq(self.index)
    }

    /// Every frame, the topic first.
    pub fn frames(&self) -> Frames<'a> {
        let content = self.content();
        let after = content.records.get(self.index + 1);
        let end = after.map_or(content.ends.len(), |record| record.first_frame as usize);
        Frames { content, next: self.record().first_frame as usize, end }
    }

    /// Frame 0: what subscriptions match.
    pub fn topic(&self) -> &'a [u8] {
        let (content, frame) = (self.content(), self.record().first_frame as usize);
        let start = if frame == 0 { 0 } else { content.ends[frame - 1] as usize };
        &content.bytes[start..content.ends[frame] as usize]
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

    /// Its stamp.
    /// Its stamp, as it came.
    pub fn stamp(&self) -> Stamp {
        self.record().stamp
    }

    /// What it counts in a ring: its frames and what each message costs beside them. The same in every process, so that
    /// all replicas keep the same.
    pub(crate) fn ring_bytes(&self) -> u64 {
        let Frames { content, next, end } = self.frames();
        let start = if next == 0 { 0 } else { content.ends[next - 1] };
        u64::from(content.ends[end - 1] - start) + RECORD_OVERHEAD_BYTES as u64
    }

    /// The encoding in `slot`, made by `encode` if this is the first want of it in the process. Cloning shares it.
    pub fn encoded(&self, slot: Slot, encode: impl FnOnce() -> Bytes) -> &'a Bytes {
        self.segment.encodings(self.index).get_or_init(slot, || {
            let bytes = encode();
            self.segment.count_encoded(bytes.len() + encodings::OVERHEAD_BYTES);
            bytes
        })
    }

    /// The encoding in `slot`, if somebody wanted it before.
    pub fn encoded_already(&self, slot: Slot) -> Option<&'a Bytes> {
        self.segment.encodings.get()?[self.index].get(slot)
    }
}
