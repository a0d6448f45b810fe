//! What goes out to a session that is behind in one write, in its order.

use bytes::Bytes;
use smallvec::SmallVec;
use trestle_messages::Position;
use trestle_recorder::Message;

use super::overrun::leads_to_another_epoch;
use super::visit::SLICES_MAX;
use super::{Hub, SessionId};
use crate::backlog::{Backlog, Loss, Replay, Waiting, What};
use crate::catch_up::Pending;
use crate::decode::Decoders;
use crate::encode::{self, CaughtUp, Lost, LostCause, LostCount, Policy, ServerMessage};
use crate::session::{Session, Subscription, matching};

/// Bytes gathered for one write.
const WRITE_BYTES_MAX: usize = 256 << 10;

/// A frame that goes out next.
pub(super) enum Item {
    /// Out of the log.
    Logged { frame: Bytes, event_bytes: Option<usize>, step: Step },
    /// Of what waits outside.
    Waiting(Waiting),
}

/// How the place in the log moves when an item is on its way.
pub(super) struct Step {
    pub(super) next: u64,
    pub(super) position: Option<Position>,
    /// Messages passed over because newer ones replace them.
    pub(super) n_replaced: u64,
    /// Messages passed over because they were shed; they are told now.
    pub(super) n_shed: u64,
    /// The replays that the message belongs to.
    pub(super) replays: SmallVec<[u32; 1]>,
    /// It is a loss that is told.
    pub(super) told: Option<LostCause>,
}

impl Item {
    pub(super) fn frame(&self) -> &Bytes {
        match self {
            Self::Logged { frame, .. } => frame,
            Self::Waiting(waiting) => &waiting.frame,
        }
    }

    pub(super) fn is_event(&self) -> bool {
        match self {
            Self::Logged { event_bytes, .. } => event_bytes.is_some(),
            Self::Waiting(waiting) => waiting.what.is_event(),
        }
    }
}

pub(super) type Items = SmallVec<[Item; 16]>;

impl Hub {
    /// A loss that the client has not heard of yet concerns none but the subscriptions that it holds now: it waits as it is,
    /// before all that comes for others.
    pub(super) fn queue_loss(&mut self, id: SessionId) {
        let session = &mut self.sessions[id as usize];
        let Some(backlog) = session.backlog.as_mut().filter(|backlog| backlog.lost.count > 0) else { return };
        let loss = std::mem::take(&mut backlog.lost);
        let lost = lost(session, &loss);
        let cause = lost.cause;
        let frame = ServerMessage::Lost(lost).frame(session.protocol.format());
        self.counts.told_lost[cause as usize] += 1;
        // It tells the client how far it is, but not the hub, which may go back behind that.
        self.push(id, Waiting { before: loss.start, frame, what: What::Reply });
    }

    /// What goes out next, taken from what waits outside the log but only looked up in the log: there nothing changes until
    /// it is written.
    pub(super) fn gather(
        &mut self,
        id: SessionId,
        backlog: &mut Backlog,
        segments_left: &mut usize,
    ) -> Items {
        let session = &self.sessions[id as usize];
        let kind = self.places[id as usize].kind;
        let ended = std::mem::take(&mut backlog.ended);
        let held = &session.subscriptions[..];
        let mut listed = std::mem::take(&mut backlog.listed);
        let part = (backlog.next, self.routed);
        let mut pending = Pending::new(&self.log, (held, &ended), part, &mut listed);
        let mut gathering = Gathering::new(session, &self.decoders, backlog);
        while !gathering.is_full() {
            let may_find = gathering.backlog.may_find();
            let Some(found) = may_find.then(|| pending.find(segments_left)).flatten() else { break };
            let message = found.message();
            gathering.take_waiting(message.seq(), &self.latest, &mut self.counts.conflated);
            if gathering.is_full() {
                break;
            }
            if found.is_snapshot {
                gathering.take_last_value(&message);
                continue;
            }
            // What is sent again is what the client missed, and comes whole.
            let is_live = message.seq() >= found.held.born;
            let is_newest = || self.latest.get(message.topic()).is_none_or(|latest| *latest <= message.seq());
            match session.policy(found.held) {
                Policy::DropOldest if gathering.backlog.shed.contains(&message.seq()) => {
                    gathering.pass(message.seq(), message.position());
                }
                Policy::Conflate if is_live && !is_newest() => gathering.n_replaced += 1,
                _ => gathering.take(&message, Self::frame_for(kind, &message, &self.decoders).clone()),
            }
        }
        if gathering.backlog.catches_up && !gathering.is_full() {
            gathering.take_waiting(pending.looked_at(), &self.latest, &mut self.counts.conflated);
            if pending.looked_at() >= self.routed {
                gathering.count_lag(self.limits.outbox_bytes_max);
            }
        }
        let nothing_more = !gathering.backlog.may_find();
        if !gathering.is_full() && (nothing_more || pending.looked_at() >= self.routed) {
            gathering.finish(self.routed, &self.latest, &mut self.counts.conflated);
        }
        let looked_at = pending.looked_at();
        let Gathering { items, n_replaced, n_shed, loss, .. } = gathering;
        if items.is_empty() {
            // All that was looked at is passed over now, and not again. What was shed of it is told before what comes next.
            backlog.next = if nothing_more { self.routed } else { looked_at };
            backlog.lag_events = backlog.lag_events.saturating_sub(n_replaced);
            self.counts.conflated += n_replaced;
            (backlog.lost, backlog.n_shed) = (loss, backlog.n_shed.saturating_sub(n_shed));
            if looked_at >= self.routed {
                // Of the rest nothing is there any more: who ended what it was for does not ask.
                backlog.n_shed = 0;
            }
        }
        (backlog.ended, backlog.listed) = (ended, listed);
        items
    }
}

