//! A session that is behind is fed from the log, and from what waits for it outside.

use std::io::{self, IoSlice};

use bytes::Bytes;
use smallvec::SmallVec;
use trestle_messages::Position;
use trestle_recorder::Message;

use super::visit::{SLICES_MAX, write_once};
use super::{Hub, SessionId, Visit};
use crate::backlog::{Backlog, Loss, Waiting, What};
use crate::catch_up::Pending;
use crate::encode::{self, Lost, LostCount, Policy, ServerMessage};
use crate::session::{Phase, Session};

/// Bytes that one client is given before others have their turn.
const FEED_BYTES_MAX: usize = 1 << 20;
/// Bytes gathered for one write.
const WRITE_BYTES_MAX: usize = 256 << 10;
/// Segments of the log that are looked at for one client before others have their turn.
const FEED_SEGMENTS_MAX: usize = 256;

/// A frame that goes out next.
enum Item {
    /// Out of the log.
    Logged { frame: Bytes, event_bytes: Option<usize>, step: Step },
    /// Of what waits outside.
    Waiting(Waiting),
}

/// How the place in the log moves when an item is on its way.
struct Step {
    next: u64,
    position: Option<Position>,
    /// Messages passed over because newer ones replace them.
    n_replaced: u64,
    /// Messages passed over because they were shed; they are told now.
    n_shed: u64,
}

impl Item {
    fn frame(&self) -> &Bytes {
        match self {
            Self::Logged { frame, .. } => frame,
            Self::Waiting(waiting) => &waiting.frame,
        }
    }

    fn is_event(&self) -> bool {
        match self {
            Self::Logged { event_bytes, .. } => event_bytes.is_some(),
            Self::Waiting(waiting) => waiting.what.is_event(),
        }
    }
}

type Items = SmallVec<[Item; 16]>;

