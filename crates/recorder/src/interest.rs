//! Counts which prefixes are wanted, so that only the first want and the last go up.

use std::collections::BTreeMap;
use std::ops::Bound;

/// A counted set of prefixes.
#[derive(Debug, Default)]
pub struct Interest {
    wanted: BTreeMap<Box<[u8]>, u32>,
}

impl Interest {
    /// Counts one more want of `prefix`; true if it is the first.
    pub fn add(&mut self, prefix: &[u8]) -> bool {
        if let Some(count) = self.wanted.get_mut(prefix) {
            *count += 1;
            return false;
        }
        self.wanted.insert(prefix.into(), 1);
        true
    }

    /// Counts one want less; true if it was the last. Taking back what nobody wanted changes nothing.
    pub fn remove(&mut self, prefix: &[u8]) -> bool {
        match self.wanted.get_mut(prefix) {
            Some(1) => {
                self.wanted.remove(prefix);
                true
            }
            Some(count) => {
                *count -= 1;
                false
            }
            None => false,
        }
    }

    /// Whether a message on `topic` is wanted: some wanted prefix begins it.
    pub fn matches(&self, topic: &[u8]) -> bool {
        (0..=topic.len()).any(|n| self.wanted.contains_key(&topic[..n]))
    }

    /// Whether some topic that begins with `prefix` may be wanted: a wanted prefix begins it or is begun by it.
    pub fn overlaps(&self, prefix: &[u8]) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let longer =
            self.wanted.range::<[u8], _>(from).next().is_some_and(|(wanted, _)| wanted.starts_with(prefix));
        longer || self.matches(prefix)
    }

    /// The distinct prefixes, in byte order.
    pub fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        self.wanted.keys().map(AsRef::as_ref)
    }

    /// Distinct prefixes wanted.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..3, 0..4)
    }

    proptest! {
        /// Random wants and un-wants agree with a plain list.
        #[test]
        fn agrees_with_a_list(ops in proptest::collection::vec((any::<bool>(), prefix()), 0..60), probe in prefix()) {
            let (mut interest, mut list) = (Interest::default(), Vec::<Vec<u8>>::new());
            for (add, prefix) in ops {
                if add {
                    prop_assert_eq!(interest.add(&prefix), !list.contains(&prefix));
                    list.push(prefix);
                } else {
                    let held = list.iter().position(|p| *p == prefix);
                    held.map(|i| list.swap_remove(i));
                    prop_assert_eq!(interest.remove(&prefix), held.is_some() && !list.contains(&prefix));
                }
            }
            prop_assert_eq!(interest.matches(&probe), list.iter().any(|p| probe.starts_with(p)));
            let overlap = list.iter().any(|p| probe.starts_with(p) || p.starts_with(&probe));
            prop_assert_eq!(interest.overlaps(&probe), overlap);
        }
    }
}
