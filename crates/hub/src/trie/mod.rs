//! Who wants a topic: a trie of subscribed byte prefixes and exact topics, of which each level is a set of hashes.
//!
//! A walk from node to node waits for memory at each branching. Here a message's topic is hashed once along its way,
//! and each level that holds anything is asked for what the topic begins with there. One question does not wait for
//! the answer to another, and a subscribed topic is one cache line: a million of them cost little more than a thousand.

mod arena;
mod hash;
mod levels;
#[cfg(test)]
mod tests;

use hashbrown::HashTable;
use smallvec::SmallVec;

use arena::Arena;
use hash::{Seed, word};
use levels::Levels;

/// A subscriber as the trie's user numbers them.
pub type Subscriber = u32;

/// A subscription in the trie, until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(u32);

/// A collection of so many is left as it is when it empties.
const KEPT_LEN_MAX: usize = 16;

/// A set of (topic, exact, subscriber). Matching takes one look for each length that any subscribed prefix has, up to
/// the topic's own, however many there are; inserting and removing cost the topic's length, however many share it.
/// What grew beyond four times its contents shrinks; that and growing are cheap on average, not each time.
#[derive(Debug, Default)]
pub struct Trie {
    seed: Seed,
    /// The way to each node.
    slots: HashTable<Slot>,
    /// Without gaps: the last moves to where one leaves.
    nodes: Vec<Node>,
    crowds: Arena<Crowd>,
    entries: Arena<Entry>,
    prefix_levels: Levels,
    exact_levels: Levels,
}

#[derive(Debug)]
struct Slot {
    /// Of the node's topic, so that other nodes are seldom looked at, and none when the table grows.
    hash: u32,
    node: u32,
}

/// What is subscribed at one topic.
#[derive(Debug)]
#[repr(align(64))] // a cache line
struct Node {
    topic: SmallVec<[u8; 32]>,
    prefixes: Seats,
    exacts: Seats,
}

/// Those who subscribed to the same: most topics have one.
#[derive(Debug, Clone, Copy)]
enum Seats {
    Nobody,
    One(Seat),
    Many { crowd: u32 },
}

/// What a match hands out, with the way back to its entry.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// Who subscribed.
    pub subscriber: Subscriber,
    /// The subscription.
    pub entry: EntryId,
}

/// Two or more who subscribed to the same.
#[derive(Debug)]
struct Crowd {
    seats: Vec<Seat>,
    node: u32,
    exact: bool,
}

/// Where a subscription sits, so that it leaves without a search.
#[derive(Debug)]
enum Entry {
    Alone { node: u32, exact: bool },
    InCrowd { crowd: u32, seat: u32 },
}

impl Node {
    fn seats(&mut self, exact: bool) -> &mut Seats {
        if exact { &mut self.exacts } else { &mut self.prefixes }
    }

    fn is_unwanted(&self) -> bool {
        matches!((self.prefixes, self.exacts), (Seats::Nobody, Seats::Nobody))
    }
}

impl Trie {
    /// Subscribes; also says whether nobody wanted these very bytes before, as prefix or exactly.
    ///
    /// # Panics
    /// Beyond 2^32 subscriptions.
    pub fn insert(&mut self, topic: &[u8], exact: bool, subscriber: Subscriber) -> (EntryId, bool) {
        let hash = self.seed.hash(topic);
        let found = self.find(hash, topic);
        let node = found.unwrap_or_else(|| self.add_node(hash, topic));
        let entry = EntryId(self.entries.insert(Entry::Alone { node, exact }));
        self.sit_down(node, exact, Seat { subscriber, entry });
        (entry, found.is_none())
    }

