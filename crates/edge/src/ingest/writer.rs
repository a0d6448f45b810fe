//! What goes into the log, in its order: messages in batches, and what is said between them.

use std::sync::Arc;

use tokio::sync::Notify;
use trestle_messages::Position;
use trestle_messages::v1::Stamp;
use trestle_recorder::{Gap, Log, RecordRules, RingStarts, SegmentBuilder};

use super::upstream::Upstream;

/// Bytes of a batch, beyond which it is closed early.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The only writer of the log. Readers see what it wrote after [`flush`](Self::flush).
pub(super) struct Writer {
    batch: SegmentBuilder,
    log: Arc<Log>,
    shards: Vec<Arc<Notify>>,
    pub(super) upstream: Arc<Upstream>,
    /// The shards have not been told of all that is in the log.
    is_news: bool,
}

impl Writer {
    /// Writes to `log` and tells `shards`.
    pub(super) fn new(log: Arc<Log>, shards: Vec<Arc<Notify>>, upstream: Arc<Upstream>) -> Self {
        Self { batch: SegmentBuilder::default(), log, shards, upstream, is_news: false }
    }

    /// Adds a message.
    pub(super) fn push<'a>(&mut self, frames: impl IntoIterator<Item = &'a [u8]>, stamp: Stamp) {
        self.batch.push(frames, stamp);
        if self.batch.frame_bytes() >= BATCH_BYTES_MAX {
            self.append();
        }
    }

    /// The sequence stands at `position` without a message.
    pub(super) fn advance(&mut self, position: Position) {
        self.append();
        self.log.advance(position);
        self.is_news = true;
    }

    /// A part of the sequence will not come.
    pub(super) fn gap(&mut self, gap: Gap) {
        self.append();
        self.log.append_gap(gap);
        self.is_news = true;
    }

    /// The log becomes a clone of one that stands at `position`.
    pub(super) fn begin(&mut self, position: Position, starts: &RingStarts) {
        self.append();
        self.log.begin(position, starts);
        self.is_news = true;
    }

    /// What is kept from now on.
    pub(super) fn record(&mut self, rules: RecordRules) {
        self.append();
        self.log.record(rules);
    }

    /// What is too old at `now_unix_ns` goes.
    pub(super) fn expire(&self, now_unix_ns: u64) {
        self.log.expire(now_unix_ns);
    }

    /// Appends what was gathered and wakes the shards if there is anything new.
    pub(super) fn flush(&mut self) {
        self.append();
        if std::mem::take(&mut self.is_news) {
            self.shards.iter().for_each(|shard| shard.notify_one());
        }
    }

    fn append(&mut self) {
        if !self.batch.is_empty() {
            self.upstream.messages.add(self.batch.len() as u64);
            self.upstream.bytes.add(self.batch.frame_bytes() as u64);
            self.log.append(&mut self.batch);
            self.is_news = true;
        }
    }
}
