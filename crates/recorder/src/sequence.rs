//! A publisher's own counter, where it sends one: what was lost before it came here.

use std::collections::HashMap;

/// Topics whose counters are followed at once; further ones are not.
const TOPICS_MAX: usize = 10_000;

/// Follows the counters of topics that begin with one of some prefixes. The counter is a message's last frame: four bytes,
/// little-endian, one more with each message of a topic and wrapping at 2³², as Bitcoin Core sends it.
#[derive(Debug, Default)]
pub struct Sequences {
    prefixes: Vec<Vec<u8>>,
    /// By source, which two publishers of one topic are.
    last: Vec<HashMap<Box<[u8]>, u32>>,
    n_topics: usize,
}

impl Sequences {
    /// Follows topics that begin with one of `prefixes`.
    pub fn new(prefixes: Vec<Vec<u8>>) -> Self {
        Self { prefixes, ..Self::default() }
    }

    /// Whether `topic` has a counter to follow.
    pub fn follows(&self, topic: &[u8]) -> bool {
        // As in `RecordRules::ruling`, the empty prefix is not compared.
        self.prefixes.iter().any(|prefix| prefix.is_empty() || topic.starts_with(prefix))
    }

    /// A message of `source` (a small number) on a topic that is followed; returns how many before it are missing. The first of a topic tells nothing,
    /// nor does one that steps back: its publisher has begun anew. A frame of another length is no counter.
    pub fn see(&mut self, source: usize, topic: &[u8], last_frame: &[u8]) -> u32 {
        let Ok(counter) = last_frame.try_into().map(u32::from_le_bytes) else { return 0 };
        if self.last.len() <= source {
            self.last.resize_with(source + 1, HashMap::new);
        }
        let Some(last) = self.last[source].get_mut(topic) else {
            if self.n_topics < TOPICS_MAX {
                self.last[source].insert(topic.into(), counter);
                self.n_topics += 1;
            }
            return 0;
        };
        let step = counter.wrapping_sub(*last);
        *last = counter;
        // Half of all steps lead forward, across the wrap, too.
        if step <= u32::MAX / 2 { step.saturating_sub(1) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn see(sequences: &mut Sequences, topic: &str, counter: u32) -> u32 {
        assert!(sequences.follows(topic.as_bytes()));
        sequences.see(0, topic.as_bytes(), &counter.to_le_bytes())
    }

    #[test]
    fn each_topic_has_its_own_counter() {
        let mut sequences = Sequences::new(vec![b"hash".to_vec(), b"raw".to_vec()]);
        let script = [
            ("hashblock", 5, 0),
            ("hashtx", 100, 0),
            ("hashtx", 101, 0),
            ("hashblock", 6, 0),
            ("hashtx", 105, 3),
            ("hashtx", 105, 0),
            ("hashblock", 0, 0),
            ("hashblock", 1, 0),
            ("rawtx", u32::MAX, 0),
            ("rawtx", 1, 1),
        ];
        for (step, (topic, counter, missing)) in script.into_iter().enumerate() {
            assert_eq!(see(&mut sequences, topic, counter), missing, "step {step}");
        }
        assert!(!sequences.follows(b"sequence"));
        assert_eq!(sequences.see(0, b"hashtx", b"no counter"), 0);
        assert_eq!(see(&mut sequences, "hashtx", 107), 1, "what is none changes nothing");
        assert_eq!(sequences.see(1, b"hashtx", &[0; 4]), 0, "another publisher counts for itself");
    }

    #[test]
    fn memory_is_bounded() {
        let mut sequences = Sequences::new(vec![Vec::new()]);
        for topic in 0..TOPICS_MAX + 10 {
            see(&mut sequences, &topic.to_string(), 1);
        }
        assert_eq!(sequences.n_topics, TOPICS_MAX);
        assert_eq!(see(&mut sequences, "7", 9), 7, "those that are followed stay");
    }

    proptest! {
        #[test]
        fn exactly_what_is_dropped_is_missing(first: u32, kept in proptest::collection::vec(any::<bool>(), 1..200)) {
            let mut sequences = Sequences::new(vec![Vec::new()]);
            let counters = (0u32..).map(|n| first.wrapping_add(n));
            let came: Vec<_> = counters.zip(&kept).filter(|(_, kept)| **kept).map(|(counter, _)| counter).collect();
            let missing: u32 = came.iter().map(|counter| see(&mut sequences, "t", *counter)).sum();
            let between = came.first().zip(came.last()).map_or(0, |(first, last)| last.wrapping_sub(*first) + 1);
            prop_assert_eq!(missing, between - came.len() as u32);
        }
    }
}
