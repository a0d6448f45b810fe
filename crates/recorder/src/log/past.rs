//! What a replay and a snapshot ask.

use trestle_messages::Position;

use super::{Log, NotHere};
use crate::Message;

impl Log {
    /// The number where a replay from `position` begins: all recorded messages with this number or a higher one are behind
    /// it. Compare it with [`complete_from`](Self::complete_from) to know whether any is missing.
    ///
    /// # Errors
    /// [`NotHere`] if the log's sequence has not been there.
    pub fn seq_after(&self, position: Position) -> Result<u64, NotHere> {
        let views = self.views();
        if views.epoch() != Some(position.epoch) {
            return Err(NotHere::OtherEpoch);
        }
        if position.offset > views.head().offset.max(views.promised_offset) {
            return Err(NotHere::Ahead);
        }
        Ok(self.mark_at(&views, position.offset).map_or(0, |mark| mark.seq + 1))
    }

    /// The number from which on the log has every recorded message that a subscription of `topic` may match: a replay
    /// that begins there or later misses nothing. All logs that record the same by the same rules agree on it.
    pub fn complete_from(&self, topic: &[u8], exact: bool) -> u64 {
        let mut views = self.views();
        self.trim_rings(&mut views);
        let gone = views.gone(topic, exact).map_or(0, |mark| mark.seq);
        views.whole().seq.max(gone) + 1
    }

    /// The number from which on the log has every recorded message.
    pub fn complete_from_all(&self) -> u64 {
        self.complete_from(b"", false)
    }

    /// The number from which on whoever reads the log already finds every recorded message that a subscription of `topic`
    /// may match, or the [`Gap`](crate::Gap)s where they are missing. It may be lower than
    /// [`complete_from`](Self::complete_from): a ring may have let go what is still among the newest messages, and a gap
    /// that is met in its place is no reason to stop reading.
    pub fn readable_from(&self, topic: &[u8], exact: bool) -> u64 {
        let mut views = self.views();
        self.trim_rings(&mut views);
        let gone = views.gone(topic, exact).map_or(0, |mark| mark.seq + 1);
        let newest = self.shelf().newest_seq();
        // What came before the epoch is only among the newest.
        gone.max(views.epoch_seq()).min(newest).max(views.gap_gone_seq() + 1)
    }

    /// Whether `message` is the last value of its topic.
    pub fn is_last_value(&self, message: &Message<'_>) -> bool {
        let views = self.views();
        let is_current = message.position().map(|at| at.epoch) == views.epoch();
        is_current && views.last.is_last(message.topic(), message.seq())
    }
}
