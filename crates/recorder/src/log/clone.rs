//! How a log becomes the clone of another.

use trestle_messages::Position;

use super::Log;
use super::mark::Mark;
use super::views::Views;

/// Where each ring of a log begins, so that a clone knows what it cannot know from the messages: what is not there.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RingStarts {
    /// Each rule's prefix, and the offset behind which its ring has every message.
    pub rings: Vec<(Vec<u8>, u64)>,
    /// All last values are behind this offset: the older ones went by a bound, not by a newer value.
    pub last_values_after: u64,
}

impl Log {
    /// Where the rings begin now. A [`Replay`](super::Replay) says it of its moment.
    pub fn ring_starts(&self) -> RingStarts {
        self.starts(&mut self.views())
    }

    pub(super) fn starts(&self, views: &mut Views) -> RingStarts {
        self.trim_rings(views);
        let whole = views.whole().offset;
        let rules = views.rules.iter().zip(&views.rings);
        let rings = rules.map(|(rule, ring)| (rule.prefix.clone(), ring.gone_offset().max(whole)));
        RingStarts { rings: rings.collect(), last_values_after: views.last.gone_offset() }
    }

    /// This log is to be a clone of one that stands at `position`, whose rings begin at `starts`: its messages follow, in
    /// their order, but not every offset among them. Until they have come, the log says of none of them that it has it.
    ///
    /// Call it behind [`record`](Self::record). In another epoch than the log's the sequence begins anew, as with a gap to
    /// offset 0; what the log has of the same epoch stays.
    pub fn begin(&self, position: Position, starts: &RingStarts) {
        let mut views = self.views();
        if views.epoch() != Some(position.epoch) {
            views.skip_to(Position { offset: 0, ..position });
        }
        views.promised_offset = views.promised_offset.max(position.offset);
        for rule in 0..views.rings.len() {
            let prefix = &views.rules.iter().nth(rule).expect("each ring has a rule").prefix;
            let start = starts.rings.iter().find(|(other, _)| other == prefix);
            if let Some((_, offset)) = start.filter(|(_, offset)| *offset > views.rings[rule].gone_offset()) {
                self.start_ring(&mut views, rule, *offset);
            }
        }
        views.last.begin_after(starts.last_values_after);
        self.expire_while(&mut views, |_, message| {
            message.position().is_some_and(|at| at.offset <= starts.last_values_after)
        });
        self.shelf().end = views.end();
    }

    /// A ring has nothing up to `offset`.
    fn start_ring(&self, views: &mut Views, rule: usize, offset: u64) {
        let before = self.mark_at(views, offset).unwrap_or_default();
        let gone = before.at(offset);
        views.rings[rule].drop_parts_to(offset, &mut views.live);
        self.trim_front(views, rule, |_, mark| mark.offset <= offset);
        views.rings[rule].place_gone(gone);
    }

    /// The newest place that is known at or before `offset`.
    pub(super) fn mark_at(&self, views: &Views, offset: u64) -> Option<Mark> {
        let epoch = views.epoch()?;
        let held = self.shelf().mark_at(offset, epoch, views.epoch_seq());
        let known = views.marks().filter(|mark| mark.offset <= offset);
        known.chain(held).max_by_key(|mark| mark.seq)
    }
}
