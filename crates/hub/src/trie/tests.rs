//! The trie beside a list, and what it holds in memory.

use proptest::prelude::*;

use super::*;

/// Few distinct bytes, so that topics share prefixes; some around the lengths of hashed words, some longer than a node
/// holds, some of any bytes.
fn topic() -> impl Strategy<Value = Vec<u8>> {
    let few = || prop_oneof![Just(b'a'), Just(b'b'), Just(0u8)];
    prop_oneof![
        6 => proptest::collection::vec(few(), 0..6),
        2 => (0usize..40, proptest::option::of(few())).prop_map(|(n, last)| {
            std::iter::repeat_n(b'a', n).chain(last).collect()
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..300),
    ]
}

#[derive(Debug, Clone)]
enum Op {
    Subscribe(Vec<u8>, bool, Subscriber),
    Unsubscribe(usize),
    Disconnect(Subscriber),
    Match(Vec<u8>),
    /// A message on a topic that begins with a subscribed one.
    MatchBelow(usize, Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (topic(), any::<bool>(), 0u32..5).prop_map(|(t, e, s)| Op::Subscribe(t, e, s)),
        2 => any::<usize>().prop_map(Op::Unsubscribe),
        1 => (0u32..5).prop_map(Op::Disconnect),
        3 => topic().prop_map(Op::Match),
        2 => (any::<usize>(), topic()).prop_map(|(n, tail)| Op::MatchBelow(n, tail)),
    ]
}

#[derive(Debug)]
struct Held {
    topic: Vec<u8>,
    exact: bool,
    subscriber: Subscriber,
    entry: EntryId,
}

/// A trie and all that it should hold.
#[derive(Debug, Default)]
struct Pair {
    trie: Trie,
    list: Vec<Held>,
}

impl Pair {
    fn subscribe(&mut self, topic: Vec<u8>, exact: bool, subscriber: Subscriber) {
        let (entry, first) = self.trie.insert(&topic, exact, subscriber);
        assert_eq!(first, !self.list.iter().any(|held| held.topic == topic));
        self.list.push(Held { topic, exact, subscriber, entry });
    }

    fn unsubscribe(&mut self, at: usize) {
        let held = self.list.swap_remove(at);
        let last = !self.list.iter().any(|other| other.topic == held.topic);
        assert_eq!(self.trie.remove(held.entry), last);
    }

    fn disconnect(&mut self, subscriber: Subscriber) {
        while let Some(at) = self.list.iter().position(|held| held.subscriber == subscriber) {
            self.unsubscribe(at);
        }
    }

    fn check_match(&self, topic: &[u8]) {
        let mut found = Vec::new();
        self.trie.matches(topic, |subscriber, entry| found.push((subscriber, entry)));
        let lengths = found.iter().map(|(_, entry)| {
            let held = self.list.iter().find(|held| held.entry == *entry).expect("a held entry");
            (held.exact, held.topic.len())
        });
        assert!(lengths.is_sorted(), "short prefixes first, exact last");
        let matches = |h: &&Held| if h.exact { h.topic == topic } else { topic.starts_with(&h.topic) };
        let mut expected: Vec<_> =
            self.list.iter().filter(matches).map(|h| (h.subscriber, h.entry)).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Subscribe(topic, exact, subscriber) => self.subscribe(topic, exact, subscriber),
            Op::Unsubscribe(at) if !self.list.is_empty() => self.unsubscribe(at % self.list.len()),
            Op::Disconnect(subscriber) => self.disconnect(subscriber),
            Op::Match(topic) => self.check_match(&topic),
            Op::MatchBelow(at, tail) if !self.list.is_empty() => {
                let at = at % self.list.len();
                self.check_match(&[self.list[at].topic.clone(), tail].concat());
            }
            Op::Unsubscribe(_) | Op::MatchBelow(..) => {}
        }
        assert_eq!(self.trie.len(), self.list.len());
    }
}

