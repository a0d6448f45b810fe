//! Memory of what nobody needs any more is taken back.

use std::sync::atomic::Ordering;

use super::Log;
use super::shelf::{Run, Shelved};
use super::views::Views;
use crate::SegmentBuilder;

/// What is needed of the segments that become one: a step takes less than a millisecond or so.
const LIVE_BYTES_MAX: u64 = 128 << 10;
/// Segments looked at in a step, with the lock that the readers take.
const LOOKED_AT_MAX: usize = 256;
/// A look at a segment counts as so many bytes.
const LOOK_BYTES: u64 = 256;
/// Bytes looked at for each byte appended: tidying overtakes whatever makes waste.
const PACE: usize = 4;
/// Bytes looked at at least.
const BUDGET_BYTES_MIN: usize = 256 << 10;

impl Log {
    /// Drops what nothing is needed of at the front, and, while more than half is waste, rewrites segments of which less
    /// than half is needed: those next to each other become one, without encodings. Does a bounded part of the work, in
    /// proportion to `appended_bytes`; readers are held up only while the result is put in its place.
    pub(super) fn tidy(&self, views: &mut Views, appended_bytes: usize) {
        self.drop_front(views);
        let mut budget = appended_bytes.saturating_mul(PACE).max(BUDGET_BYTES_MIN) as u64;
        while self.is_wasteful(views) && budget > 0 {
            let Some(run) = self.shelf().look(&views.live, LIVE_BYTES_MAX, LOOKED_AT_MAX) else { return };
            budget = budget.saturating_sub(run.memory_bytes + LOOK_BYTES * run.n_looked_at);
            if run.pays() {
                let new = if run.is_encoded { self.shed(&run) } else { self.rewrite(views, &run) };
                self.shelf().replace(&run, new);
            }
        }
    }

    fn drop_front(&self, views: &mut Views) {
        loop {
            let dropped = self.shelf().drop_front(&views.live);
            let Some(dropped) = dropped else { return };
            views.live.remove(dropped.id);
        }
    }

    fn is_wasteful(&self, views: &Views) -> bool {
        let memory = self.shelf().kept_bytes() + self.kept_encoded_bytes.load(Ordering::Relaxed);
        memory as u64 > 2 * views.live.kept_bytes() + self.bounds.waste_bytes_max as u64
    }

    /// The same segment without its encodings.
    fn shed(&self, run: &Run) -> Option<Shelved> {
        let Shelved { segment, id, last } = run.segments.first()?;
        let segment = segment.fresh(self.kept_encoded_bytes.clone());
        Some(Shelved { segment, id: *id, last: *last })
    }

    /// One segment of what is needed of several; `None` if that is nothing.
    fn rewrite(&self, views: &mut Views, run: &Run) -> Option<Shelved> {
        let last = run.segments.last()?.last;
        let (mut batch, mut seqs) = (SegmentBuilder::default(), Vec::new());
        let messages = run.segments.iter().flat_map(|shelved| shelved.segment.messages());
        for message in messages.filter(|message| views.needs(message)) {
            batch.push(message.frames(), message.stamp());
            seqs.push(message.seq());
        }
        let new = (!seqs.is_empty()).then(|| {
            let segment = batch.build_sparse(seqs, self.kept_encoded_bytes.clone());
            let id = views.live.add();
            views.live.keep(id);
            for ring in &mut views.rings {
                ring.move_parts(segment.first_seq(), segment.end_seq(), id, &mut views.live);
            }
            for message in segment.messages() {
                views.last.move_to(message.topic(), message.seq(), id, &mut views.live);
            }
            Shelved { segment, id, last }
        });
        for shelved in &run.segments {
            views.live.remove(shelved.id);
        }
        new
    }
}

impl Run {
    /// Whether it is worth the copy: what has once been tidied is left alone until a quarter of it is waste again.
    fn pays(&self) -> bool {
        if self.is_encoded {
            return true;
        }
        let after = self.live_bytes + crate::segment::SEGMENT_OVERHEAD_BYTES as u64;
        !self.segments.is_empty() && (self.live_bytes == 0 || 4 * after <= 3 * self.memory_bytes)
    }
}
