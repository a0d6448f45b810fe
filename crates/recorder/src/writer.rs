//! What goes into a log, in its order: messages in batches, and what is said between them.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use trestle_messages::Position;
use trestle_messages::v1::Stamp;

use crate::{Action, Ask, Follower, Gap, Kept, Log, Passing, RecordRules, RingStarts, SegmentBuilder};

/// Bytes of a batch, beyond which it is closed early.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The only writer of a log. Readers see all that it wrote after [`flush`](Self::flush).
#[derive(Debug)]
pub struct LogWriter {
    batch: SegmentBuilder,
    log: Arc<Log>,
    written: Written,
    /// Something was written since the last flush.
    is_news: bool,
}

/// Messages that were written, and the bytes of their frames.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How many.
    pub messages: u64,
    /// All their frames together.
    pub bytes: u64,
}

/// What a [`Follower`] says that does not concern the log alone.
#[derive(Debug, Clone, PartialEq)]
pub enum Errand {
    /// Upstream is asked for what these rules record; the log records by them already.
    Rules(RecordRules),
    /// The forwarder is to be asked for this.
    Replay(Ask),
    /// All that is kept upstream is here.
    Cloned,
}

impl LogWriter {
    /// Writes to `log`.
    pub fn new(log: Arc<Log>) -> Self {
        Self { batch: SegmentBuilder::default(), log, written: Written::default(), is_news: false }
    }

    /// Takes a message of the link, its frames without the stamp: into the log, if `follower` says so. Then its actions are
    /// to be [obeyed](Self::obey).
    pub fn take<F: Deref<Target = [u8]>>(
        &mut self,
        follower: &mut Follower<Kept>,
        frames: &[F],
        stamp: Stamp,
        now: Instant,
    ) {
        if follower.on_stamp(&stamp, now, || Kept::copy(frames, stamp)) == Passing::Now {
            self.push(frames.iter().map(|frame| &frame[..]), stamp);
        }
    }

    /// Does what a follower says of the log; the rest is the caller's.
    pub fn obey(&mut self, action: Action<Kept>) -> Option<Errand> {
        match action {
            Action::Rules(rules) => {
                self.record(rules.clone());
                return Some(Errand::Rules(rules));
            }
            Action::Begin(position, starts) => self.begin(position, &starts),
            Action::Deliver(Kept { frames, stamp }) => {
                self.push(frames.iter().map(|frame| &frame[..]), stamp);
            }
            Action::Advance(position) => self.advance(position),
            Action::Gap(gap) => self.gap(gap),
            Action::Replay(ask) => return Some(Errand::Replay(ask)),
            Action::Cloned => return Some(Errand::Cloned),
        }
        None
    }

    /// Adds a message.
    pub fn push<'a>(&mut self, frames: impl IntoIterator<Item = &'a [u8]>, stamp: Stamp) {
        self.batch.push(frames, stamp);
        if self.batch.frame_bytes() >= BATCH_BYTES_MAX {
            self.append();
        }
    }

    /// The sequence stands at `position` without a message.
    pub fn advance(&mut self, position: Position) {
        self.append();
        self.log.advance(position);
        self.is_news = true;
    }

    /// A part of the sequence will not come.
    pub fn gap(&mut self, gap: Gap) {
        self.append();
        self.log.append_gap(gap);
        self.is_news = true;
    }

    /// The log becomes a clone of one that stands at `position`.
    pub fn begin(&mut self, position: Position, starts: &RingStarts) {
        self.append();
        self.log.begin(position, starts);
        self.is_news = true;
    }

    /// What is kept from now on.
    pub fn record(&mut self, rules: RecordRules) {
        self.append();
        self.log.record(rules);
    }

    /// What is too old at `now_unix_ns` goes.
    pub fn expire(&self, now_unix_ns: u64) {
        self.log.expire(now_unix_ns);
    }

    /// Appends what was gathered. Returns what was written since the last call, if anything is new to readers.
    pub fn flush(&mut self) -> Option<Written> {
        self.append();
        let written = std::mem::take(&mut self.written);
        std::mem::take(&mut self.is_news).then_some(written)
    }

    fn append(&mut self) {
        if !self.batch.is_empty() {
            self.written.messages += self.batch.len() as u64;
            self.written.bytes += self.batch.frame_bytes() as u64;
            self.log.append(&mut self.batch);
            self.is_news = true;
        }
    }
}
