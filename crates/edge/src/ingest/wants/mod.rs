//! Which prefixes are subscribed upward: all that is recorded, and on demand what is not, up to a bound.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use trestle_recorder::{Interest, RecordRules};

/// Prefixes that one tick ends at most. libzmq takes some 4 µs for each among 100,000, and no message is read meanwhile;
/// those of a storm that has left may take their time.
const ENDS_PER_TICK_MAX: usize = 2_000;

/// So many neighbours in byte order become one shorter prefix, those that have most in common. Of more than 256 times as
/// many, some have a byte in common: only nearly all of a bound far smaller than that would ever become "everything".
const JOINED: usize = 32;

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
    /// Distinct prefixes wanted that no rule covers.
    n_on_demand: usize,
    /// Shorter prefixes subscribed in place of wanted ones, with the number of these; none begins another.
    joined: BTreeMap<Box<[u8]>, usize>,
    /// Subscribed upward; with a time: nobody wants it any more, and then it ends.
    up: BTreeMap<Box<[u8]>, Option<Instant>>,
    /// The times in `up` in order, with some that have been taken back.
    leaving: VecDeque<(Instant, Box<[u8]>)>,
    linger: Duration,
    /// Prefixes subscribed upward on demand at most: each costs the forwarder and every publisher memory, and a connection
    /// that comes back sends all of them again. Where more are wanted, shorter ones are subscribed in their place, and what
    /// comes too much is wanted by no session.
    prefixes_max: usize,
    changes: Vec<Change>,
}

impl Wants {
    /// Nothing is wanted; what ceases to be wanted ends after `linger`. Beside the rules' at most `prefixes_max` prefixes,
    /// 2 or more, are subscribed.
    pub(super) fn new(linger: Duration, prefixes_max: usize) -> Self {
        Self {
            rules: RecordRules::nothing(),
            interest: Interest::default(),
            n_on_demand: 0,
            joined: BTreeMap::new(),
            up: BTreeMap::new(),
            leaving: VecDeque::new(),
            linger,
            prefixes_max,
            changes: Vec::new(),
        }
    }

    /// From now on `rules` say what is recorded.
    pub(super) fn record(&mut self, rules: RecordRules, now: Instant) {
        self.rules = rules;
        let mut wanted: BTreeSet<Box<[u8]>> = self.rules.iter().map(|rule| rule.prefix[..].into()).collect();
        self.n_on_demand = 0;
        self.joined.values_mut().for_each(|n_wanted| *n_wanted = 0);
        for prefix in self.interest.prefixes().filter(|prefix| !self.rules.covers(prefix)) {
            self.n_on_demand += 1;
            match joined_over(&mut self.joined, prefix) {
                Some((_, n_wanted)) => *n_wanted += 1,
                None => _ = wanted.insert(prefix.into()),
            }
        }
        self.joined.retain(|_, n_wanted| *n_wanted > 0);
        wanted.extend(self.joined.keys().cloned());
        let standing = self.up.iter().filter(|(_, leaves)| leaves.is_none()).map(|(prefix, _)| prefix);
        // Wider subscriptions stand before narrower ones end, so that nothing falls between them.
        let unwanted: Vec<_> = standing.filter(|prefix| !wanted.contains(*prefix)).cloned().collect();
        wanted.into_iter().for_each(|prefix| self.raise(prefix));
        unwanted.into_iter().for_each(|prefix| self.leave(prefix, now));
        self.bound();
    }

    /// One more wants `prefix`.
    pub(super) fn add(&mut self, prefix: Box<[u8]>) {
        if self.interest.add(&prefix) && !self.rules.covers(&prefix) {
            self.n_on_demand += 1;
            if let Some((_, n_wanted)) = joined_over(&mut self.joined, &prefix) {
                *n_wanted += 1;
            } else {
                self.raise(prefix);
                self.bound();
            }
        }
    }

    /// One less wants `prefix`.
    pub(super) fn remove(&mut self, prefix: Box<[u8]>, now: Instant) {
        if self.interest.remove(&prefix) && !self.rules.covers(&prefix) {
            self.n_on_demand -= 1;
            match joined_over(&mut self.joined, &prefix) {
                Some((_, n_wanted)) if *n_wanted > 1 => *n_wanted -= 1,
                Some((joined, _)) => {
                    let joined: Box<[u8]> = joined.into();
                    self.joined.remove(&joined);
                    self.leave(joined, now);
                }
                None => self.leave(prefix, now),
            }
        }
    }

