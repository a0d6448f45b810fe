//! How many of each are held at once: connections, of an address or of a subject.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Tables smaller than this keep their memory.
const SHRINK_MIN: usize = 1_024;

/// A number for each key of which something is held. Locked for some nanoseconds when a connection comes or goes, and never
/// while anything is awaited.
#[derive(Debug)]
pub(crate) struct Counter<K>(Mutex<HashMap<K, u32>>);

impl<K> Default for Counter<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Counter<K> {
    /// One more of `key`, unless `max` are held; it counts until it is dropped.
    pub(crate) fn take(self: &Arc<Self>, key: K, max: u32) -> Option<Held<K>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = held.entry(key.clone()).or_default();
        if *n >= max {
            if *n == 0 {
                held.remove(&key);
            }
            return None;
        }
        *n += 1;
        Some(Held { counter: Arc::clone(self), key })
    }

    fn release(&self, key: &K) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = held.get_mut(key).expect("what is held is counted");
        *n -= 1;
        if *n == 0 {
            held.remove(key);
            // After a flood of addresses the memory goes back.
            if held.capacity() > SHRINK_MIN && held.len() < held.capacity() / 4 {
                let n = held.len() * 2;
                held.shrink_to(n);
            }
        }
    }
}

/// One that is held.
#[derive(Debug)]
pub(crate) struct Held<K: Hash + Eq + Clone> {
    counter: Arc<Counter<K>>,
    key: K,
}

impl<K: Hash + Eq + Clone> Drop for Held<K> {
    fn drop(&mut self) {
        self.counter.release(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It agrees with a list of what is held.
        #[test]
        fn no_more_than_the_maximum_of_each_are_held(steps in proptest::collection::vec((0u8..4, any::<bool>()), 0..200), max in 0u32..4) {
            let counter = Arc::new(Counter::default());
            let mut held: Vec<(u8, Held<u8>)> = Vec::new();
            for (key, comes) in steps {
                let n = held.iter().filter(|(other, _)| *other == key).count();
                if comes {
                    let taken = counter.take(key, max);
                    prop_assert_eq!(taken.is_some(), n < max as usize);
                    held.extend(taken.map(|taken| (key, taken)));
                } else if let Some(at) = held.iter().position(|(other, _)| *other == key) {
                    drop(held.swap_remove(at));
                }
            }
            held.clear();
            prop_assert!(counter.0.lock().unwrap().is_empty(), "nothing is kept for those who went");
        }
    }

    #[test]
    fn a_flood_of_keys_leaves_no_memory() {
        let counter = Arc::new(Counter::default());
        let held: Vec<_> = (0..100_000u32).map(|key| counter.take(key, 1).unwrap()).collect();
        drop(held);
        assert!(counter.0.lock().unwrap().capacity() <= SHRINK_MIN);
    }
}