/// What goes out in one write, while it is put together.
struct Gathering<'a> {
    session: &'a Session,
    decoders: &'a Decoders,
    backlog: &'a mut Backlog,
    items: Items,
    bytes: usize,
    /// What the client does not get, as far as the log was looked at.
    loss: Loss,
    n_shed: u64,
    n_replaced: u64,
    position: Option<Position>,
}

impl<'a> Gathering<'a> {
    fn new(session: &'a Session, decoders: &'a Decoders, backlog: &'a mut Backlog) -> Self {
        let (loss, position, items) = (backlog.lost, backlog.position, Items::new());
        Self { session, decoders, backlog, items, bytes: 0, loss, n_shed: 0, n_replaced: 0, position }
    }

    fn is_full(&self) -> bool {
        // One place is for the frame that is begun, one for a loss.
        self.items.len() + 2 >= SLICES_MAX || self.bytes >= WRITE_BYTES_MAX
    }

    fn push(&mut self, item: Item) {
        self.bytes += item.frame().len();
        self.items.push(item);
    }

    /// A message of the log that is not sent.
    fn pass(&mut self, seq: u64, at: Option<Position>) {
        self.loss.begin(seq, self.position);
        self.loss.add(at);
        self.position = at.or(self.position);
        self.n_shed += 1;
    }

    /// A message of the log that is.
    fn take(&mut self, message: &Message<'_>, frame: Bytes) {
        // What is sent again may come before it.
        if message.seq() >= self.loss.start {
            self.tell_loss(message.seq());
        }
        self.position = message.position();
        let event_bytes = Some(encode::frame(message, self.session.protocol.format(), self.decoders).len());
        let mut step = self.step(message.seq() + 1, self.position);
        step.replays = self.replays_of(message);
        self.push(Item::Logged { frame, event_bytes, step });
    }

    /// A message of the log that is sent as a last value: the client comes no further by it.
    fn take_last_value(&mut self, message: &Message<'_>) {
        let frame = encode::snapshot_frame(message, self.session.protocol.format(), self.decoders);
        let (event_bytes, step) = (Some(frame.len()), self.step(message.seq() + 1, None));
        self.push(Item::Logged { frame, event_bytes, step });
    }

    fn replays_of(&self, message: &Message<'_>) -> SmallVec<[u32; 1]> {
        let mut numbers = SmallVec::new();
        if self.backlog.replays.is_empty() {
            return numbers;
        }
        let seq = message.seq();
        for held in matching(&self.session.subscriptions, message.topic()) {
            let is_of = |replay: &&Replay| replay.number == held.replay && seq < replay.until;
            let of = self.backlog.replays.iter().find(is_of).filter(|_| held.next(seq) == seq);
            numbers.extend(of.map(|replay| replay.number).filter(|number| !numbers.contains(number)));
        }
        numbers
    }

    /// The log was looked through to the head: what it has for the client is at hand, and held against it from now on,
    /// unless that alone would be too much.
    fn count_lag(&mut self, bytes_max: usize) {
        let bytes = self.items.iter().filter_map(|item| match item {
            Item::Logged { event_bytes, .. } => *event_bytes,
            Item::Waiting(_) => None,
        });
        let (n_events, bytes) = bytes.fold((0, 0), |(n, sum), bytes| (n + 1, sum + bytes));
        if bytes > bytes_max {
            return;
        }
        let replaced = self.items.iter().map(|item| match item {
            Item::Logged { step, .. } => step.n_replaced,
            Item::Waiting(_) => 0,
        });
        self.backlog.lag_events = n_events + replaced.sum::<u64>() + self.n_replaced;
        (self.backlog.lag_bytes, self.backlog.catches_up) = (bytes, false);
    }