    /// Unsubscribes; true if now nobody wants these bytes.
    ///
    /// # Panics
    /// If the entry was removed before.
    pub fn remove(&mut self, entry: EntryId) -> bool {
        match self.entries.remove(entry.0) {
            Entry::Alone { node: index, exact } => {
                let node = &mut self.nodes[index as usize];
                *node.seats(exact) = Seats::Nobody;
                let (length, last) = (node.topic.len(), node.is_unwanted());
                self.levels(exact).remove(length);
                if last {
                    self.remove_node(index);
                }
                last
            }
            Entry::InCrowd { crowd, seat } => {
                self.leave(crowd, seat);
                false
            }
        }
    }

    /// Calls `found` for each subscription that matches `topic`, as [`matches_by_topic`](Self::matches_by_topic) has them.
    pub fn matches(&self, topic: &[u8], mut found: impl FnMut(Subscriber, EntryId)) {
        self.matches_by_topic(topic, |seats| {
            seats.iter().for_each(|seat| found(seat.subscriber, seat.entry))
        });
    }

    /// Calls `found` with all who hold the same matching topic, once for each: prefixes from the shortest to the longest, then
    /// the exact one. A subscriber with several matching subscriptions is found several times.
    pub fn matches_by_topic(&self, topic: &[u8], mut found: impl FnMut(&[Seat])) {
        let (mut state, mut start) = (self.seed.start(), 0);
        for lengths in self.prefix_levels.octets() {
            let rest = &topic[start..];
            let (word, mut lengths) = (word(rest), lengths & up_to(rest.len()));
            while lengths != 0 {
                let n = lengths.trailing_zeros() as usize;
                lengths &= lengths - 1;
                if let Some(node) = self.find(self.seed.end(state, word, n), &topic[..start + n]) {
                    self.hand_out(self.nodes[node as usize].prefixes, &mut found);
                }
            }
            if rest.len() < 8 {
                break;
            }
            (state, start) = (self.seed.step(state, word), start + 8);
        }
        if self.exact_levels.has(topic.len())
            && let Some(node) = self.find(self.seed.hash(topic), topic)
        {
            self.hand_out(self.nodes[node as usize].exacts, &mut found);
        }
    }

