//! What the proxy thread keeps of what it passes on: copies, because a kept ØMQ message pins libzmq's receive buffer.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use trestle_messages::Position;
use trestle_messages::v1::Stamp;
use trestle_recorder::{Bounds, Log, RecordRules, SegmentBuilder};

/// Nobody reads the newest messages here but replays, which read the rings.
const NEWEST_BYTES_MAX: usize = 1 << 20;
/// Bytes of a batch, beyond which it is closed early.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What is too old goes this often.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// The log that replays are read from, for `rules` and an epoch that begins.
pub(crate) fn new_log(rules: RecordRules, epoch: u64) -> Log {
    let log = Log::with_bounds(Bounds { bytes_max: NEWEST_BYTES_MAX, ..Bounds::default() });
    log.record(rules);
    log.advance(Position { epoch, offset: 0 });
    log
}

/// From this offset on everything recorded is held.
pub(crate) fn tail(log: &Log) -> u64 {
    let rings = log.ring_starts().rings;
    let head = log.cursor().position().map_or(0, |position| position.offset);
    rings.iter().map(|(_, complete_after)| complete_after + 1).max().unwrap_or(head + 1)
}

/// Gathers a turn's recorded messages and appends them to the log at once.
pub(crate) struct Recording {
    log: Arc<Log>,
    batch: SegmentBuilder,
    expire_at: Instant,
}

impl Recording {
    pub(crate) fn new(log: Arc<Log>, now: Instant) -> Self {
        Self { log, batch: SegmentBuilder::default(), expire_at: now + EXPIRE_INTERVAL }
    }

    /// A recorded message begins; its [`frame`](Self::frame)s and its [`end`](Self::end) follow.
    pub(crate) fn begin(&mut self, stamp: Stamp) {
        self.batch.begin(stamp);
    }

    pub(crate) fn frame(&mut self, bytes: &[u8]) {
        self.batch.frame(bytes);
    }

    pub(crate) fn end(&mut self) {
        self.batch.end();
        if self.batch.frame_bytes() >= BATCH_BYTES_MAX {
            self.flush();
        }
    }

    /// Appends what was gathered.
    pub(crate) fn flush(&mut self) {
        self.log.append(&mut self.batch);
    }

    /// Lets go what is too old, when it is time.
    pub(crate) fn expire(&mut self, now: Instant) {
        if now >= self.expire_at {
            self.expire_at = now + EXPIRE_INTERVAL;
            self.log.expire(unix_ns());
        }
    }

    /// From this offset on everything recorded is held.
    pub(crate) fn tail(&self) -> u64 {
        tail(&self.log)
    }
}

/// Nanoseconds since 1970 by the system's clock.
pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
