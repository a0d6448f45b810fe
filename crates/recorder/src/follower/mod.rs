//! The edge's end of the link: what stamps, beats and replays say about it, and what is to be done.

mod held;
mod kept;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use trestle_messages::Position;
use trestle_messages::v1::{Beat, Stamp};

use crate::{Gap, RecordRules, RingStarts};

use held::Held;

pub use kept::Kept;

/// A forwarder beats this often, and after each burst.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// After so many missed beats the upstream counts as silent.
pub const BEATS_MISSED_MAX: u32 = 3;

/// Recorded messages behind a hole wait so long for its repair, and so many bytes of them.
const REPAIR_MAX: Duration = Duration::from_secs(2);
/// As [`REPAIR_MAX`], in bytes.
const HELD_BYTES_MAX: usize = 32 << 20;

/// A replay that failed is asked for again after this.
const RETRY: Duration = Duration::from_millis(200);

/// A forwarder that has been silent for so long while another one speaks has been replaced by it.
const REPLACED_AFTER: Duration = Duration::from_millis(1_500);

/// What becomes of a message that has just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// It is next, or outside the sequence: it goes into the log, before the [`Action`]s that follow.
    Now,
    /// Something comes before it: an [`Action`] delivers it, or it is replayed.
    Later,
    /// It came before, or from another forwarder than the one that is followed.
    Dropped,
}

/// What is to be done, in order.
#[derive(Debug, PartialEq)]
pub enum Action<M> {
    /// The log records by these rules from now on, and upstream is asked for them.
    Rules(RecordRules),
    /// The log becomes a clone of the one that stands at this position; its messages follow.
    Begin(Position, RingStarts),
    /// The message goes into the log.
    Deliver(M),
    /// The sequence stands here without a message: nothing before was promised.
    Advance(Position),
    /// A part of the sequence will not come: into the log in its place.
    Gap(Gap),
    /// The forwarder is to be asked for what is behind an offset.
    Replay(Ask),
    /// All that is kept upstream is here: clients may come. Given once.
    Cloned,
}

/// A replay to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Given back with each answer; answers to older ones are ignored.
    pub id: u64,
    /// The epoch of the offsets.
    pub epoch: u64,
    /// Messages behind this offset.
    pub after: u64,
    /// Up to this one; 0: all there are.
    pub through: u64,
}

/// A batch of a replay, as the forwarder sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch<M> {
    /// In the first: where the forwarder's log stands, what it records, and where its rings begin.
    pub start: Option<(Position, RecordRules, RingStarts)>,
    /// Offset and message, in order; not every offset among them is kept.
    pub messages: Vec<(u64, M)>,
    /// All that is kept up to this offset was sent.
    pub through: u64,
}

/// What the follower has counted. All only rise.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FollowerCounts {
    /// Places where messages were missing on the link.
    pub holes: u64,
    /// Parts of the sequence that never came: each is a [`Gap`], which clients are told.
    pub gaps: u64,
    /// Messages that were missing and came by a replay.
    pub repaired: u64,
    /// Messages that never came.
    pub missing: u64,
    /// Messages that a clone took.
    pub cloned: u64,
    /// Replays asked for.
    pub replays: u64,
    /// Times that the sequence went on in another epoch.
    pub epoch_changes: u64,
    /// Messages and beats of a second forwarder on the link.
    pub foreign: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has been heard.
    Unknown,
    /// What is kept upstream is on its way.
    Cloning,
    /// The sequence is followed.
    Following,
}

/// Follows one forwarder. Feed it every stamp and beat in the order of the link and each answer to what it asks for, and do
/// what it says ([`take_actions`](Self::take_actions)) after each; time never goes back. `M` is a message that is kept
/// while it waits.
#[derive(Debug)]
pub struct Follower<M> {
    /// Whether replays can be asked for. Otherwise a hole is a loss at once, and a start is wherever the sequence stands.
    repairs: bool,
    phase: Phase,
    is_cloned: bool,
    /// A clone was begun: the log stands somewhere.
    has_begun: bool,
    epoch: u64,
    /// All up to here was delivered or declared lost.
    head: u64,
    /// The newest offset that is known to exist.
    newest: u64,
    rules: RecordRules,
    last_beat: Option<Instant>,
    held: Held<M>,
    /// Since when something is missing.
    hole_since: Option<Instant>,
    /// The replay on its way.
    asked: Option<Ask>,
    retry_at: Option<Instant>,
    n_asks: u64,
    /// Since when subscriptions travel up; what is numbered until they stand was never promised to us.
    joining: Option<Instant>,
    /// While another epoch is cloned than the one that readers know: where that one stood.
    before: Option<Position>,
    /// Up to here the clone on its way has holes, because rings begin behind them, and readers were not told.
    sparse_through: u64,
    counts: FollowerCounts,
    actions: VecDeque<Action<M>>,
}

