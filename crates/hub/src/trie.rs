//! Who wants a topic: a radix trie of subscribed byte prefixes and exact topics.

use smallvec::SmallVec;

/// A subscriber as the trie's user numbers them.
pub type Subscriber = u32;

/// A subscription in the trie, until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(u32);

const ROOT: u32 = 0;

/// A set of (topic, exact, subscriber). Matching walks the topic once and is independent of how many subscriptions do
/// not match; inserting and removing cost the topic's length, however many share a node.
#[derive(Debug)]
pub struct Trie {
    nodes: slab::Slab<Node>,
    entries: slab::Slab<Entry>,
}

#[derive(Debug, Default)]
struct Node {
    parent: u32,
    /// The bytes between the parent and this node.
    label: SmallVec<[u8; 16]>,
    /// By first byte of their label, in order.
    children: SmallVec<[(u8, u32); 2]>,
    prefixes: Vec<Seat>,
    exacts: Vec<Seat>,
}

/// What a match hands out, with the way back to its entry.
#[derive(Debug, Clone, Copy)]
struct Seat {
    subscriber: Subscriber,
    entry: EntryId,
}

/// Where a subscription sits, so that it leaves without a search.
#[derive(Debug)]
struct Entry {
    node: u32,
    seat: u32,
    exact: bool,
}

impl Default for Trie {
    fn default() -> Self {
        let mut nodes = slab::Slab::new();
        nodes.insert(Node::default());
        Self { nodes, entries: slab::Slab::new() }
    }
}

impl Node {
    fn seats(&mut self, exact: bool) -> &mut Vec<Seat> {
        if exact { &mut self.exacts } else { &mut self.prefixes }
    }

    fn is_unwanted(&self) -> bool {
        self.prefixes.is_empty() && self.exacts.is_empty()
    }

    fn child(&self, first: u8) -> Option<u32> {
        let at = self.children.binary_search_by_key(&first, |(byte, _)| *byte).ok()?;
        Some(self.children[at].1)
    }

    fn set_child(&mut self, first: u8, child: u32) {
        match self.children.binary_search_by_key(&first, |(byte, _)| *byte) {
            Ok(at) => self.children[at].1 = child,
            Err(at) => self.children.insert(at, (first, child)),
        }
    }
}

fn common_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

impl Trie {
    /// Subscribes; also says whether nobody wanted these very bytes before, as prefix or exactly.
    ///
    /// # Panics
    /// Beyond 2^32 nodes or subscriptions.
    pub fn insert(&mut self, topic: &[u8], exact: bool, subscriber: Subscriber) -> (EntryId, bool) {
        let index = self.node_for(topic);
        let node = &mut self.nodes[index as usize];
        let first = node.is_unwanted();
        let seats = node.seats(exact);
        let seat = u32::try_from(seats.len()).expect("less than 2^32 seats");
        let entry = self.entries.insert(Entry { node: index, seat, exact });
        let entry = EntryId(u32::try_from(entry).expect("less than 2^32 subscriptions"));
        seats.push(Seat { subscriber, entry });
        (entry, first)
    }

    /// Unsubscribes; true if now nobody wants these bytes.
    ///
    /// # Panics
    /// If the entry was removed before.
    pub fn remove(&mut self, entry: EntryId) -> bool {
        let Entry { node: index, seat, exact } = self.entries.remove(entry.0 as usize);
        let node = &mut self.nodes[index as usize];
        let seats = node.seats(exact);
        seats.swap_remove(seat as usize);
        if let Some(moved) = seats.get(seat as usize) {
            self.entries[moved.entry.0 as usize].seat = seat;
        }
        // Vectors keep their capacity; give it back once they are a quarter full, so that a storm leaves nothing behind.
        if seats.capacity() > 16 && seats.len() * 4 < seats.capacity() {
            seats.shrink_to(seats.len() * 2);
        }
        let last = node.is_unwanted();
        if last {
            self.prune(index);
        }
        last
    }

    /// Calls `found` for each subscription that matches `topic`, prefixes from the shortest to the longest, then exact
    /// ones. A subscriber with several matching subscriptions is found several times.
    pub fn matches(&self, topic: &[u8], mut found: impl FnMut(Subscriber, EntryId)) {
        let (mut node, mut rest) = (&self.nodes[ROOT as usize], topic);
        loop {
            for seat in &node.prefixes {
                found(seat.subscriber, seat.entry);
            }
            let Some((first, _)) = rest.split_first() else { break };
            let Some(child) = node.child(*first) else { return };
            node = &self.nodes[child as usize];
            let Some(behind) = rest.strip_prefix(&node.label[..]) else { return };
            rest = behind;
        }
        for seat in &node.exacts {
            found(seat.subscriber, seat.entry);
        }
    }

    /// Subscriptions held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether nothing but the root is left.
    #[cfg(test)]
    pub(crate) fn is_bare(&self) -> bool {
        self.is_empty() && self.nodes.len() == 1
    }

    /// The node at the end of `topic`, made if there is none.
    fn node_for(&mut self, topic: &[u8]) -> u32 {
        let (mut index, mut rest) = (ROOT, topic);
        while let Some((first, _)) = rest.split_first() {
            let Some(child) = self.nodes[index as usize].child(*first) else {
                return self.add_leaf(index, rest);
            };
            let common = common_length(&self.nodes[child as usize].label, rest);
            index = if common < self.nodes[child as usize].label.len() {
                self.split(child, common)
            } else {
                child
            };
            rest = &rest[common..];
        }
        index
    }

