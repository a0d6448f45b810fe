//! What goes up: which prefixes the publishers are asked for, so that nothing else leaves them.
//!
//! It is the union of what subscribers want on the backend, what edges want on the link, and what is recorded. A split
//! needs no care of its own: the topic that it finds begins the publisher's frame, so a prefix of one is a prefix of the
//! other. An alias does: what an aliased source sends begins with anything, so it is asked for everything as soon as its
//! alias is wanted on the link or recorded, and for the backend's prefixes, where its frames go untouched.

use std::collections::BTreeSet;

use trestle_messages::topic;
use trestle_recorder::{Interest, RecordRules};

/// Where a subscription came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Backend,
    Link,
}

/// Who is told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// Every publisher whose frame 0 is the topic.
    Plain,
    /// The input of this number, which has an alias.
    Aliased(usize),
}

/// A subscription to be sent up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) target: Target,
    /// As XSUB takes it: 1 to subscribe or 0 to unsubscribe, then the prefix.
    pub(crate) frame: Vec<u8>,
}

/// A set of prefixes. XPUB reports a prefix that a second peer subscribes to again (the link is verbose, so that each new
/// edge is seen), but its end only once: as a set neither can leak.
#[derive(Debug, Default)]
struct Prefixes(BTreeSet<Box<[u8]>>);

impl Prefixes {
    fn change(&mut self, subscribe: bool, prefix: &[u8]) -> bool {
        if !subscribe {
            return self.0.remove(prefix);
        }
        !self.0.contains(prefix) && self.0.insert(prefix.into())
    }

    fn matches(&self, topic: &[u8]) -> bool {
        (0..=topic.len()).any(|n| self.0.contains(&topic[..n]))
    }
}

#[derive(Debug)]
struct Aliased {
    input: usize,
    alias: Vec<u8>,
    wanted_on_link: bool,
    up: Interest,
}

/// Counts wants and says what changes above.
#[derive(Debug)]
pub(crate) struct Wants {
    backend: Prefixes,
    link: Prefixes,
    plain: Interest,
    aliased: Vec<Aliased>,
}

impl Wants {
    /// What `rules` record is wanted from the start. `aliased`: the numbers of inputs that have an alias.
    pub(crate) fn new(
        rules: &RecordRules,
        aliased: impl IntoIterator<Item = (usize, Vec<u8>)>,
    ) -> (Self, Vec<Change>) {
        let aliased = aliased.into_iter().map(|(input, alias)| Aliased {
            input,
            alias,
            wanted_on_link: false,
            up: Interest::default(),
        });
        let mut wants = Self {
            backend: Prefixes::default(),
            link: Prefixes::default(),
            plain: Interest::default(),
            aliased: aliased.collect(),
        };
        let mut changes = Vec::new();
        for rule in rules.iter() {
            count(&mut wants.plain, Target::Plain, true, &rule.prefix, &mut changes);
        }
        for source in wants.aliased.iter_mut().filter(|source| rules.is_recorded(&source.alias)) {
            count(&mut source.up, Target::Aliased(source.input), true, b"", &mut changes);
        }
        (wants, changes)
    }

    /// A subscription or its end at one side; what is to be sent up for it. The reserved prefix stays here: no
    /// publisher may send on it.
    pub(crate) fn change(&mut self, side: Side, subscribe: bool, prefix: &[u8]) -> Vec<Change> {
        let mut changes = Vec::new();
        let set = match side {
            Side::Backend => &mut self.backend,
            Side::Link => &mut self.link,
        };
        if topic::is_reserved(prefix) || !set.change(subscribe, prefix) {
            return changes;
        }
        count(&mut self.plain, Target::Plain, subscribe, prefix, &mut changes);
        for source in &mut self.aliased {
            let target = Target::Aliased(source.input);
            if side == Side::Backend {
                count(&mut source.up, target, subscribe, prefix, &mut changes);
                continue;
            }
            let wanted = self.link.matches(&source.alias);
            if wanted != source.wanted_on_link {
                source.wanted_on_link = wanted;
                count(&mut source.up, target, wanted, b"", &mut changes);
            }
        }
        changes
    }