impl<M> Follower<M> {
    /// Has heard nothing. `repairs`: whether replays can be asked for.
    pub fn new(repairs: bool) -> Self {
        Self {
            repairs,
            phase: Phase::Unknown,
            is_cloned: false,
            has_begun: false,
            epoch: 0,
            head: 0,
            newest: 0,
            rules: RecordRules::nothing(),
            last_beat: None,
            held: Held::default(),
            hole_since: None,
            asked: None,
            retry_at: None,
            n_asks: 0,
            joining: None,
            before: None,
            sparse_through: 0,
            counts: FollowerCounts::default(),
            actions: VecDeque::new(),
        }
    }

    /// A message's stamp. `keep` makes a copy with its size in bytes, if something comes before it.
    pub fn on_stamp(&mut self, stamp: &Stamp, now: Instant, keep: impl FnOnce() -> (M, usize)) -> Passing {
        if stamp.offset == 0 {
            return Passing::Now;
        }
        let before = Position { epoch: stamp.epoch, offset: stamp.offset - 1 };
        if stamp.epoch != self.epoch && !self.meets(before, now) {
            return Passing::Dropped;
        }
        if stamp.offset <= self.head {
            return Passing::Dropped;
        }
        self.newest = self.newest.max(stamp.offset);
        if self.phase == Phase::Following && stamp.offset == self.head + 1 {
            self.head += 1;
            self.joining = None;
            let is_first = self.actions.is_empty();
            if !is_first {
                self.actions.push_back(Action::Deliver(keep().0));
            }
            self.deliver_held(now);
            return if is_first { Passing::Now } else { Passing::Later };
        }
        if !self.repairs {
            self.lose_up_to(stamp.offset - 1, now);
            (self.head, self.joining) = (stamp.offset, None);
            self.actions.push_back(Action::Deliver(keep().0));
            return Passing::Later;
        }
        let (message, bytes) = keep();
        self.held.insert(stamp.offset, message, bytes);
        self.bound_held();
        self.ask(now);
        Passing::Later
    }

    /// A beat, received at `now`.
    pub fn on_beat(&mut self, beat: &Beat, now: Instant) {
        let head = Position { epoch: beat.epoch, offset: beat.head };
        if beat.epoch != self.epoch && !self.meets(head, now) {
            return;
        }
        let is_first = self.last_beat.replace(now).is_none();
        let rules = RecordRules::from(&beat.recorded[..]);
        if is_first || rules != self.rules {
            self.rules = rules.clone();
            self.actions.push_back(Action::Rules(rules));
            self.joining = Some(now);
        }
        self.newest = self.newest.max(beat.head);
        if !self.repairs {
            self.lose_up_to(beat.head, now);
        } else if self.rules.iter().next().is_none() {
            // Nothing is recorded, so that there is nothing to clone.
            self.phase = Phase::Following;
        }
        self.ask(now);
        self.settle();
    }

    /// A batch of the replay `id`.
    pub fn on_replay(&mut self, id: u64, batch: Batch<M>, now: Instant) {
        let Some(asked) = self.asked.filter(|asked| asked.id == id) else { return };
        let is_clone = self.phase == Phase::Cloning;
        // It goes on: what waits for it waits on.
        self.hole_since = Some(now);
        if let Some((position, rules, starts)) = batch.start {
            if position.epoch != asked.epoch {
                return self.on_replay_failed(id, now);
            }
            self.newest = self.newest.max(position.offset);
            if is_clone {
                if rules != self.rules {
                    self.rules = rules.clone();
                    self.actions.push_back(Action::Rules(rules));
                }
                self.has_begun = true;
                self.sparse_through = starts.rings.iter().map(|(_, after)| *after).max().unwrap_or(0);
                self.actions.push_back(Action::Begin(position, starts));
            }
        }
        for (offset, message) in batch.messages {
            if offset <= self.head {
                continue;
            }
            if is_clone {
                self.tell_sparse(offset);
                self.counts.cloned += 1;
            } else {
                self.lose_up_to(offset - 1, now);
                self.counts.repaired += 1;
            }
            self.head = offset;
            self.actions.push_back(Action::Deliver(message));
        }
        if batch.through > self.head {
            if is_clone {
                self.head = batch.through;
            } else {
                self.lose_up_to(batch.through, now);
            }
        }
        self.newest = self.newest.max(self.head);
    }

