//! The last value of each topic.

use std::collections::BTreeSet;
use std::ops::{Bound, Range};

use hashbrown::{DefaultHashBuilder, HashMap};
use smallvec::SmallVec;
use trestle_messages::topic::TOPIC_BYTES_MAX;

use super::Bounds;
use super::live::{Live, SegmentId};
use super::removal::is_removal;
use super::views::Held;
use crate::Message;

/// Topics of common lengths cost no allocation of their own.
type Topic = SmallVec<[u8; 24]>;

/// Which message is the last value of each topic. The messages are in the log's segments, in the order of their updates: the
/// least recent is found there.
#[derive(Debug, Default)]
pub(super) struct LastValues {
    by_topic: HashMap<Topic, Value, DefaultHashBuilder>,
    /// The topics in their order: for who asks by prefix, and from the first who does. A forwarder has none, and where there
    /// is one an update of a known topic does not touch it.
    sorted: Option<BTreeSet<Topic>>,
    /// Bytes of the messages, as rings count them.
    bytes: u64,
    /// Bytes of topics too long for their place in the table.
    topic_bytes: usize,
    /// All up to this offset went by a bound; those that stay are newer.
    gone_offset: u64,
    /// No message before this one is a last value.
    sought_seq: u64,
}

/// What a topic costs in its order, about: nodes of the tree are three quarters full.
const SORTED_BYTES: usize = size_of::<Topic>() * 4 / 3;

#[derive(Debug)]
struct Value {
    seq: u64,
    bytes: u32,
    segment: SegmentId,
}

impl LastValues {
    /// A recorded message comes.
    pub(super) fn update(&mut self, message: &Message<'_>, held: &Held<'_>, live: &mut Live) {
        let Held { topic, mark, segment, .. } = *held;
        if !message.has_topic() || topic.len() > TOPIC_BYTES_MAX || mark.offset <= self.gone_offset {
            return;
        }
        if is_removal(message) {
            return self.remove(topic, live);
        }
        let bytes = u32::try_from(held.bytes).unwrap_or(u32::MAX);
        let value = Value { seq: mark.seq, bytes, segment };
        self.bytes += u64::from(bytes);
        live.hold_for_last(segment, bytes.into());
        match self.by_topic.get_mut(topic) {
            Some(known) => {
                let old = std::mem::replace(known, value);
                self.release(&old, live);
            }
            None => {
                self.topic_bytes += spilled_bytes(topic);
                let topic = Topic::from_slice(topic);
                if let Some(sorted) = &mut self.sorted {
                    sorted.insert(topic.clone());
                }
                self.by_topic.insert(topic, value);
            }
        }
    }

    fn remove(&mut self, topic: &[u8], live: &mut Live) {
        if let Some(old) = self.by_topic.remove(topic) {
            self.topic_bytes -= spilled_bytes(topic);
            if let Some(sorted) = &mut self.sorted {
                sorted.remove(topic);
            }
            self.release(&old, live);
        }
    }

    fn release(&mut self, old: &Value, live: &mut Live) {
        self.bytes -= u64::from(old.bytes);
        live.release_by_last(old.segment, old.bytes.into());
    }

    /// `message`, the least recent of all, goes by a bound.
    pub(super) fn expire(&mut self, message: &Message<'_>, live: &mut Live) {
        self.gone_offset = message.position().map_or(self.gone_offset, |at| at.offset.max(self.gone_offset));
        self.remove(message.topic(), live);
    }

    /// All up to this offset are to go, or not to come.
    pub(super) fn begin_after(&mut self, offset: u64) {
        self.gone_offset = self.gone_offset.max(offset);
    }

    /// Everything goes, and begins anew.
    pub(super) fn clear(&mut self, live: &mut Live) {
        for value in std::mem::take(&mut self.by_topic).into_values() {
            live.release_by_last(value.segment, value.bytes.into());
        }
        let sought_seq = self.sought_seq;
        *self = Self { sought_seq, ..Self::default() };
    }

    /// The numbers of all, in no order.
    pub(super) fn seqs(&self) -> impl Iterator<Item = u64> {
        self.by_topic.values().map(|value| value.seq)
    }

    /// Whether the message of that number is the last value of its topic.
    pub(super) fn is_last(&self, topic: &[u8], seq: u64) -> bool {
        self.by_topic.get(topic).is_some_and(|value| value.seq == seq)
    }

    /// Adds the numbers in `range` of the last values that a subscription of `topic` matches, in no order. It costs what
    /// matches, but for the first time that a prefix is asked for.
    pub(super) fn matching(&mut self, topic: &[u8], exact: bool, range: &Range<u64>, out: &mut Vec<u64>) {
        let Self { by_topic, sorted, .. } = self;
        let in_range = |value: &Value| range.contains(&value.seq).then_some(value.seq);
        if exact {
            out.extend(by_topic.get(topic).and_then(in_range));
        } else if topic.is_empty() {
            out.extend(by_topic.values().filter_map(in_range));
        } else {
            let sorted = sorted.get_or_insert_with(|| by_topic.keys().cloned().collect());
            let from = (Bound::Included(topic), Bound::Unbounded);
            let matching = sorted.range::<[u8], _>(from).take_while(|known| known.starts_with(topic));
            out.extend(matching.filter_map(|known| by_topic.get(known).and_then(in_range)));
        }
    }

    /// A last value's message is now in another segment.
    pub(super) fn move_to(&mut self, topic: &[u8], seq: u64, segment: SegmentId, live: &mut Live) {
        if let Some(value) = self.by_topic.get_mut(topic).filter(|value| value.seq == seq) {
            value.segment = segment;
            live.hold_for_last(segment, value.bytes.into());
        }
    }

    /// Whether there are more than there may be.
    pub(super) fn is_beyond(&self, bounds: &Bounds) -> bool {
        self.by_topic.len() > bounds.last_values_max || self.bytes > bounds.last_values_bytes_max
    }

    pub(super) fn gone_offset(&self) -> u64 {
        self.gone_offset
    }

    pub(super) fn sought_seq(&self) -> u64 {
        self.sought_seq
    }

    /// No message before this one is a last value.
    pub(super) fn seek(&mut self, seq: u64) {
        self.sought_seq = self.sought_seq.max(seq);
    }

    /// What the table holds in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let sorted = self.sorted.as_ref().map_or(0, |sorted| sorted.len() * SORTED_BYTES);
        // Long topics are there twice, too.
        let topics = if self.sorted.is_some() { 2 } else { 1 };
        self.by_topic.allocation_size() + sorted + topics * self.topic_bytes
    }
}

fn spilled_bytes(topic: &[u8]) -> usize {
    if topic.len() > Topic::default().inline_size() { topic.len() } else { 0 }
}
