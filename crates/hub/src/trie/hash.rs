//! Hashes of everything that a topic begins with, each made from the one before.

use std::hash::{BuildHasher, RandomState};

/// Secret numbers of one trie: who does not know them cannot choose topics whose hashes collide.
#[derive(Debug)]
pub(super) struct Seed {
    start: u64,
    step: u64,
    end: u64,
}

impl Default for Seed {
    fn default() -> Self {
        let random = RandomState::new();
        Self { start: random.hash_one(0), step: random.hash_one(1), end: random.hash_one(2) }
    }
}

impl Seed {
    /// Before the first word of a topic.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// One word of 8 bytes further.
    pub(super) fn step(&self, state: u64, word: u64) -> u64 {
        folded_product(state ^ word, self.step)
    }

    /// The hash of what ends after the first `n` bytes of the word that comes next, 0..=7.
    pub(super) fn end(&self, state: u64, word: u64, n: usize) -> u32 {
        let tail = word & ((1 << (8 * n)) - 1);
        folded_product(state ^ tail, self.end ^ n as u64) as u32
    }

    /// The hash of a whole topic.
    pub(super) fn hash(&self, topic: &[u8]) -> u32 {
        let (words, tail) = topic.as_chunks();
        let state = words.iter().fold(self.start, |state, word| self.step(state, u64::from_le_bytes(*word)));
        self.end(state, word(tail), tail.len())
    }
}

/// The first 8 bytes, or all there are with zeros behind them, the first byte lowest.
pub(super) fn word(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk() {
        u64::from_le_bytes(*whole)
    } else if let (Some(head), Some(tail)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // The two may overlap, where they agree.
        u64::from(u32::from_le_bytes(*head)) | u64::from(u32::from_le_bytes(*tail)) << (8 * (bytes.len() - 4))
    } else {
        bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }
}

/// Both halves of the product, so that each bit of it depends on bits from everywhere.
fn folded_product(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hash_on_the_way_is_the_hash_of_the_beginning(topic in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (seed, mut state) = (Seed::default(), 0);
            for n in 0..=topic.len() {
                if n % 8 == 0 {
                    state = if n == 0 { seed.start() } else { seed.step(state, word(&topic[n - 8..])) };
                }
                let on_the_way = seed.end(state, word(&topic[n / 8 * 8..]), n % 8);
                prop_assert_eq!(on_the_way, seed.hash(&topic[..n]));
            }
        }

        #[test]
        fn a_word_is_padded_with_zeros(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut padded = bytes.clone();
            padded.resize(12, 0);
            prop_assert_eq!(word(&bytes), word(&padded));
        }
    }

    #[test]
    fn topics_that_differ_little_have_hashes_of_their_own() {
        let seed = Seed::default();
        let zeros = (0..=255).map(|n| vec![0; n]);
        let numbers = (0..20_000u32).map(|n| n.to_be_bytes().to_vec());
        let texts = (0..20_000).map(|n| format!("jobs/{n}/progress").into_bytes());
        let hashes: Vec<_> = zeros.chain(numbers).chain(texts).map(|topic| seed.hash(&topic)).collect();
        let distinct: HashSet<_> = hashes.iter().collect();
        // Of 40,256 random numbers of 32 bits 0.2 pairs are equal on average.
        assert!(hashes.len() - distinct.len() < 10, "{} collide", hashes.len() - distinct.len());
    }
}
