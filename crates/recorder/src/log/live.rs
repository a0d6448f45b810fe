//! How many bytes of each segment are still needed.

/// A segment's number while it is in the log; used again afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentId(u32);

#[derive(Debug, Default, Clone, Copy)]
struct Needed {
    ring_bytes: u64,
    last_bytes: u64,
    is_kept: bool,
}

/// What rings and last values need of each segment. A message that both need counts twice.
#[derive(Debug, Default)]
pub(super) struct Live {
    segments: Vec<Needed>,
    free: Vec<SegmentId>,
    /// Needed of those segments that are no longer among the newest.
    kept_bytes: u64,
}

impl Live {
    /// A segment comes, of which nothing is needed yet.
    pub(super) fn add(&mut self) -> SegmentId {
        if let Some(id) = self.free.pop() {
            return id;
        }
        self.segments.push(Needed::default());
        SegmentId(u32::try_from(self.segments.len() - 1).expect("a log has less than 2^32 segments"))
    }

    /// A segment leaves the log, or its messages have moved to another.
    pub(super) fn remove(&mut self, id: SegmentId) {
        let gone = std::mem::take(self.of(id));
        if gone.is_kept {
            self.kept_bytes -= gone.ring_bytes + gone.last_bytes;
        }
        self.free.push(id);
    }

    /// A segment is no longer among the newest.
    pub(super) fn keep(&mut self, id: SegmentId) {
        let needed = self.of(id);
        needed.is_kept = true;
        self.kept_bytes += self.bytes(id);
    }

    fn of(&mut self, id: SegmentId) -> &mut Needed {
        &mut self.segments[id.0 as usize]
    }

    /// A ring needs so much more of it.
    pub(super) fn hold_for_ring(&mut self, id: SegmentId, bytes: u64) {
        let needed = self.of(id);
        needed.ring_bytes += bytes;
        self.kept_bytes += if needed.is_kept { bytes } else { 0 };
    }

    /// A ring needs so much less of it.
    pub(super) fn release_by_ring(&mut self, id: SegmentId, bytes: u64) {
        let needed = self.of(id);
        needed.ring_bytes -= bytes;
        self.kept_bytes -= if needed.is_kept { bytes } else { 0 };
    }

    /// It has a last value more.
    pub(super) fn hold_for_last(&mut self, id: SegmentId, bytes: u64) {
        let needed = self.of(id);
        needed.last_bytes += bytes;
        self.kept_bytes += if needed.is_kept { bytes } else { 0 };
    }

    /// It has a last value less.
    pub(super) fn release_by_last(&mut self, id: SegmentId, bytes: u64) {
        let needed = self.of(id);
        needed.last_bytes -= bytes;
        self.kept_bytes -= if needed.is_kept { bytes } else { 0 };
    }

    /// Bytes that are needed of it.
    pub(super) fn bytes(&self, id: SegmentId) -> u64 {
        let needed = self.segments[id.0 as usize];
        needed.ring_bytes + needed.last_bytes
    }

    /// Whether it has a last value.
    pub(super) fn has_last(&self, id: SegmentId) -> bool {
        self.segments[id.0 as usize].last_bytes > 0
    }

    /// Bytes that are needed of all segments that are no longer among the newest.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }
}