proptest! {
    /// Under random subscribe, unsubscribe and disconnect the trie agrees with a list and `starts_with`, and nothing
    /// stays in one that is empty again.
    #[test]
    fn agrees_with_a_list(ops in proptest::collection::vec(op(), 0..80)) {
        let mut pair = Pair::default();
        ops.into_iter().for_each(|op| pair.play(op));
        while !pair.list.is_empty() {
            pair.unsubscribe(0);
        }
        prop_assert!(pair.trie.is_bare());
    }

    /// So does an arena with a map, over several chunks.
    #[test]
    fn an_arena_agrees_with_a_map(ops in proptest::collection::vec((any::<bool>(), 1usize..3_000), 0..12)) {
        let (mut arena, mut map) = (Arena::default(), std::collections::BTreeMap::new());
        for (grows, n) in ops {
            if grows {
                (0..n).for_each(|value| assert_eq!(map.insert(arena.insert(value), value), None));
            } else {
                let leaving: Vec<_> = map.keys().copied().step_by(3).take(n).collect();
                leaving.iter().for_each(|n| assert_eq!(Some(arena.remove(*n)), map.remove(n)));
            }
            prop_assert_eq!(arena.len(), map.len());
            map.iter().for_each(|(number, value)| assert_eq!(arena[*number], *value));
        }
    }
}

fn subscribe_all(trie: &mut Trie, n: u32, topic: fn(u32) -> Vec<u8>) -> Vec<EntryId> {
    (0..n).map(|n| trie.insert(&topic(n), n % 5 == 0, n).0).collect()
}

/// Subscribes 100,000 times, then takes all back but those of which `stays` says so; returns the bytes at the peak and
/// after that.
fn bytes_of_a_storm(topic: fn(u32) -> Vec<u8>, stays: fn(u32) -> bool) -> (usize, usize) {
    let mut trie = Trie::default();
    let entries = subscribe_all(&mut trie, 100_000, topic);
    let peak = trie.bytes();
    for (n, entry) in (0..).zip(&entries) {
        if !stays(n) {
            trie.remove(*entry);
        }
    }
    (peak, trie.bytes())
}

const OWN: fn(u32) -> Vec<u8> = |n| format!("jobs/{n:08x}/progress").into_bytes();
const LONG: fn(u32) -> Vec<u8> = |n| format!("jobs/{n:08x}/progress/{:>50}", "").into_bytes();
const SHARED: fn(u32) -> Vec<u8> = |_| b"jobs/".to_vec();
const PAIRED: fn(u32) -> Vec<u8> = |n| OWN(n / 10);

#[test]
fn a_storm_gives_its_memory_back() {
    for topic in [OWN, LONG, SHARED, PAIRED] {
        let (peak, after) = bytes_of_a_storm(topic, |_| false);
        assert!(after < 4_096, "{after} of {peak} bytes stay");
    }
}

#[test]
fn those_that_stay_do_not_keep_the_memory_of_those_that_left() {
    for topic in [OWN, LONG, SHARED, PAIRED] {
        let (peak, after) = bytes_of_a_storm(topic, |n| n < 1_000);
        assert!(after < peak / 25, "{after} of {peak} bytes stay with the first 1,000");
    }
    // Entries cannot move, but nodes can.
    for topic in [OWN, LONG] {
        let (peak, after) = bytes_of_a_storm(topic, |n| n % 100 == 0);
        assert!(after < peak / 4, "{after} of {peak} bytes stay with each hundredth");
    }
}

#[test]
fn a_subscription_is_small() {
    for (topic, bytes_max) in [(OWN, 150), (SHARED, 40)] {
        let (peak, _) = bytes_of_a_storm(topic, |_| true);
        println!("{} bytes a subscription", peak / 100_000);
        assert!(peak / 100_000 <= bytes_max, "{} bytes a subscription", peak / 100_000);
    }
    assert_eq!(size_of::<Node>(), 64, "one cache line");
}