    /// Distinct prefixes subscribed to at `side`.
    pub(crate) fn len(&self, side: Side) -> usize {
        match side {
            Side::Backend => self.backend.0.len(),
            Side::Link => self.link.0.len(),
        }
    }

    /// Distinct prefixes asked of publishers without an alias.
    pub(crate) fn len_up(&self) -> usize {
        self.plain.len()
    }
}

fn count(up: &mut Interest, target: Target, subscribe: bool, prefix: &[u8], changes: &mut Vec<Change>) {
    let changed = if subscribe { up.add(prefix) } else { up.remove(prefix) };
    if changed {
        changes.push(Change { target, frame: [&[u8::from(subscribe)], prefix].concat() });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use trestle_recorder::RecordRule;

    use super::*;

    fn prefix() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..3, 0..4)
    }

    type Held = BTreeMap<Target, BTreeSet<Vec<u8>>>;

    /// What XSUB holds after `changes`; a change that changes nothing is a fault.
    fn apply(held: &mut Held, changes: Vec<Change>) {
        for Change { target, frame } in changes {
            let set = held.entry(target).or_default();
            let (verb, prefix) = frame.split_first().unwrap();
            let changed = if *verb == 1 { set.insert(prefix.to_vec()) } else { set.remove(prefix) };
            assert!(changed, "{target:?} {frame:?} was sent twice");
        }
    }

    proptest! {
        /// After any subscriptions on both sides, repeated ones too, a publisher is asked for a topic exactly if
        /// somebody wants it.
        #[test]
        fn a_publisher_is_asked_for_what_is_wanted_and_no_more(
            rules in proptest::collection::vec(prefix(), 0..3),
            alias in prefix(),
            script in proptest::collection::vec((any::<bool>(), any::<bool>(), prefix()), 0..40),
            topic in prefix(),
        ) {
            let rules: RecordRules = rules.into_iter().map(RecordRule::new).collect();
            let (mut wants, changes) = Wants::new(&rules, [(4, alias.clone())]);
            let mut held = Held::new();
            apply(&mut held, changes);
            let mut sides = [BTreeSet::new(), BTreeSet::new()];
            for (on_link, subscribe, prefix) in script {
                let side = if on_link { Side::Link } else { Side::Backend };
                apply(&mut held, wants.change(side, subscribe, &prefix));
                let set = &mut sides[usize::from(on_link)];
                if subscribe { set.insert(prefix) } else { set.remove(&prefix) };
            }
            let covers = |set: &BTreeSet<Vec<u8>>, topic: &[u8]| set.iter().any(|p| topic.starts_with(p));
            let asked = |target| held.get(&target).is_some_and(|set| covers(set, &topic));
            let wanted = rules.is_recorded(&topic) || sides.iter().any(|set| covers(set, &topic));
            prop_assert_eq!(asked(Target::Plain), wanted);
            // The aliased source's frame is `topic` on the backend and `alias` on the link.
            let wanted = rules.is_recorded(&alias) || covers(&sides[1], &alias) || covers(&sides[0], &topic);
            prop_assert_eq!(asked(Target::Aliased(4)), wanted);
            prop_assert_eq!((wants.len(Side::Backend), wants.len(Side::Link)), (sides[0].len(), sides[1].len()));
        }
    }

    #[test]
    fn the_reserved_prefix_stays_here() {
        let (mut wants, changes) = Wants::new(&RecordRules::nothing(), []);
        assert_eq!(changes, []);
        assert_eq!(wants.change(Side::Link, true, b"\0trestle"), []);
        assert_eq!(wants.change(Side::Backend, true, b"\0trestle/x"), []);
        assert_eq!((wants.len(Side::Link), wants.len(Side::Backend)), (0, 0));
        // A shorter prefix covers other topics as well.
        assert_eq!(wants.change(Side::Link, true, b"\0").len(), 1);
    }
}