impl Hub {
    /// Writes what a session that is behind has before it, until the socket takes no more or others have their turn. One
    /// that has caught up loses its backlog and goes on with the others.
    pub(super) fn feed(
        &mut self,
        id: SessionId,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Visit> {
        let (mut bytes_left, mut segments_left) = (FEED_BYTES_MAX, FEED_SEGMENTS_MAX);
        loop {
            if !self.is_on_the_log(id) {
                return Ok(Visit::Again);
            }
            let Some(mut backlog) = self.sessions[id as usize].backlog.take() else {
                return Ok(Visit::Drained);
            };
            let items = self.gather(id, &mut backlog, &mut segments_left);
            if items.is_empty() && backlog.begun.is_none() {
                if backlog.next < self.routed {
                    self.sessions[id as usize].backlog = Some(backlog);
                    return Ok(Visit::Again);
                }
                self.catch_up(id);
                return Ok(Visit::Drained);
            }
            let wrote = self.write_items(&mut backlog, items, write);
            backlog.is_blocked = matches!(wrote, Ok(None));
            self.sessions[id as usize].backlog = Some(backlog);
            let Some(written) = wrote? else {
                self.bound(id);
                return Ok(Visit::Blocked);
            };
            bytes_left = bytes_left.saturating_sub(written);
            if bytes_left == 0 || segments_left == 0 {
                return Ok(Visit::Again);
            }
        }
    }

    /// It has what everybody has.
    fn catch_up(&mut self, id: SessionId) {
        self.review(id);
        self.schedule(id);
    }

    /// What goes out next, taken from what waits outside the log but only looked up in the log: there nothing changes until
    /// it is written.
    fn gather(&mut self, id: SessionId, backlog: &mut Backlog, segments_left: &mut usize) -> Items {
        let session = &self.sessions[id as usize];
        let kind = self.places[id as usize].kind;
        let ended = std::mem::take(&mut backlog.ended);
        let (held, pace) = (&session.subscriptions[..], session.pace.as_deref());
        let mut pending = Pending::new(&self.log, held, &ended, pace, backlog.next, self.routed);
        let mut gathering = Gathering::new(session, backlog);
        while !gathering.is_full() {
            let Some(found) = (gathering.backlog.lag_events + gathering.backlog.n_shed > 0)
                .then(|| pending.find(segments_left))
                .flatten()
            else {
                break;
            };
            let message = found.message();
            gathering.take_waiting(message.seq(), &self.latest, &mut self.counts.conflated);
            if gathering.is_full() {
                break;
            }
            let is_newest = || self.latest.get(message.topic()).is_none_or(|latest| *latest <= message.seq());
            match session.policy(found.held) {
                Policy::DropOldest if message.seq() < gathering.backlog.shed_before => {
                    gathering.pass(message.seq(), message.position());
                }
                Policy::Conflate if !is_newest() => gathering.n_replaced += 1,
                _ => gathering.take(&message, Self::frame_for(kind, &message).clone()),
            }
        }
        let nothing_more = gathering.backlog.lag_events + gathering.backlog.n_shed == 0;
        if !gathering.is_full() && (nothing_more || pending.looked_at() >= self.routed) {
            gathering.finish(self.routed, &self.latest, &mut self.counts.conflated);
        }
        let looked_at = pending.looked_at();
        let Gathering { items, n_replaced, .. } = gathering;
        if items.is_empty() && backlog.n_shed == 0 {
            // All that was looked at is passed over now, and not again.
            backlog.next = if nothing_more { self.routed } else { looked_at };
            backlog.lag_events = backlog.lag_events.saturating_sub(n_replaced);
            self.counts.conflated += n_replaced;
        }
        backlog.ended = ended;
        items
    }

    /// Writes the frame that is begun and the items. `None` if the socket took no more; then what it did not take is back
    /// in its place.
    fn write_items(
        &mut self,
        backlog: &mut Backlog,
        items: Items,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        let begun = backlog.begun.take();
        let rest = begun.as_ref().map(|(frame, written, _)| &frame[*written..]);
        let slices: SmallVec<[IoSlice<'_>; 17]> =
            rest.into_iter().chain(items.iter().map(|item| &item.frame()[..])).map(IoSlice::new).collect();
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = write_once(&slices, write)?;
        drop(slices);
        self.counts.bytes_out += written as u64;
        let mut left = written;
        if let Some((frame, before, is_event)) = begun {
            let rest = frame.len() - before;
            if left < rest {
                backlog.begun = Some((frame, before + left, is_event));
                give_back(backlog, items);
                return Ok(None);
            }
            left -= rest;
            self.counts.deliveries += u64::from(is_event);
        }
        let mut items = items.into_iter();
        while left > 0 {
            let item = items.next().expect("no more is written than was given");
            let (frame, is_event) = (item.frame().clone(), item.is_event());
            self.pass_item(backlog, item);
            if left < frame.len() {
                backlog.begun = Some((frame, left, is_event));
                break;
            }
            left -= frame.len();
            self.counts.deliveries += u64::from(is_event);
        }
        backlog.front_bytes = match items.as_slice().first() {
            Some(item) if backlog.begun.is_none() && item.is_event() => item.frame().len(),
            _ => 0,
        };
        give_back(backlog, items);
        Ok((written == wanted).then_some(written))
    }

    /// An item is on its way: the place in the log moves behind it.
    fn pass_item(&mut self, backlog: &mut Backlog, item: Item) {
        let Item::Logged { event_bytes, step, .. } = item else { return };
        backlog.next = backlog.next.max(step.next);
        backlog.position = step.position.or(backlog.position);
        self.counts.conflated += step.n_replaced;
        backlog.lag_events = backlog.lag_events.saturating_sub(step.n_replaced);
        match event_bytes {
            Some(bytes) => {
                backlog.lag_bytes = backlog.lag_bytes.saturating_sub(bytes);
                backlog.lag_events = backlog.lag_events.saturating_sub(1);
            }
            None => {
                backlog.n_shed = backlog.n_shed.saturating_sub(step.n_shed);
                backlog.lost = Loss::default();
            }
        }
    }

    /// Sees to it that the log still has what the session is behind. What it has not the client has lost: it is told, or
    /// closed. Returns whether the session goes on.
    pub(super) fn is_on_the_log(&mut self, id: SessionId) -> bool {
        let newest = self.log.newest_seq();
        let session = &mut self.sessions[id as usize];
        let Some(backlog) = session.backlog.as_ref() else { return true };
        if backlog.next >= newest || backlog.lag_events + backlog.n_shed == 0 {
            return true;
        }
        let ended = backlog.ended.iter().flat_map(|ended| &ended.subscriptions);
        let wanted = session.subscriptions.iter().chain(ended);
        let readable = wanted.map(|held| self.log.readable_from(&held.topic, held.exact)).max();
        let Some(oldest) = readable.filter(|oldest| backlog.next < *oldest) else { return true };
        self.fall_off(id, oldest);
        self.sessions[id as usize].phase == Phase::Open
    }
}

fn give_back(backlog: &mut Backlog, items: impl IntoIterator<Item = Item, IntoIter: DoubleEndedIterator>) {
    for item in items.into_iter().rev() {
        if let Item::Waiting(waiting) = item {
            backlog.unpop(waiting);
        }
    }
}

/// What goes out in one write, while it is put together.
struct Gathering<'a> {
    session: &'a Session,
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
    fn new(session: &'a Session, backlog: &'a mut Backlog) -> Self {
        let (loss, position) = (backlog.lost, backlog.position);
        Self { session, backlog, items: Items::new(), bytes: 0, loss, n_shed: 0, n_replaced: 0, position }
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
        self.tell_loss(message.seq());
        self.position = message.position();
        let event_bytes = Some(encode::frame(message, self.session.protocol.format()).len());
        let step = self.step(message.seq() + 1, self.position);
        self.push(Item::Logged { frame, event_bytes, step });
    }

    fn step(&mut self, next: u64, position: Option<Position>) -> Step {
        let (n_replaced, n_shed) = (std::mem::take(&mut self.n_replaced), std::mem::take(&mut self.n_shed));
        Step { next, position, n_replaced, n_shed }
    }

    /// Takes what goes before message `before` of the log.
    fn take_waiting(&mut self, before: u64, latest: &super::Latest, conflated: &mut u64) {
        while !self.is_full() {
            let Some(waiting) = self.backlog.pop_before(before) else { break };
            if is_replaced(&waiting, latest) {
                *conflated += 1;
                continue;
            }
            if waiting.before > self.loss.start {
                self.tell_loss(waiting.before);
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
        let (frame, step) = (lost(self.session, &loss).frame(), self.step(next, loss.until));
        self.push(Item::Logged { frame, event_bytes: None, step });
    }
}

/// Whether a newer message of its topic comes, too.
pub(super) fn is_replaced(waiting: &Waiting, latest: &super::Latest) -> bool {
    match &waiting.what {
        What::Event { topic: Some(topic), seq, .. } => latest.get(topic).is_some_and(|latest| latest > seq),
        _ => false,
    }
}

fn lost<'a>(session: &'a Session, loss: &Loss) -> ServerMessage<'a> {
    // A count that is not known is of everything; else only what `drop_oldest` governs was dropped.
    let concerns = |policy| loss.at_most || policy == Policy::DropOldest;
    let held = session.subscriptions.iter().filter(|held| concerns(session.policy(held)));
    let topics = held.map(|held| &*held.topic).collect();
    let count = if loss.at_most { LostCount::AtMost(loss.count) } else { LostCount::Count(loss.count) };
    ServerMessage::Lost(Lost {
        topics,
        from: loss.from,
        position: loss.until,
        cause: loss.cause,
        count: Some(count),
    })
}
