//! `max_hz`: the latest message of each topic, held until it is time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use trestle_messages::Position;

use crate::session::Subscription;

/// What a session's limited subscriptions hold back.
///
/// All that a limited prefix matches goes out together, at most once in its interval and then at once: so a topic is sent no
/// more often, what waits is the latest, and positions rise. Limited subscriptions that overlap share a lane and the
/// longest of their intervals; a message of theirs that the limit does not concern, because a longer subscription without
/// one decides, waits with the others, since its position must not overtake theirs, and is not replaced.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// In the order of their topics; none covers another.
    lanes: Vec<Lane>,
    /// By the message's number.
    held: BTreeMap<u64, Held>,
    /// The held message of each topic that a newer one replaces.
    latest: HashMap<Arc<[u8]>, u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Lane {
    topic: Box<[u8]>,
    exact: bool,
    interval: Duration,
    /// What is held goes out then, or what comes later at once.
    next: Instant,
}

/// A message that waits for its time.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) topic: Arc<[u8]>,
    pub(crate) frame: Bytes,
    pub(crate) position: Option<Position>,
}

impl Lane {
    fn covers(&self, topic: &[u8]) -> bool {
        if self.exact { *self.topic == *topic } else { topic.starts_with(&self.topic) }
    }
}

impl Pace {
    /// Follows a change of the subscriptions, which are in the order of their keys. Returns whether one is limited; what
    /// no subscription wants any more is forgotten, what is wanted and not limited is [free](Self::take_free).
    pub(crate) fn follow(&mut self, subscriptions: &[Subscription], now: Instant) -> bool {
        let before = std::mem::take(&mut self.lanes);
        for held in subscriptions.iter().filter(|held| held.interval > Duration::ZERO) {
            // A prefix comes before what it covers, and behind what it covers it covers nothing more.
            let wider = self.lanes.iter_mut().rev().find(|lane| !lane.exact);
            if let Some(wider) = wider.filter(|lane| lane.covers(&held.topic)) {
                wider.interval = wider.interval.max(held.interval);
                continue;
            }
            let (topic, exact, interval) = (held.topic.clone(), held.exact, held.interval);
            self.lanes.push(Lane { topic, exact, interval, next: now });
        }
        for lane in &mut self.lanes {
            let same = |old: &&Lane| lane.covers(&old.topic) || old.covers(&lane.topic);
            let next = before.iter().filter(same).map(|old| old.next).max();
            // One that now may be sent more often does not wait out what it was before.
            lane.next = next.map_or(now, |next| next.min(now + lane.interval));
        }
        let is_wanted = |topic: &[u8]| subscriptions.iter().any(|held| held.wants(topic));
        self.held.retain(|_, held| is_wanted(&held.topic));
        self.latest.retain(|topic, _| is_wanted(topic));
        self.bytes = self.held.values().map(|held| held.frame.len()).sum();
        !self.lanes.is_empty()
    }

    fn lane_of(&self, topic: &[u8]) -> Option<usize> {
        let at = self.lanes.partition_point(|lane| *lane.topic <= *topic).checked_sub(1)?;
        // An exact lane may stand beside a prefix of the same topic only before that is covered.
        self.lanes[at].covers(topic).then_some(at)
    }

    /// Whether a limited subscription matches.
    pub(crate) fn concerns(&self, topic: &[u8]) -> bool {
        self.lane_of(topic).is_some()
    }

    /// Holds a message that [`concerns`](Self::concerns) it; one that `is_limited` replaces an older one of its topic.
    /// Returns when it is due, and whether one was replaced.
    pub(crate) fn hold(&mut self, seq: u64, held: Held, is_limited: bool) -> (Instant, bool) {
        let lane = self.lane_of(&held.topic).expect("a lane covers it");
        let mut has_replaced = false;
        if is_limited && let Some(older) = self.latest.insert(Arc::clone(&held.topic), seq) {
            let older = self.held.remove(&older).expect("the latest of a topic is held");
            self.bytes -= older.frame.len();
            has_replaced = true;
        }
        self.bytes += held.frame.len();
        self.held.insert(seq, held);
        (self.lanes[lane].next, has_replaced)
    }

    /// When something that is held is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let lanes = self.held.values().filter_map(|held| self.lane_of(&held.topic));
        lanes.map(|lane| self.lanes[lane].next).min()
    }

    /// Takes what is due at `now`, in its order.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<(u64, Held)> {
        let is_due: Vec<_> = self.lanes.iter().map(|lane| lane.next <= now).collect();
        let (mut due, mut kept) = (Vec::new(), BTreeMap::new());
        for (seq, held) in std::mem::take(&mut self.held) {
            match self.lane_of(&held.topic) {
                Some(lane) if is_due[lane] => {
                    self.lanes[lane].next = now + self.lanes[lane].interval;
                    self.bytes -= held.frame.len();
                    self.latest.remove(&held.topic);
                    due.push((seq, held));
                }
                _ => {
                    kept.insert(seq, held);
                }
            }
        }
        self.held = kept;
        due
    }

    /// Takes what no limited subscription matches any more, in its order.
    pub(crate) fn take_free(&mut self) -> Vec<(u64, Held)> {
        let (kept, free): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.held).into_iter().partition(|(_, held)| self.concerns(&held.topic));
        self.held = kept;
        for held in free.values() {
            self.bytes -= held.frame.len();
            self.latest.remove(&held.topic);
        }
        free.into_iter().collect()
    }

    /// Takes everything, in its order.
    pub(crate) fn take_all(&mut self) -> Vec<(u64, Held)> {
        self.latest.clear();
        self.bytes = 0;
        std::mem::take(&mut self.held).into_iter().collect()
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing behind this position may be told yet.
    pub(crate) fn holds_back(&self) -> Option<Position> {
        let first = self.held.values().find_map(|held| held.position)?;
        Some(Position { offset: first.offset - 1, ..first })
    }
}
