//! The messages of the process, as segments that readers follow at their own pace.

mod bounds;
mod clone;
mod compact;
mod last;
mod live;
mod mark;
mod past;
mod removal;
mod replay;
mod ring;
mod shelf;
#[cfg(test)]
mod tests;
mod trim;
mod views;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trestle_messages::Position;

use crate::segment::EncodedBytes;
use crate::{Gap, RecordRules, Segment, SegmentBuilder};

use shelf::{Shelf, Shelved};
use views::Views;

pub use bounds::Bounds;
pub use clone::RingStarts;
pub use past::Listed;
pub use replay::Replay;
pub use shelf::Cursor;

/// One writer appends, each reader follows with its own [`Cursor`]: the writer never waits, and a slow reader holds up
/// nobody. A reader that falls behind the newest messages is told by [`Overrun`].
///
/// A message stays while any of these holds; it is there once, whoever needs it:
/// - it is among the newest [`bytes_max`](Bounds::bytes_max) bytes of all;
/// - it is recorded, and the ring of its rule has it (see [`record`](Self::record));
/// - it is recorded, and the last value of its topic, unless an empty body took it away or the [`Bounds`] did.
///
/// Before the newest the log is therefore sparse. Whoever goes back in it ([`read_from`](Self::read_from)) asks
/// [`complete_from`](Self::complete_from) whether all is there that it wants.
#[derive(Debug)]
pub struct Log {
    /// What keeps messages. Locked by the writer for a batch, and by who asks about the past; always before `shelf`.
    views: Mutex<Views>,
    /// Locked once for a batch by the writer and once for a drain by each reader, never for a message.
    shelf: Mutex<Shelf>,
    bounds: Bounds,
    /// What the readers' encodings of the newest messages cost; they count as the segments' own bytes do.
    newest_encoded_bytes: EncodedBytes,
    /// The same of the older ones.
    kept_encoded_bytes: EncodedBytes,
}

/// The reader fell off the log: what it had not read is gone. It goes on at the oldest of the newest messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{messages} messages fell off the log before they were read")]
pub struct Overrun {
    /// Messages it missed, at least 1.
    pub messages: u64,
}

/// Why a position is none of this log's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHere {
    /// The log's sequence is another one.
    #[error("the position is of another epoch")]
    OtherEpoch,
    /// The log has not come so far.
    #[error("the position is ahead of the log")]
    Ahead,
}

impl Log {
    /// A log that keeps at least its last segment, and older ones while all cost at most `bytes_max` with their encodings,
    /// beside what is [`record`](Self::record)ed and last values.
    pub fn new(bytes_max: usize) -> Self {
        Self::with_bounds(Bounds { bytes_max, ..Bounds::default() })
    }

    /// A log that keeps so much.
    pub fn with_bounds(bounds: Bounds) -> Self {
        let shelf = Shelf::default();
        Self {
            views: Mutex::new(Views::new(shelf.end.next_seq)),
            shelf: Mutex::new(shelf),
            bounds,
            newest_encoded_bytes: EncodedBytes::default(),
            kept_encoded_bytes: EncodedBytes::default(),
        }
    }