    fn add_leaf(&mut self, parent: u32, label: &[u8]) -> u32 {
        self.add_node(Node { parent, label: label.into(), ..Node::default() })
    }

    /// Adds a node below its parent.
    fn add_node(&mut self, node: Node) -> u32 {
        let (parent, first) = (node.parent, node.label[0]);
        let index = u32::try_from(self.nodes.insert(node)).expect("less than 2^32 nodes");
        self.nodes[parent as usize].set_child(first, index);
        index
    }

    /// Puts a node in front of `child` that takes the first `at` bytes of its label.
    fn split(&mut self, child: u32, at: usize) -> u32 {
        let node = &mut self.nodes[child as usize];
        let parent = node.parent;
        let head = SmallVec::from_slice(&node.label[..at]);
        node.label = SmallVec::from_slice(&node.label[at..]);
        let first = node.label[0];
        let between = self.add_node(Node { parent, label: head, ..Node::default() });
        self.nodes[between as usize].set_child(first, child);
        self.nodes[child as usize].parent = between;
        between
    }

    /// Takes an unwanted node out if it no longer parts anything, and its parent if that is so then.
    fn prune(&mut self, index: u32) {
        let node = &self.nodes[index as usize];
        if index == ROOT || !node.is_unwanted() {
            return;
        }
        match node.children.as_slice() {
            [] => {
                let node = self.nodes.remove(index as usize);
                let parent = &mut self.nodes[node.parent as usize];
                parent.children.retain(|(first, _)| *first != node.label[0]);
                self.prune(node.parent);
            }
            [(_, child)] => {
                let child = *child;
                let node = self.nodes.remove(index as usize);
                let below = &mut self.nodes[child as usize];
                let label = node.label.iter().chain(&below.label).copied().collect();
                (below.parent, below.label) = (node.parent, label);
                self.nodes[node.parent as usize].set_child(node.label[0], child);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few distinct bytes, so that topics share prefixes.
    fn topic() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0u8)], 0..6)
    }

    #[derive(Debug, Clone)]
    enum Op {
        Subscribe(Vec<u8>, bool, Subscriber),
        Unsubscribe(usize),
        Disconnect(Subscriber),
        Match(Vec<u8>),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (topic(), any::<bool>(), 0u32..5).prop_map(|(t, e, s)| Op::Subscribe(t, e, s)),
            2 => any::<usize>().prop_map(Op::Unsubscribe),
            1 => (0u32..5).prop_map(Op::Disconnect),
            4 => topic().prop_map(Op::Match),
        ]
    }

    #[derive(Debug)]
    struct Held {
        topic: Vec<u8>,
        exact: bool,
        subscriber: Subscriber,
        entry: EntryId,
    }

    fn unsubscribe(trie: &mut Trie, list: &mut Vec<Held>, at: usize) {
        let held = list.swap_remove(at);
        let last = !list.iter().any(|other| other.topic == held.topic);
        assert_eq!(trie.remove(held.entry), last);
    }

    proptest! {
        /// Under random subscribe, unsubscribe and disconnect the trie agrees with a list and `starts_with`, and an empty
        /// one holds no node but its root.
        #[test]
        fn agrees_with_a_list(ops in proptest::collection::vec(op(), 0..80)) {
            let (mut trie, mut list) = (Trie::default(), Vec::<Held>::new());
            for op in ops {
                match op {
                    Op::Subscribe(topic, exact, subscriber) => {
                        let (entry, first) = trie.insert(&topic, exact, subscriber);
                        prop_assert_eq!(first, !list.iter().any(|held| held.topic == topic));
                        list.push(Held { topic, exact, subscriber, entry });
                    }
                    Op::Unsubscribe(at) if !list.is_empty() => {
                        let at = at % list.len();
                        unsubscribe(&mut trie, &mut list, at);
                    }
                    Op::Unsubscribe(_) => {}
                    Op::Disconnect(subscriber) => {
                        while let Some(at) = list.iter().position(|held| held.subscriber == subscriber) {
                            unsubscribe(&mut trie, &mut list, at);
                        }
                    }
                    Op::Match(topic) => {
                        let mut found = Vec::new();
                        trie.matches(&topic, |subscriber, entry| found.push((subscriber, entry)));
                        let lengths: Vec<_> = found.iter().map(|(_, entry)| {
                            let held = list.iter().find(|held| held.entry == *entry).expect("a held entry");
                            (held.exact, held.topic.len())
                        }).collect();
                        prop_assert!(lengths.is_sorted(), "short prefixes first, exact last");
                        let mut expected: Vec<_> = list.iter()
                            .filter(|h| if h.exact { h.topic == topic } else { topic.starts_with(&h.topic) })
                            .map(|h| (h.subscriber, h.entry)).collect();
                        expected.sort_unstable();
                        found.sort_unstable();
                        prop_assert_eq!(found, expected);
                    }
                }
                prop_assert_eq!(trie.len(), list.len());
            }
            while !list.is_empty() {
                unsubscribe(&mut trie, &mut list, 0);
            }
            prop_assert_eq!(trie.nodes.len(), 1);
            prop_assert!(trie.is_empty());
        }
    }

    #[test]
    fn a_node_shared_by_many_gives_its_memory_back() {
        let mut trie = Trie::default();
        let entries: Vec<_> = (0..100_000).map(|n| trie.insert(b"jobs/", false, n).0).collect();
        entries.into_iter().for_each(|entry| {
            trie.remove(entry);
        });
        assert_eq!(trie.nodes.len(), 1);
    }
}
