//! Where the recorded sequence stands at a message's number.

/// An offset of the current epoch and the number, in the log, of the message that has it. Both rise together, also where
/// the message itself is gone or never was here: numbers leave room for the offsets in between.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: u64,
    pub(super) seq: u64,
}

/// Numbers are skipped for at most so many missing offsets, so that no stamp from elsewhere uses them up.
const SKIP_MAX: u64 = 1 << 40;

impl Mark {
    /// Where `offset`, not before this one, stands if nothing but recorded messages comes in between.
    pub(super) fn at(self, offset: u64) -> Self {
        Self { offset, seq: self.seq + offset.saturating_sub(self.offset).min(SKIP_MAX) }
    }

    /// Numbers to leave free before a message at `offset` that follows this one.
    pub(super) fn skipped(self, offset: u64) -> u64 {
        offset.saturating_sub(self.offset).saturating_sub(1).min(SKIP_MAX)
    }
}