    // No code panics while it holds a lock; a poisoned one is as good as any.
    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is recorded, and how much of it is kept: each rule has a ring of its messages, bounded by bytes (those of the
    /// frames and 72 for each message, the same in every process) and age, so that no topic's flood evicts another rule's
    /// history. Before the first call nothing is kept longer than the newest messages and last values are.
    ///
    /// Where the rules change, a topic's history goes back as far as all rings reach that had some of its rule's topics.
    pub fn record(&self, rules: RecordRules) {
        let mut views = self.views();
        if views.rules == rules {
            return;
        }
        let (segments, kept) = {
            let shelf = self.shelf();
            (shelf.all().cloned().collect::<Vec<_>>(), shelf.kept_mark())
        };
        let segments_by_id = segments.iter().map(|shelved| (&*shelved.segment, shelved.id));
        views.record(rules, segments_by_id, kept);
        self.trim_rings(&mut views);
        self.tidy(&mut views, 0);
    }

    /// Appends what `batch` gathered as one segment and empties it; nothing if it is empty.
    pub fn append(&self, batch: &mut SegmentBuilder) {
        if batch.is_empty() {
            return;
        }
        let mut views = self.views();
        let encoded_bytes = self.newest_encoded_bytes.clone();
        let segment = match views.numbers(batch) {
            Some(numbers) => batch.build_sparse(numbers, encoded_bytes),
            None => batch.build(views.next_seq(), encoded_bytes),
        };
        self.push(&mut views, segment);
    }

    /// Appends the news that a part of the sequence will not come. No replay reaches across it. Where it leads to another
    /// epoch, rings and last values begin anew.
    pub fn append_gap(&self, gap: Gap) {
        let mut views = self.views();
        let seq = views.skip_to(gap.until);
        let segment = SegmentBuilder::gap(seq, gap, self.newest_encoded_bytes.clone());
        self.push(&mut views, segment);
    }

    fn push(&self, views: &mut Views, segment: Arc<Segment>) {
        let (id, appended_bytes) = (views.live.add(), segment.cost_bytes());
        views.enter(&segment, id, &self.bounds, |views, seq| {
            self.bound_last_values(views, &segment, id, seq);
        });
        let end = views.end();
        self.shelf().push(Shelved { segment, id, last: views.head() }, end);
        for ring in &mut views.rings {
            ring.drop_excess(&mut views.live);
        }
        self.pass_on(views);
        self.tidy(views, appended_bytes);
    }

    /// The oldest of the newest go, but for what is needed of them.
    fn pass_on(&self, views: &mut Views) {
        let mut passed = Vec::new();
        let mut shelf = self.shelf();
        let mut encoded_bytes = self.newest_encoded_bytes.load(Ordering::Relaxed);
        while shelf.newest_bytes() + encoded_bytes > self.bounds.bytes_max {
            let Some(oldest) = shelf.pass_on() else { break };
            encoded_bytes = encoded_bytes.saturating_sub(oldest.segment.encoded_bytes());
            views.pass_on(&oldest.segment);
            if views.live.bytes(oldest.id) > 0 {
                views.live.keep(oldest.id);
                let segment = oldest.segment.fresh(self.kept_encoded_bytes.clone());
                shelf.keep(Shelved { segment, ..oldest });
            } else {
                views.live.remove(oldest.id);
            }
            passed.push(oldest);
        }
        drop(shelf);
        // Freed here, outside the lock, where readers do not wait for it.
        drop(passed);
    }

    /// The sequence has come to `position` without a message here: where it stood at the start, or what was lost.
    /// Appended messages carry their own.
    pub fn advance(&self, position: Position) {
        let mut views = self.views();
        if views.position().is_none_or(|at| at.epoch != position.epoch || at.offset < position.offset) {
            views.skip_to(position);
            self.shelf().end = views.end();
        }
    }

    /// What is too old at `now_unix_ns` goes, of rings and of last values, and memory of what nobody needs is taken back.
    /// Call it about once a second. The clock may jump: what it let go once is gone, and what comes from its future stays
    /// until then, or until there is too much.
    pub fn expire(&self, now_unix_ns: u64) {
        let mut views = self.views();
        self.trim_rings(&mut views);
        self.expire_rings(&mut views, now_unix_ns);
        self.expire_last_values(&mut views, now_unix_ns);
        let kept_bytes = self.shelf().kept_bytes() + self.kept_encoded_bytes.load(Ordering::Relaxed);
        self.tidy(&mut views, kept_bytes / EXPIRE_TIDIES);
    }

    /// A cursor behind everything appended so far.
    pub fn cursor(&self) -> Cursor {
        self.shelf().cursor()
    }

    /// Adds all that `cursor` has not read to `out` and moves it to the end. After an [`Overrun`], too, `out` has all
    /// that is left of the newest messages.
    ///
    /// # Errors
    /// [`Overrun`] if segments were no longer among the newest before they were read.
    pub fn read(&self, cursor: &mut Cursor, out: &mut Vec<Arc<Segment>>) -> Result<(), Overrun> {
        self.shelf().read(cursor, out)
    }

    /// Adds to `out` at most `segments_max` segments from the one that has message `seq` on, or from the next that is left.
    /// Returns the number of the oldest message there is.
    pub fn read_from(&self, seq: u64, segments_max: usize, out: &mut Vec<Arc<Segment>>) -> u64 {
        let shelf = self.shelf();
        out.extend(shelf.segments_from(seq).take(segments_max).map(|shelved| Arc::clone(&shelved.segment)));
        shelf.oldest_seq()
    }

    /// The number of the oldest message there is; of the next one, if there is none.
    pub fn oldest_seq(&self) -> u64 {
        self.shelf().oldest_seq()
    }

    /// From this number on the log has every message, recorded or not.
    pub fn newest_seq(&self) -> u64 {
        self.shelf().newest_seq()
    }

    /// What it holds in memory.
    pub fn bytes(&self) -> usize {
        let table_bytes = self.views().last.memory_bytes();
        let shelf = self.shelf();
        let encoded = [&self.newest_encoded_bytes, &self.kept_encoded_bytes];
        let encoded_bytes: usize = encoded.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum();
        shelf.newest_bytes() + shelf.kept_bytes() + encoded_bytes + table_bytes
    }
}

/// Each call of [`Log::expire`] tidies so great a part of all that is kept, with the pace of
/// [`tidy`](Log::tidy): a round takes about a second.
const EXPIRE_TIDIES: usize = 4;
