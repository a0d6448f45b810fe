//! Numbers that any thread reads, written by one or by all.

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

/// Counts by label, which any thread adds to: for what is seldom, beside deliveries.
#[derive(Debug)]
pub(crate) struct Labelled<const N: usize> {
    labels: [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Labelled<N> {
    pub(crate) const fn new(labels: [&'static str; N]) -> Self {
        Self { labels, counts: [const { AtomicU64::new(0) }; N] }
    }

    /// Adds one to the count of `label`; to the last one's, if there is none of this name.
    pub(crate) fn count(&self, label: &str) {
        let known = self.labels.iter().position(|known| *known == label);
        self.counts[known.unwrap_or(N - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// Each label and its count.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.labels.into_iter().zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
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

    #[test]
    fn each_label_has_its_count() {
        let counts = Labelled::new(["a", "b", "other"]);
        for label in ["b", "a", "b", "c"] {
            counts.count(label);
        }
        assert_eq!(counts.each().collect::<Vec<_>>(), [("a", 1), ("b", 2), ("other", 1)]);
    }
}
