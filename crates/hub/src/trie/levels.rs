//! Which levels of the trie hold anything, so that a match asks no other.

use super::relieve;

/// A counted set of lengths in bytes.
#[derive(Debug, Default)]
pub(super) struct Levels {
    counts: Vec<u32>,
    /// Bit `n` of octet `o` says whether length `8 * o + n` is counted.
    octets: Vec<u8>,
}

impl Levels {
    pub(super) fn add(&mut self, length: usize) {
        if length >= self.counts.len() {
            self.counts.resize(length + 1, 0);
            self.octets.resize(length / 8 + 1, 0);
        }
        self.counts[length] += 1;
        self.octets[length / 8] |= 1 << (length % 8);
    }

    /// Takes back one `add`.
    pub(super) fn remove(&mut self, length: usize) {
        self.counts[length] -= 1;
        if self.counts[length] > 0 {
            return;
        }
        self.octets[length / 8] &= !(1 << (length % 8));
        while self.counts.last() == Some(&0) {
            self.counts.pop();
        }
        self.octets.truncate(self.counts.len().div_ceil(8));
        relieve(&mut self.counts);
        relieve(&mut self.octets);
    }

    pub(super) fn has(&self, length: usize) -> bool {
        self.octets.get(length / 8).is_some_and(|octet| octet & 1 << (length % 8) != 0)
    }

    /// Eight lengths each, the shortest in the lowest bit of the first.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<u32>() + self.octets.capacity()
    }
}
