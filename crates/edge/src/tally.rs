//! A number that one thread writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter or gauge with a single writer: adding is a plain load and store, no locked instruction, so that it may
/// stand in the delivery loop. Two writers would lose counts, but never corrupt memory.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.value().wrapping_add(n));
    }

    /// Takes `n` away; a gauge never falls below what was added.
    #[inline]
    pub fn sub(&self, n: u64) {
        debug_assert!(self.value() >= n, "more was taken away than added");
        self.set(self.value().saturating_sub(n));
    }

    /// Replaces the number.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number now.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_up_and_down() {
        let tally = Tally::default();
        tally.add(5);
        tally.sub(2);
        assert_eq!(tally.value(), 3);
        tally.set(9);
        assert_eq!(tally.value(), 9);
    }
}
