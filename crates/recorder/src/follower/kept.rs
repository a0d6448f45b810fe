//! A message of the link as it is kept while it waits, and as a replay brings it.

use std::ops::Deref;

use bytes::Bytes;
use trestle_messages::Position;
use trestle_messages::v1::{ReplayBatch, Stamp};

use super::Batch;
use crate::{RecordRules, RingStarts};

/// A message that waits for what is missing before it, or comes in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The topic and what follows it; at least one.
    pub frames: Vec<Bytes>,
    /// Its place in the sequence.
    pub stamp: Stamp,
}

impl Kept {
    /// Copies a message, with its size: a kept ØMQ message pins libzmq's receive buffer.
    pub fn copy<F: Deref<Target = [u8]>>(frames: &[F], stamp: Stamp) -> (Self, usize) {
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
        let bytes = frames.iter().map(|frame| frame.len() + size_of::<Bytes>()).sum::<usize>();
        (Self { frames, stamp }, bytes + size_of::<Self>())
    }
}

impl Batch<Kept> {
    /// A batch as it came; `None` if it is not one of a replay in `epoch`.
    pub fn from_wire(batch: ReplayBatch, epoch: u64) -> Option<Self> {
        let start = batch.start.map(|start| {
            let rings = start.rings.into_iter().filter_map(|ring| Some((ring.rule?, ring.complete_after)));
            let (rules, rings): (Vec<_>, _) =
                rings.map(|(rule, after)| (rule.clone(), (rule.prefix.to_vec(), after))).unzip();
            let position = Position { epoch: start.epoch, offset: start.head };
            let starts = RingStarts { rings, last_values_after: start.last_values_after };
            (position, RecordRules::from(&rules[..]), starts)
        });
        let mut last = 0;
        let messages = batch.messages.into_iter().map(|message| {
            let stamp = message.stamp.filter(|stamp| stamp.epoch == epoch && stamp.offset > last)?;
            last = stamp.offset;
            let frames = message.frames;
            (!frames.is_empty()).then_some((stamp.offset, Kept { frames, stamp }))
        });
        Some(Self { start, messages: messages.collect::<Option<_>>()?, through: batch.through })
    }
}
