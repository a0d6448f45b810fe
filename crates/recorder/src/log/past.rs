//! What a replay and a snapshot ask.

use std::ops::Range;

use trestle_messages::Position;

use super::{Log, NotHere};
use crate::Message;

/// The last values of a part of the log, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The part, as far as it was listed.
    pub range: Range<u64>,
    /// Ascending.
    pub seqs: Vec<u64>,
}

impl Default for Listed {
    /// Of nothing.
    fn default() -> Self {
        Self { range: 0..0, seqs: Vec::new() }
    }
}

impl Listed {
    /// The first one from `seq` on.
    pub fn first_from(&self, seq: u64) -> Option<u64> {
        self.seqs.get(self.seqs.partition_point(|other| *other < seq)).copied()
    }

    /// Those in `range`, in their order.
    pub fn within(&self, range: &Range<u64>) -> &[u64] {
        let at = |seq: u64| self.seqs.partition_point(|other| *other < seq);
        &self.seqs[at(range.start)..at(range.end.max(range.start))]
    }
}

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

    /// The messages in `range` that are last values and that any of `wanted` matches, each a topic and whether only that very
    /// topic is meant: at most the first `n_max`. It costs what matches, not what the rings keep.
    ///
    /// What is a last value may cease to be one; none of `range` becomes one later, if all of it was appended.
    pub fn last_values<'a>(
        &self,
        wanted: impl IntoIterator<Item = (&'a [u8], bool)>,
        range: Range<u64>,
        n_max: usize,
    ) -> Listed {
        let mut seqs = Vec::new();
        let mut views = self.views();
        for (topic, exact) in wanted {
            views.last.matching(topic, exact, &range, &mut seqs);
        }
        drop(views);
        let is_cut = seqs.len() > n_max;
        if is_cut {
            // Not sorted as a whole: whoever wants the rest asks again from there on.
            seqs.select_nth_unstable(n_max);
            seqs.truncate(n_max);
        }
        seqs.sort_unstable();
        seqs.dedup();
        seqs.shrink_to_fit();
        let end = seqs.last().filter(|_| is_cut).map_or(range.end, |last| last + 1);
        Listed { range: range.start..end, seqs }
    }

    /// Whether `message` is the last value of its topic.
    pub fn is_last_value(&self, message: &Message<'_>) -> bool {
        let views = self.views();
        let is_current = message.position().map(|at| at.epoch) == views.epoch();
        is_current && views.last.is_last(message.topic(), message.seq())
    }
}
