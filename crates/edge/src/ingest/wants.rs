//! Which prefixes are subscribed upward: all that is recorded, and on demand what is not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use trestle_recorder::{Interest, RecordRules};

/// Prefixes that one tick ends at most. libzmq takes some 4 µs for each among 100,000, and no message is read meanwhile;
/// those of a storm that has left may take their time.
const ENDS_PER_TICK_MAX: usize = 2_000;

/// What the sockets are to be told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Subscribe(Box<[u8]>),
    Unsubscribe(Box<[u8]>),
}

/// Gathers wants and rules, answers with [`Change`]s. A prefix that a record rule covers is not sent up on its own.
#[derive(Debug)]
pub(super) struct Wants {
    rules: RecordRules,
    interest: Interest,
    /// Subscribed upward; with a time: nobody wants it any more, and then it ends.
    up: BTreeMap<Box<[u8]>, Option<Instant>>,
    /// The times in `up` in order, with some that have been taken back.
    leaving: VecDeque<(Instant, Box<[u8]>)>,
    linger: Duration,
    changes: Vec<Change>,
}

impl Wants {
    /// Nothing is wanted; what ceases to be wanted ends after `linger`.
    pub(super) fn new(linger: Duration) -> Self {
        Self {
            rules: RecordRules::nothing(),
            interest: Interest::default(),
            up: BTreeMap::new(),
            leaving: VecDeque::new(),
            linger,
            changes: Vec::new(),
        }
    }

    /// From now on `rules` say what is recorded.
    pub(super) fn record(&mut self, rules: RecordRules, now: Instant) {
        self.rules = rules;
        let recorded = self.rules.iter().map(|rule| &rule.prefix[..]);
        let on_demand = self.interest.prefixes().filter(|prefix| !self.rules.covers(prefix));
        let wanted: BTreeSet<Box<[u8]>> = recorded.chain(on_demand).map(Into::into).collect();
        let standing = self.up.iter().filter(|(_, leaves)| leaves.is_none()).map(|(prefix, _)| prefix);
        // Wider subscriptions stand before narrower ones end, so that nothing falls between them.
        let unwanted: Vec<_> = standing.filter(|prefix| !wanted.contains(*prefix)).cloned().collect();
        wanted.into_iter().for_each(|prefix| self.raise(prefix));
        unwanted.into_iter().for_each(|prefix| self.leave(prefix, now));
    }

    /// One more wants `prefix`.
    pub(super) fn add(&mut self, prefix: Box<[u8]>) {
        if self.interest.add(&prefix) && !self.rules.covers(&prefix) {
            self.raise(prefix);
        }
    }

    /// One less wants `prefix`.
    pub(super) fn remove(&mut self, prefix: Box<[u8]>, now: Instant) {
        if self.interest.remove(&prefix) && !self.rules.covers(&prefix) {
            self.leave(prefix, now);
        }
    }

    /// Ends what has lingered long enough, so many at once and the rest at the next ticks.
    pub(super) fn tick(&mut self, now: Instant) {
        let mut n_ended = 0;
        while n_ended < ENDS_PER_TICK_MAX
            && let Some((_, prefix)) = self.leaving.pop_front_if(|(at, _)| *at <= now)
        {
            // Wanted again meanwhile, or wanted and left again: then a later entry ends it.
            if self.up.get(&prefix).is_some_and(|leaves| leaves.is_some_and(|at| at <= now)) {
                self.up.remove(&prefix);
                self.changes.push(Change::Unsubscribe(prefix));
                n_ended += 1;
            }
        }
        // The queue would keep the memory of a storm.
        if self.leaving.len() < self.leaving.capacity() / 4 {
            self.leaving.shrink_to(self.leaving.len() * 2);
        }
    }

    /// What has changed since the last call.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Whether messages on `topic` come from upstream.
    pub(super) fn reaches(&self, topic: &[u8]) -> bool {
        (0..=topic.len()).any(|n| self.up.contains_key(&topic[..n]))
    }

    /// Prefixes subscribed upward.
    pub(super) fn len(&self) -> usize {
        self.up.len()
    }

    fn raise(&mut self, prefix: Box<[u8]>) {
        match self.up.get_mut(&prefix) {
            Some(leaves) => *leaves = None,
            None => {
                self.up.insert(prefix.clone(), None);
                self.changes.push(Change::Subscribe(prefix));
            }
        }
    }