    /// What a client is told that has got what it asked for.
    fn caught_up(&self, id: u64, replay: u32, at: Option<Position>) -> Bytes {
        let before = self.backlog.replays.iter().find(|other| other.number == replay);
        let begun = self.items.iter().filter(|item| match item {
            Item::Logged { step, .. } => step.replays.contains(&replay),
            Item::Waiting(_) => false,
        });
        let replayed = before.map_or(0, |replay| replay.replayed) + begun.count() as u64;
        // What `max_hz` holds back is still to come.
        let held_back = self.session.pace.as_ref().and_then(|pace| pace.holds_back());
        let is_before = |held_back: &Position| at.is_some_and(|at| held_back.offset < at.offset);
        let position = held_back.filter(is_before).or(at);
        ServerMessage::CaughtUp(CaughtUp { id, position, replayed }).frame(self.session.protocol.format())
    }

    fn step(&mut self, next: u64, position: Option<Position>) -> Step {
        let (n_replaced, n_shed) = (std::mem::take(&mut self.n_replaced), std::mem::take(&mut self.n_shed));
        Step { next, position, n_replaced, n_shed, replays: SmallVec::new(), told: None }
    }

    /// Takes what goes before message `before` of the log.
    fn take_waiting(&mut self, before: u64, latest: &super::Latest, conflated: &mut u64) {
        while !self.is_full() {
            let Some(mut waiting) = self.backlog.pop_before(before) else { break };
            if is_replaced(&waiting, latest) {
                *conflated += 1;
                continue;
            }
            if waiting.before > self.loss.start {
                self.tell_loss(waiting.before);
            }
            match waiting.what {
                What::CaughtUp { command, replay, position } => {
                    waiting.frame = self.caught_up(command, replay, position);
                }
                What::Missing { until, .. } => self.position = until.or(self.position),
                What::Event { .. } | What::Reply => {}
            }
            self.push(Item::Waiting(waiting));
        }
    }

    /// Nothing more comes out of the log.
    fn finish(&mut self, routed: u64, latest: &super::Latest, conflated: &mut u64) {
        self.take_waiting(u64::MAX, latest, conflated);
        if !self.is_full() {
            self.tell_loss(routed);
        }
    }

    /// A loss, which only whoever can be told has, is told before anything else that goes before message `next`.
    fn tell_loss(&mut self, next: u64) {
        if self.loss.count == 0 {
            return;
        }
        let loss = std::mem::take(&mut self.loss);
        let lost = lost(self.session, &loss);
        let step = Step { told: Some(lost.cause), ..self.step(next, loss.until) };
        let frame = ServerMessage::Lost(lost).frame(self.session.protocol.format());
        self.push(Item::Logged { frame, event_bytes: None, step });
    }
}

/// Whether a newer message of its topic comes, too.
pub(super) fn is_replaced(waiting: &Waiting, latest: &super::Latest) -> bool {
    match &waiting.what {
        What::Event { topic: Some(topic), conflates: true, seq, .. } => {
            latest.get(topic).is_some_and(|latest| latest > seq)
        }
        _ => false,
    }
}

fn lost<'a>(session: &'a Session, loss: &Loss) -> Lost<'a> {
    let held = &session.subscriptions[..];
    // A count that is not known is of everything; else what `drop_oldest` governs was dropped, also for wider ones.
    let drops = |held: &Subscription| session.policy(held) == Policy::DropOldest;
    let covers_one_that_drops = |(nth, wider): (usize, &Subscription)| {
        let mut covered = held[nth..].iter().take_while(|held| held.topic.starts_with(&wider.topic));
        !wider.exact && covered.any(drops)
    };
    let concerned = held.iter().enumerate().filter(|(nth, held)| {
        let lost_some = loss.at_most || drops(held) || covers_one_that_drops((*nth, held));
        lost_some && held.next(loss.start) < loss.end
    });
    let held = concerned.map(|(_, held)| held);
    let topics = held.map(|held| &*held.topic).collect();
    let (from, position) = (loss.from, loss.until);
    let (cause, count) = match loss.at_most {
        // What it is a bound of does not have what was missing where the sequence began anew.
        true if leads_to_another_epoch(from, position) => (LostCause::EpochChanged, None),
        true => (loss.cause, Some(LostCount::AtMost(loss.count))),
        false => (loss.cause, Some(LostCount::Count(loss.count))),
    };
    Lost { topics, from, position, cause, count }
}