    /// The replay `id` has ended well.
    pub fn on_replay_end(&mut self, id: u64, now: Instant) {
        if self.asked.is_none_or(|asked| asked.id != id) {
            return;
        }
        self.asked = None;
        if self.phase == Phase::Cloning {
            self.phase = Phase::Following;
            self.tell_sparse(u64::MAX);
            self.before = None;
            self.actions.push_back(Action::Advance(self.position()));
            // From here on what is missing is a hole of its own.
            self.hole_since = None;
        }
        self.deliver_held(now);
        self.ask(now);
        self.settle();
    }

    /// The replay `id` cannot be had, now or any more.
    pub fn on_replay_failed(&mut self, id: u64, now: Instant) {
        if self.asked.is_some_and(|asked| asked.id == id) {
            self.asked = None;
            self.retry_at = Some(now + RETRY);
            if self.phase == Phase::Following && self.head >= self.newest {
                // It broke off behind its last message: the next hole has its own time.
                self.hole_since = None;
            }
        }
    }

    /// Time has come to `now`: what has waited too long is declared lost, what failed is asked for again.
    pub fn tick(&mut self, now: Instant) {
        let is_late = self.hole_since.is_some_and(|since| now >= since + REPAIR_MAX);
        if is_late && self.is_cloned {
            self.give_up(now);
        }
        self.retry_at = self.retry_at.filter(|at| now < *at);
        self.joining = self.joining.filter(|since| now < *since + BEAT_INTERVAL);
        self.ask(now);
        self.settle();
    }

    /// What is to be done since the last call.
    pub fn take_actions(&mut self) -> impl Iterator<Item = Action<M>> + use<M> {
        std::mem::take(&mut self.actions).into_iter()
    }

    /// Whether there is something to do.
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Whether a beat has come at all.
    pub fn has_followed(&self) -> bool {
        self.last_beat.is_some()
    }