    /// Ends what has lingered long enough, so many at once and the rest at the next ticks.
    pub(super) fn tick(&mut self, now: Instant) {
        // Half, so that a number about the bound does not part and join all the time.
        if !self.joined.is_empty() && self.n_on_demand <= self.prefixes_max / 2 {
            self.part(now);
        }
        let mut n_ended = 0;
        while n_ended < ENDS_PER_TICK_MAX
            && let Some((at, prefix)) = self.leaving.pop_front_if(|(at, _)| *at <= now)
        {
            n_ended += usize::from(self.end(at, prefix));
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

    /// The bound of those that no rule covers.
    pub(super) fn prefixes_max(&self) -> usize {
        self.prefixes_max
    }

    /// Prefixes that are wanted and come by a shorter one, because there are too many.
    pub(super) fn n_joined(&self) -> usize {
        self.joined.values().sum()
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

    /// Ends a prefix that was to leave `at` a time, unless it is wanted again, or wanted and left again: then a later entry
    /// ends it. Whether it ended.
    fn end(&mut self, at: Instant, prefix: Box<[u8]>) -> bool {
        let ends = self.up.get(&prefix).is_some_and(|leaves| leaves.is_some_and(|leaves| leaves <= at));
        if ends {
            self.up.remove(&prefix);
            self.changes.push(Change::Unsubscribe(prefix));
        }
        ends
    }

    fn up_max(&self) -> usize {
        self.prefixes_max + self.rules.iter().count()
    }

    /// Keeps to the bound: what lingers ends early, and then neighbours are joined.
    fn bound(&mut self) {
        let up_max = self.up_max();
        while self.up.len() > up_max {
            match self.leaving.pop_front() {
                Some((at, prefix)) => _ = self.end(at, prefix),
                None => self.join(),
            }
        }
    }

    /// Subscribes to one prefix in place of those neighbours that have most in common. Nothing lingers.
    fn join(&mut self) {
        let is_rule = |prefix: &[u8]| self.rules.iter().any(|rule| rule.prefix[..] == *prefix);
        let on_demand: Vec<&[u8]> = self.up.keys().map(|prefix| &**prefix).filter(|p| !is_rule(p)).collect();
        let in_common =
            on_demand.windows(JOINED.min(on_demand.len())).map(|run| common(run[0], run[run.len() - 1]));
        let prefix = in_common.max_by_key(|prefix| prefix.len()).unwrap_or_default();
        let covered: Vec<Box<[u8]>> =
            under(&self.up, prefix).filter(|p| !is_rule(p) && ***p != *prefix).cloned().collect();
        let prefix: Box<[u8]> = prefix.into();
        // First the wider one, so that nothing falls between them.
        let own = usize::from(self.up.contains_key(&prefix) && !self.joined.contains_key(&prefix));
        self.raise(prefix.clone());
        let mut n_wanted = own + self.joined.remove(&prefix).unwrap_or_default();
        for covered in covered {
            n_wanted += self.joined.remove(&covered).unwrap_or(1);
            self.up.remove(&covered);
            self.changes.push(Change::Unsubscribe(covered));
        }
        self.joined.insert(prefix, n_wanted);
    }

    /// Subscribes again to each wanted prefix by itself.
    fn part(&mut self, now: Instant) {
        let on_demand = self.interest.prefixes().filter(|prefix| !self.rules.covers(prefix));
        let wanted: BTreeSet<Box<[u8]>> = on_demand.map(Into::into).collect();
        // Those that are raised stand beside the joined ones for a moment: what lingers makes room for them.
        let up_max = self.up_max();
        while self.up.len() + wanted.len() > up_max
            && let Some((at, prefix)) = self.leaving.pop_front()
        {
            self.end(at, prefix);
        }
        let joined = std::mem::take(&mut self.joined);
        let unwanted: Vec<_> = joined.into_keys().filter(|prefix| !wanted.contains(prefix)).collect();
        wanted.into_iter().for_each(|prefix| self.raise(prefix));
        unwanted.into_iter().for_each(|prefix| self.leave(prefix, now));
        self.bound();
    }
}

/// The joined prefix that `prefix` begins with, with the number of those that it stands for. As none begins another, only
/// the last one up to it in byte order can be it.
fn joined_over<'a>(
    joined: &'a mut BTreeMap<Box<[u8]>, usize>,
    prefix: &[u8],
) -> Option<(&'a [u8], &'a mut usize)> {
    let up_to = (Bound::Unbounded, Bound::Included(prefix));
    let (joined, n_wanted) = joined.range_mut::<[u8], _>(up_to).next_back()?;
    prefix.starts_with(joined).then_some((joined, n_wanted))
}

/// Those that begin with `prefix`, in byte order.
fn under<'a, T>(up: &'a BTreeMap<Box<[u8]>, T>, prefix: &'a [u8]) -> impl Iterator<Item = &'a Box<[u8]>> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    up.range::<[u8], _>(from).map(|(key, _)| key).take_while(move |key| key.starts_with(prefix))
}

/// What both begin with.
fn common<'a>(one: &'a [u8], other: &[u8]) -> &'a [u8] {
    let n = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    &one[..n]
}
