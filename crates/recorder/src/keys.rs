//! Publications that were sent a short while ago, so that a repeat is known and not sent again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

use trestle_messages::Position;

/// A repeat is known for so long.
pub const REPEAT_MAX: Duration = Duration::from_secs(120);

/// So many publications are remembered: 2,184 a second over the whole time, some 30 MB.
pub const KEYS_MAX: usize = 1 << 18;

/// What a publication with a key is known by: the key, the topic and the body together. So two clients that chose the same key
/// do not silence each other unless they say the very same thing.
///
/// 128 bits of keyed hashes, each with a secret of its own: nobody can make two that are equal, and by chance it does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u64; 2]);

/// What became of the first publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// It is on its way, and [`Keys::settle`] has not been called for it.
    UnderWay,
    /// It was sent, and has this position; `None` where it is not recorded.
    Sent(Option<Position>),
}

/// What is known of a publication's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is new: send it, and then [`settle`](Keys::settle) it.
    New,
    /// It is a repeat.
    Repeat(First),
    /// Too many are remembered to know: it must not be sent.
    Full,
}

/// The keys of the last two minutes. Nothing is forgotten earlier: where there are too many, further ones are refused.
#[derive(Debug)]
pub struct Keys {
    secrets: [RandomState; 2],
    first: HashMap<Fingerprint, First>,
    /// In the order they came, with the time.
    order: VecDeque<(Instant, Fingerprint)>,
    keys_max: usize,
}

impl Default for Keys {
    fn default() -> Self {
        Self::with_bound(KEYS_MAX)
    }
}

impl Keys {
    /// Remembers at most `keys_max`.
    pub fn with_bound(keys_max: usize) -> Self {
        let secrets = [RandomState::new(), RandomState::new()];
        Self { secrets, first: HashMap::new(), order: VecDeque::new(), keys_max }
    }

    /// Of a publication with `key`.
    pub fn fingerprint(&self, key: &str, frames: &[impl AsRef<[u8]>]) -> Fingerprint {
        Fingerprint(self.secrets.each_ref().map(|secret| {
            let mut hasher = secret.build_hasher();
            for part in std::iter::once(key.as_bytes()).chain(frames.iter().map(AsRef::as_ref)) {
                hasher.write_usize(part.len());
                hasher.write(part);
            }
            hasher.finish()
        }))
    }

    /// Whether this was published before. What is new is under way from now on. `now` never goes back.
    pub fn enter(&mut self, fingerprint: Fingerprint, now: Instant) -> Known {
        self.expire(now);
        let is_full = self.order.len() >= self.keys_max;
        match self.first.entry(fingerprint) {
            Entry::Occupied(first) => Known::Repeat(*first.get()),
            Entry::Vacant(_) if is_full => Known::Full,
            Entry::Vacant(vacant) => {
                vacant.insert(First::UnderWay);
                self.order.push_back((now, fingerprint));
                Known::New
            }
        }
    }

    /// What was under way was sent; a repeat is answered with `position`.
    pub fn settle(&mut self, fingerprint: Fingerprint, position: Option<Position>) {
        if let Some(first) = self.first.get_mut(&fingerprint) {
            *first = First::Sent(position);
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn expire(&mut self, now: Instant) {
        while let Some((_, fingerprint)) =
            self.order.pop_front_if(|(at, _)| now.saturating_duration_since(*at) >= REPEAT_MAX)
        {
            self.first.remove(&fingerprint);
        }
        if self.order.len() < self.order.capacity() / 4 {
            self.order.shrink_to(self.order.capacity() / 2);
            self.first.shrink_to(self.order.capacity());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_key_with_another_topic_or_body_is_another_publication() {
        let keys = Keys::default();
        let all = [
            keys.fingerprint("k", &["a", "b"]),
            keys.fingerprint("k", &["a", "b", ""]),
            keys.fingerprint("k", &["ab", ""]),
            keys.fingerprint("ka", &["", "b"]),
            keys.fingerprint("k", &["a", "c"]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[..n].contains(one));
        }
        assert_eq!(all[0], keys.fingerprint("k", &["a", "b"]));
    }

    #[test]
    fn where_there_are_too_many_further_ones_are_refused_until_the_oldest_is_two_minutes_old() {
        let (mut keys, now) = (Keys::with_bound(2), Instant::now());
        let [a, b, c] = ["a", "b", "c"].map(|key| keys.fingerprint(key, &["x"]));
        assert_eq!(keys.enter(a, now), Known::New);
        assert_eq!(keys.enter(b, now + Duration::from_secs(1)), Known::New);
        assert_eq!(keys.enter(c, now + Duration::from_secs(2)), Known::Full);
        assert_eq!(keys.enter(a, now + Duration::from_secs(2)), Known::Repeat(First::UnderWay));
        assert_eq!(keys.enter(c, now + REPEAT_MAX), Known::New);
        assert_eq!(keys.enter(a, now + REPEAT_MAX), Known::Full);
    }

    proptest! {
        /// It agrees with a list of all that was ever sent.
        #[test]
        fn a_repeat_within_two_minutes_is_answered_with_the_first_position(
            steps in proptest::collection::vec((0..4u8, 0..60u64, any::<bool>()), 0..60),
        ) {
            let (mut keys, mut now) = (Keys::default(), Instant::now());
            let mut sent: Vec<(u8, Instant, Option<Position>)> = Vec::new();
            for (offset, (key, seconds, is_recorded)) in steps.into_iter().enumerate() {
                now += Duration::from_secs(seconds);
                let fingerprint = keys.fingerprint(&key.to_string(), &["x"]);
                let young = |(_, at, _): &&(u8, Instant, Option<Position>)| now - *at < REPEAT_MAX;
                let first = sent.iter().filter(young).find(|(other, ..)| *other == key);
                match (keys.enter(fingerprint, now), first) {
                    (Known::Repeat(known), Some((.., position))) => prop_assert_eq!(known, First::Sent(*position)),
                    (Known::New, None) => {
                        let position = is_recorded.then_some(Position { epoch: 7, offset: offset as u64 });
                        keys.settle(fingerprint, position);
                        sent.push((key, now, position));
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
                prop_assert_eq!(keys.len(), sent.iter().filter(|(_, at, _)| now - *at < REPEAT_MAX).count());
            }
        }
    }
}