    /// Whether [`BEATS_MISSED_MAX`] beats have been missed at `now`; never before the first beat.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.last_beat.is_some_and(|last| now.duration_since(last) > BEAT_INTERVAL * BEATS_MISSED_MAX)
    }

    /// The epoch followed, 0 before the first, and the offset up to which all was delivered or declared lost.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.head }
    }

    /// What was counted.
    pub fn counts(&self) -> FollowerCounts {
        self.counts
    }

    /// Something of another epoch has come, from where the sequence stands at `at`. Whether that one is followed now: the
    /// first of all is, and one whose predecessor has fallen silent; another forwarder beside ours is not.
    fn meets(&mut self, at: Position, now: Instant) -> bool {
        // Without replays it is followed from here on.
        let (phase, offset) = if self.repairs { (Phase::Cloning, 0) } else { (Phase::Following, at.offset) };
        if self.epoch == 0 {
            (self.epoch, self.head, self.phase) = (at.epoch, offset, phase);
            if !self.repairs {
                self.actions.push_back(Action::Advance(self.position()));
            }
            return true;
        }
        let is_replaced = self.last_beat.is_none_or(|last| now >= last + REPLACED_AFTER);
        if !is_replaced && self.repairs {
            self.counts.foreign += 1;
            return false;
        }
        self.counts.epoch_changes += 1;
        if self.has_begun || !self.repairs {
            let until = Position { offset, ..at };
            let gap = Gap { from: Some(self.position()), until, messages: None };
            self.actions.push_back(Action::Gap(gap));
            self.before = self.before.or(gap.from).filter(|_| self.repairs);
        }
        // Its first beat may still come; the old one's must not bring that back.
        self.last_beat = self.last_beat.map(|_| now);
        (self.epoch, self.head, self.newest) = (at.epoch, offset, offset);
        self.held.clear();
        (self.asked, self.retry_at, self.hole_since) = (None, None, None);
        self.sparse_through = 0;
        self.phase = phase;
        true
    }

    /// The clone of another epoch comes to offset `next`: readers, who have been there since the last one, get the part where
    /// rings begin as far as it is kept, and hear behind it that something is missing.
    fn tell_sparse(&mut self, next: u64) {
        if self.sparse_through == 0 || next <= self.sparse_through {
            return;
        }
        let until = Position { offset: std::mem::take(&mut self.sparse_through), ..self.position() };
        // A clone that was asked for once more may have come further already.
        if self.before.is_some() && until.offset >= self.head {
            self.actions.push_back(Action::Gap(Gap { from: self.before, until, messages: None }));
            self.head = until.offset;
        }
    }

    /// Delivers what has waited and is next.
    fn deliver_held(&mut self, now: Instant) {
        self.held.drop_up_to(self.head);
        self.deliver_next();
        if self.head >= self.newest {
            self.hole_since = None;
        } else if self.hole_since.is_some() {
            // Another hole behind this one has its own time.
            self.hole_since = Some(now);
        }
    }

    /// Asks for what is missing, unless that is under way or was refused just now.
    fn ask(&mut self, now: Instant) {
        if !self.repairs || self.epoch == 0 || self.last_beat.is_none() {
            return;
        }
        let through = match self.phase {
            Phase::Unknown => return,
            Phase::Cloning => 0,
            Phase::Following if self.head >= self.newest => return,
            Phase::Following => self.held.first().map_or(self.newest, |first| first - 1),
        };
        if self.hole_since.is_none() {
            self.hole_since = Some(now);
            self.counts.holes += u64::from(self.phase == Phase::Following);
        }
        if self.asked.is_some() || self.retry_at.is_some() {
            return;
        }
        self.n_asks += 1;
        self.counts.replays += 1;
        let ask = Ask { id: self.n_asks, epoch: self.epoch, after: self.head, through };
        self.asked = Some(ask);
        self.actions.push_back(Action::Replay(ask));
    }

    /// Too much waits. Nobody is served yet while the first clone is under way: then it is replayed, too.
    fn bound_held(&mut self) {
        if self.held.bytes() <= HELD_BYTES_MAX {
            return;
        }
        if self.phase == Phase::Cloning {
            self.held.clear();
        } else {
            let before = self.held.first().expect("something is held") - 1;
            self.declare_lost(before);
            self.asked = None;
            self.deliver_next();
            self.hole_since = None;
        }
    }

    /// What has waited for too long waits no longer.
    fn give_up(&mut self, now: Instant) {
        self.phase = Phase::Following;
        self.tell_sparse(u64::MAX);
        self.before = None;
        let before = self.held.first().map_or(self.newest, |first| first - 1);
        self.declare_lost(before);
        (self.asked, self.retry_at, self.hole_since) = (None, None, None);
        self.deliver_held(now);
    }

    /// Delivers what is held behind the head without a hole.
    fn deliver_next(&mut self) {
        // Whoever speaks on the link may have said the last offset that there is.
        while let Some(next) = self.head.checked_add(1)
            && let Some(message) = self.held.take(next)
        {
            self.head = next;
            self.actions.push_back(Action::Deliver(message));
        }
    }

    /// Without repair, or where a replay has no more: what is missing up to `offset` is lost, unless it was never promised.
    fn lose_up_to(&mut self, offset: u64, now: Instant) {
        if offset <= self.head {
            return;
        }
        let is_joining = self.joining.is_some_and(|since| now < since + BEAT_INTERVAL);
        if !self.repairs && !self.is_cloned && is_joining {
            self.head = offset;
            self.actions.push_back(Action::Advance(self.position()));
            return;
        }
        self.counts.holes += u64::from(!self.repairs);
        self.declare_lost(offset);
    }

    fn declare_lost(&mut self, offset: u64) {
        if offset <= self.head {
            return;
        }
        let (from, missing) = (self.position(), offset - self.head);
        // Who leaps to the last offset there is, twice, is counted to the end.
        self.counts.missing = self.counts.missing.saturating_add(missing);
        self.counts.gaps += 1;
        self.head = offset;
        self.newest = self.newest.max(offset);
        self.actions.push_back(Action::Gap(Gap {
            from: Some(from),
            until: self.position(),
            messages: Some(missing),
        }));
    }

    fn settle(&mut self) {
        let is_here = self.phase == Phase::Following && self.last_beat.is_some() && self.head >= self.newest;
        // Who comes before subscriptions stand would miss what nobody knows of.
        let is_promised = self.repairs || self.joining.is_none();
        if is_here && is_promised && !self.is_cloned {
            self.is_cloned = true;
            self.actions.push_back(Action::Cloned);
        }
    }
}