    /// Subscriptions held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, hash: u32, topic: &[u8]) -> Option<u32> {
        let is_it = |slot: &Slot| slot.hash == hash && self.nodes[slot.node as usize].topic[..] == *topic;
        self.slots.find(spread(hash), is_it).map(|slot| slot.node)
    }

    fn hand_out(&self, seats: Seats, found: &mut impl FnMut(&[Seat])) {
        match seats {
            Seats::Nobody => {}
            Seats::One(seat) => found(&[seat]),
            Seats::Many { crowd } => found(&self.crowds[crowd].seats),
        }
    }

    fn levels(&mut self, exact: bool) -> &mut Levels {
        if exact { &mut self.exact_levels } else { &mut self.prefix_levels }
    }

    fn add_node(&mut self, hash: u32, topic: &[u8]) -> u32 {
        let node = u32::try_from(self.nodes.len()).expect("no more nodes than subscriptions");
        self.nodes.push(Node { topic: topic.into(), prefixes: Seats::Nobody, exacts: Seats::Nobody });
        self.slots.insert_unique(spread(hash), Slot { hash, node }, |slot| spread(slot.hash));
        node
    }

    /// Takes a node out and puts the last one in its place.
    fn remove_node(&mut self, index: u32) {
        let node = self.nodes.swap_remove(index as usize);
        let hash = spread(self.seed.hash(&node.topic));
        self.slots.find_entry(hash, |slot| slot.node == index).expect("each node has its slot").remove();
        if let Some(moved) = self.nodes.get(index as usize) {
            let (hash, from) = (spread(self.seed.hash(&moved.topic)), self.nodes.len());
            let slot = self.slots.find_mut(hash, |slot| slot.node as usize == from);
            slot.expect("each node has its slot").node = index;
            for (seats, exact) in [(moved.prefixes, false), (moved.exacts, true)] {
                match seats {
                    Seats::Nobody => {}
                    Seats::One(seat) => self.entries[seat.entry.0] = Entry::Alone { node: index, exact },
                    Seats::Many { crowd } => self.crowds[crowd].node = index,
                }
            }
        }
        relieve(&mut self.nodes);
        if is_roomy(self.slots.len(), self.slots.capacity()) {
            self.slots.shrink_to(self.slots.len() * 2, |slot| spread(slot.hash));
        }
    }

    fn sit_down(&mut self, index: u32, exact: bool, seat: Seat) {
        let node = &mut self.nodes[index as usize];
        let length = node.topic.len();
        let seats = node.seats(exact);
        match *seats {
            Seats::Nobody => {
                *seats = Seats::One(seat);
                self.levels(exact).add(length);
            }
            Seats::One(first) => {
                let crowd = self.crowds.insert(Crowd { seats: vec![first, seat], node: index, exact });
                *seats = Seats::Many { crowd };
                self.entries[first.entry.0] = Entry::InCrowd { crowd, seat: 0 };
                self.entries[seat.entry.0] = Entry::InCrowd { crowd, seat: 1 };
            }
            Seats::Many { crowd } => {
                let seats = &mut self.crowds[crowd].seats;
                let at = u32::try_from(seats.len()).expect("no more seats than subscriptions");
                seats.push(seat);
                self.entries[seat.entry.0] = Entry::InCrowd { crowd, seat: at };
            }
        }
    }

    /// Leaves a seat to the last one of its crowd. Who is left alone is no crowd.
    fn leave(&mut self, crowd: u32, seat: u32) {
        let seats = &mut self.crowds[crowd].seats;
        seats.swap_remove(seat as usize);
        if let Some(moved) = seats.get(seat as usize) {
            self.entries[moved.entry.0] = Entry::InCrowd { crowd, seat };
        }
        relieve(seats);
        if let [alone] = seats[..] {
            let Crowd { node, exact, .. } = self.crowds.remove(crowd);
            self.entries[alone.entry.0] = Entry::Alone { node, exact };
            *self.nodes[node as usize].seats(exact) = Seats::One(alone);
        }
    }

    /// Whether nothing is left of subscriptions that were, but what small collections keep.
    #[cfg(test)]
    pub(crate) fn is_bare(&self) -> bool {
        self.is_empty() && self.nodes.is_empty() && self.slots.is_empty() && self.bytes() < 4_096
    }

    /// Bytes on the heap, for the most part.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let topics = self.nodes.iter().filter(|node| node.topic.spilled()).map(|node| node.topic.capacity());
        let crowds =
            self.nodes.iter().flat_map(|node| [node.prefixes, node.exacts]).map(|seats| match seats {
                Seats::Many { crowd } => self.crowds[crowd].seats.capacity() * size_of::<Seat>(),
                Seats::Nobody | Seats::One(_) => 0,
            });
        topics.chain(crowds).sum::<usize>()
            + self.slots.allocation_size()
            + self.nodes.capacity() * size_of::<Node>()
            + self.crowds.bytes()
            + self.entries.bytes()
            + self.prefix_levels.bytes()
            + self.exact_levels.bytes()
    }
}

/// A mask of the lengths 0..=`n` of eight.
fn up_to(n: usize) -> u8 {
    if n < 7 { (2 << n) - 1 } else { u8::MAX }
}

/// As the hash table wants it: it takes the place from the lowest bits and a tag from the highest.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Gives memory back, for collections keep their capacity otherwise: a storm leaves nothing behind.
fn relieve<T>(vec: &mut Vec<T>) {
    if is_roomy(vec.len(), vec.capacity()) {
        vec.shrink_to(vec.len() * 2);
    }
}

/// Whether less than a quarter is used, so that as many must come or go again before memory is moved once more.
fn is_roomy(len: usize, capacity: usize) -> bool {
    capacity > KEPT_LEN_MAX && len < capacity / 4
}