    fn leave(&mut self, prefix: Box<[u8]>, now: Instant) {
        if let Some(leaves) = self.up.get_mut(&prefix) {
            let at = now + self.linger;
            *leaves = Some(at);
            self.leaving.push_back((at, prefix));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trestle_recorder::RecordRule;

    use super::*;

    const LINGER: Duration = Duration::from_secs(2);

    fn rules(prefixes: &[&str]) -> RecordRules {
        prefixes.iter().map(|prefix| RecordRule::new(*prefix)).collect()
    }

    fn told(wants: &mut Wants) -> Vec<String> {
        let text = |sign: char, prefix: &[u8]| format!("{sign}{}", String::from_utf8_lossy(prefix));
        let changes = wants.changes().into_iter().map(|change| match change {
            Change::Subscribe(prefix) => text('+', &prefix),
            Change::Unsubscribe(prefix) => text('-', &prefix),
        });
        changes.collect()
    }

    #[test]
    fn only_what_is_not_recorded_goes_up_on_its_own() {
        let (mut wants, now) = (Wants::new(LINGER), Instant::now());
        wants.record(rules(&["jobs/", "chat/"]), now);
        assert_eq!(told(&mut wants), ["+chat/", "+jobs/"]);
        for prefix in ["jobs/42", "jobs/", "job", "x", "x"] {
            wants.add(prefix.as_bytes().into());
        }
        assert_eq!(told(&mut wants), ["+job", "+x"]);
        assert!(wants.reaches(b"jobs/1") && wants.reaches(b"jo b") == wants.reaches(b"jo"));
        assert_eq!(wants.len(), 4);
    }

    #[test]
    fn the_last_removal_lingers() {
        let (mut wants, start) = (Wants::new(LINGER), Instant::now());
        wants.add(b"x"[..].into());
        wants.add(b"x"[..].into());
        wants.remove(b"x"[..].into(), start);
        wants.tick(start + LINGER * 2);
        assert_eq!(told(&mut wants), ["+x"], "one still wants it");

        wants.remove(b"x"[..].into(), start);
        wants.tick(start + LINGER / 2);
        wants.add(b"x"[..].into());
        wants.tick(start + LINGER * 2);
        assert_eq!(told(&mut wants), [""; 0], "a reload churns nothing");

        wants.remove(b"x"[..].into(), start + LINGER * 2);
        wants.tick(start + LINGER * 3);
        assert_eq!(told(&mut wants), ["-x"]);
        assert!(!wants.reaches(b"x"));
    }

    #[test]
    fn a_storm_that_leaves_is_ended_bit_by_bit() {
        let (mut wants, start) = (Wants::new(LINGER), Instant::now());
        let prefixes: Vec<Box<[u8]>> = (0..5_000u32).map(|n| n.to_be_bytes()[..].into()).collect();
        prefixes.iter().for_each(|prefix| wants.add(prefix.clone()));
        assert_eq!(wants.changes().len(), 5_000);
        prefixes.into_iter().for_each(|prefix| wants.remove(prefix, start));
        let ended = [(); 4].map(|()| {
            wants.tick(start + LINGER);
            wants.changes().len()
        });
        assert_eq!(ended, [2_000, 2_000, 1_000, 0]);
        assert_eq!((wants.len(), wants.leaving.capacity()), (0, 0));
    }

    #[test]
    fn rules_that_change_move_the_border() {
        let (mut wants, start) = (Wants::new(LINGER), Instant::now());
        wants.add(b"jobs/1"[..].into());
        wants.add(b"x"[..].into());
        wants.record(rules(&["jobs/"]), start);
        wants.tick(start + LINGER);
        assert_eq!(told(&mut wants), ["+jobs/1", "+x", "+jobs/", "-jobs/1"]);
        wants.record(rules(&[]), start);
        wants.tick(start + LINGER);
        assert_eq!(told(&mut wants), ["+jobs/1", "-jobs/"]);
    }

    proptest! {
        /// However wants and rules come and go: once everything has lingered, exactly what is recorded or wanted and not
        /// covered is subscribed; and at no time does a wanted topic not reach.
        #[test]
        fn agrees_with_a_list(script in proptest::collection::vec((0u8..3, "[ab]{0,2}"), 0..40)) {
            let (mut wants, mut now) = (Wants::new(LINGER), Instant::now());
            let (mut list, mut ruled) = (Vec::<String>::new(), Vec::<String>::new());
            let mut subscribed = BTreeSet::new();
            for (verb, prefix) in script {
                match verb {
                    0 => { wants.add(prefix.as_bytes().into()); list.push(prefix); }
                    1 => {
                        if let Some(i) = list.iter().position(|p| *p == prefix) { list.swap_remove(i); }
                        wants.remove(prefix.as_bytes().into(), now);
                    }
                    _ => {
                        ruled = if prefix.is_empty() { Vec::new() } else { vec![prefix] };
                        wants.record(rules(&ruled.iter().map(|r| &r[..]).collect::<Vec<_>>()), now);
                    }
                }
                now += Duration::from_millis(700);
                wants.tick(now);
                apply(&mut wants, &mut subscribed);
                prop_assert!(list.iter().chain(&ruled).all(|p| wants.reaches(p.as_bytes())));
            }
            wants.tick(now + LINGER);
            apply(&mut wants, &mut subscribed);
            let on_demand = list.iter().filter(|p| !ruled.iter().any(|rule| p.starts_with(rule)));
            let expected: BTreeSet<Box<[u8]>> =
                on_demand.chain(&ruled).map(|prefix| prefix.as_bytes().into()).collect();
            prop_assert_eq!(subscribed, expected);
        }
    }

    fn apply(wants: &mut Wants, subscribed: &mut BTreeSet<Box<[u8]>>) {
        for change in wants.changes() {
            match change {
                Change::Subscribe(prefix) => assert!(subscribed.insert(prefix), "told once"),
                Change::Unsubscribe(prefix) => assert!(subscribed.remove(&prefix), "was told"),
            }
        }
    }
}
