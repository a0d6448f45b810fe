//! A replay as it goes out: batches of a log's messages, made one by one.

use std::sync::Arc;

use bytes::Bytes;
use trestle_messages::v1::{RecordRule, RecordedMessage, ReplayBatch, ReplayStart, Ring};

use crate::{Message, Replay, RingStarts, Segment};

/// The batches of a [`Replay`], in order; the last one says where it ends, even if it has no message.
#[derive(Debug)]
pub struct ReplayBatches {
    replay: Replay,
    through: u64,
    batch_bytes_max: usize,
    /// What is being sent, and which of its messages are left, the last first.
    segment: Option<(Arc<Segment>, Vec<u32>)>,
    start: Option<ReplayStart>,
    /// The last batch is out.
    sent: bool,
}

impl ReplayBatches {
    /// What `replay` has up to `through` (0: all of it), of a log whose rules are `recorded`. A batch with
    /// `batch_bytes_max` of frames is closed.
    pub fn new(replay: Replay, recorded: &[RecordRule], through: u64, batch_bytes_max: usize) -> Self {
        let head = replay.position().offset;
        let through = if through == 0 { head } else { through.min(head) };
        let start = start(&replay, recorded);
        Self { replay, through, batch_bytes_max, segment: None, start: Some(start), sent: false }
    }

    fn last(&mut self, batch: ReplayBatch) -> ReplayBatch {
        self.sent = true;
        ReplayBatch { through: self.through, ..batch }
    }
}

impl Iterator for ReplayBatches {
    type Item = ReplayBatch;

    fn next(&mut self) -> Option<ReplayBatch> {
        if self.sent {
            return None;
        }
        let mut batch = ReplayBatch { messages: Vec::new(), through: 0, start: self.start.take() };
        let mut bytes = 0;
        while bytes < self.batch_bytes_max {
            let Some((segment, left)) = &mut self.segment else {
                let mut indices = Vec::new();
                self.segment = self.replay.read(&mut indices).map(|segment| {
                    indices.reverse();
                    (segment, indices)
                });
                if self.segment.is_none() {
                    return Some(self.last(batch));
                }
                continue;
            };
            let Some(index) = left.pop() else {
                self.segment = None;
                continue;
            };
            let message = segment.message(index as usize);
            let offset = message.position().map_or(0, |position| position.offset);
            if offset > self.through {
                return Some(self.last(batch));
            }
            let message = recorded(&message);
            bytes += message.frames.iter().map(Bytes::len).sum::<usize>();
            batch.through = offset;
            batch.messages.push(message);
        }
        Some(batch)
    }
}

fn start(replay: &Replay, recorded: &[RecordRule]) -> ReplayStart {
    let RingStarts { rings, last_values_after } = replay.starts();
    let complete_after =
        |rule: &RecordRule| rings.iter().find(|(prefix, _)| *prefix == rule.prefix).map_or(0, |(_, at)| *at);
    let ring = |rule: &RecordRule| Ring { complete_after: complete_after(rule), rule: Some(rule.clone()) };
    ReplayStart {
        epoch: replay.position().epoch,
        head: replay.position().offset,
        rings: recorded.iter().map(ring).collect(),
        last_values_after: *last_values_after,
    }
}

fn recorded(message: &Message<'_>) -> RecordedMessage {
    let frames = message.frames().map(Bytes::copy_from_slice).collect();
    RecordedMessage { frames, stamp: Some(message.stamp()) }
}
