//! From the log to the sessions: who gets which message, and in which encoding.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use trestle_messages::Position;
use trestle_recorder::{Message, Segment};

use super::{Hub, SessionId};
use crate::backlog::{Waiting, What};
use crate::encode::{self, DEFLATE_BYTES_MIN, Format, LostCause, LostCount, Policy, ServerMessage};
use crate::encode::{Lost, Topics};
use crate::pace::Held;
use crate::protocol::Protocol;
use crate::session::{Phase, Session, deciding};
use crate::trie::Subscriber;
use crate::turn::{FrameId, Kind, List, Turn};
use crate::ws::DeflateWindow;

/// Lists and frames in a turn before their sockets are visited: bounds a turn's memory (some 50 bytes each).
const TURN_WEIGHT_MAX: usize = 1 << 18;

/// A message is compressed where at least so many sessions of the shard that want it negotiated it: for fewer, sending it
/// as it is costs less.
const DEFLATED_SESSIONS_MIN: usize = 4;

/// Where a session stands in the turn. All that a delivery touches of a session that keeps up: it is small and in one row
/// with the others, because with ten thousand sessions each line of memory is a miss.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) list: List,
    pub(super) kind: Kind,
    flags: u8,
}

/// On the list of those to be visited.
const DIRTY: u8 = 1;
/// It has a backlog, or is about to end: visits go through the backlog.
const BEHIND: u8 = 2;
/// A limited subscription decides when messages go.
const PACED: u8 = 4;
/// Somebody wants to know the newest message of each topic, for when the session falls behind.
const CONFLATES: u8 = 8;
/// Compression was negotiated.
const DEFLATES: u8 = 16;
/// With any of these a message is not just staged.
const SPECIAL: u8 = BEHIND | PACED | CONFLATES;

impl Place {
    /// Whether it was.
    pub(super) fn take_dirty(&mut self) -> bool {
        let was = self.flags & DIRTY != 0;
        self.flags &= !DIRTY;
        was
    }

    /// Whether it was not.
    pub(super) fn mark_dirty(&mut self) -> bool {
        let was = self.flags & DIRTY != 0;
        self.flags |= DIRTY;
        !was
    }

    pub(super) fn is_behind(self) -> bool {
        self.flags & BEHIND != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }
}

/// The kinds of lists: an encoding each.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    /// Filled while one message is routed, kept for their memory.
    special: Vec<SessionId>,
    deflating: Vec<SessionId>,
    n_deflating: usize,
}

/// As it is, and for each window.
const ENCODINGS: usize = 1 + DeflateWindow::ALL.len();

impl Kinds {
    pub(super) const COUNT: usize = Format::ALL.len() * ENCODINGS;

    fn of(session: &Session) -> Kind {
        let encoding = session.deflate.map_or(0, |deflate| 1 + deflate.window as usize);
        (session.protocol.format() as usize * ENCODINGS + encoding) as Kind
    }

    fn format(kind: Kind) -> Format {
        Format::ALL[usize::from(kind) / ENCODINGS]
    }

    fn window(kind: Kind) -> Option<DeflateWindow> {
        DeflateWindow::ALL.get((usize::from(kind) % ENCODINGS).wrapping_sub(1)).copied()
    }
}

impl Hub {
    /// Gives a session its place.
    pub(super) fn take_place(&mut self, id: SessionId) {
        let kind = Kinds::of(&self.sessions[id as usize]);
        let place = Place { list: Turn::empty(kind), kind, flags: 0 };
        if self.places.len() <= id as usize {
            self.places.resize(id as usize + 1, place);
        }
        self.places[id as usize] = place;
        self.places[id as usize].set(DEFLATES, Kinds::window(kind).is_some());
        self.kinds.n_deflating += usize::from(Kinds::window(kind).is_some());
    }

    /// The session goes.
    pub(super) fn leave_place(&mut self, id: SessionId) {
        let place = &mut self.places[id as usize];
        self.n_conflating -= usize::from(place.flags & CONFLATES != 0);
        self.kinds.n_deflating -= usize::from(place.flags & DEFLATES != 0);
        // Whoever is on the list of those to be visited is passed over there.
        place.flags = 0;
    }

    /// What concerns routing has changed for a session; its place says so.
    pub(super) fn review(&mut self, id: SessionId) {
        let session = &self.sessions[id as usize];
        let place = &mut self.places[id as usize];
        let conflates = session.has_policy(Policy::Conflate);
        let had = place.flags & CONFLATES != 0;
        self.n_conflating = self.n_conflating + usize::from(conflates) - usize::from(had);
        place.set(CONFLATES, conflates);
        place.set(BEHIND, session.backlog.is_some() || session.phase != Phase::Open);
        place.set(PACED, session.pace.is_some());
        if self.n_conflating == 0 && !self.latest.is_empty() {
            self.latest = Default::default();
            self.latest_max = 0;
        }
    }

    /// Stages what the log has for those who want it, until the turn is full. Returns whether there was anything; then the
    /// sessions of [`take_dirty`](Self::take_dirty) are to be visited, and there may be more.
    pub fn pull(&mut self, now: Instant) -> bool {
        self.now = self.now.max(now);
        if self.unrouted.is_empty() {
            self.read_log();
        }
        let any = !self.unrouted.is_empty();
        while let Some(segment) = self.unrouted.front().cloned() {
            self.turn.begin(&segment);
            for index in self.unrouted_from..segment.len() {
                if self.turn.weight() >= TURN_WEIGHT_MAX {
                    self.unrouted_from = index;
                    return true;
                }
                self.route(&segment, index);
            }
            self.unrouted.pop_front();
            self.unrouted_from = 0;
        }
        self.position = self.cursor.position();
        self.release(now);
        any
    }

    fn read_log(&mut self) {
        let mut segments = Vec::new();
        let overrun = self.log.read(&mut self.cursor, &mut segments);
        self.unrouted = segments.into();
        if let Err(overrun) = overrun {
            let first =
                self.unrouted.iter().flat_map(|segment| segment.messages()).find_map(|m| m.position());
            let until = first.map(|first| Position { offset: first.offset - 1, ..first });
            self.routed = self.unrouted.front().map_or(self.cursor.next_seq(), |segment| segment.first_seq());
            self.tell_overrun(overrun.messages, until.or(self.cursor.position()));
        }
    }

    /// The shard fell off the log and missed `messages`, those up to `until`. Each client that can be told is told that
    /// it may have lost as many; whoever was behind lost what it was behind, too.
    pub(super) fn tell_overrun(&mut self, messages: u64, until: Option<Position>) {
        self.counts.overrun += messages;
        let from = std::mem::replace(&mut self.position, until);
        let ids: Vec<_> = self.sessions.iter().map(|(index, _)| index as SessionId).collect();
        for id in ids {
            let session = &mut self.sessions[id as usize];
            if session.phase != Phase::Open || session.subscriptions.is_empty() {
                continue;
            }
            let is_told = session.protocol == Protocol::Json;
            if let Some(backlog) = session.backlog.as_mut().filter(|backlog| backlog.lag_events > 0) {
                let (missed, at) = (messages + backlog.lag_events + backlog.n_shed, backlog.position);
                self.counts.dropped_slow += backlog.lag_events;
                let loss = &mut backlog.lost;
                loss.from = if loss.count == 0 { at } else { loss.from };
                (loss.count, loss.at_most) = (loss.count + missed, true);
                (loss.until, loss.cause) = (until, LostCause::ShardOverrun);
                (backlog.lag_events, backlog.lag_bytes, backlog.n_shed) = (0, 0, 0);
                (backlog.next, backlog.front_bytes) = (self.routed, 0);
                backlog.lost = if is_told { *loss } else { Default::default() };
            } else if is_told {
                let topics = session.subscriptions.iter().map(|held| &*held.topic).collect::<Topics<'_>>();
                let (cause, count) = (LostCause::ShardOverrun, Some(LostCount::AtMost(messages)));
                let lost = ServerMessage::Lost(Lost { topics, from, position: until, cause, count }).frame();
                self.push_reply(id, lost);
            }
        }
    }

    /// One message, to everybody who wants it.
    fn route(&mut self, segment: &Arc<Segment>, index: usize) {
        let message = segment.message(index);
        let mut frames = [None; Kinds::COUNT];
        let mut special = std::mem::take(&mut self.kinds.special);
        let mut deflating = std::mem::take(&mut self.kinds.deflating);
        let pays = self.kinds.n_deflating > 0 && body_bytes(&message) >= DEFLATE_BYTES_MIN;
        let Self { places, subscribers, turn, dirty, .. } = self;
        subscribers.matches(message.topic(), |subscriber: Subscriber, _| {
            let place = &mut places[subscriber as usize];
            if place.flags & SPECIAL != 0 {
                special.push(subscriber);
            } else if pays && place.flags & DEFLATES != 0 {
                deflating.push(subscriber);
            } else {
                let format = Kinds::format(place.kind);
                let frame = frames[format as usize]
                    .get_or_insert_with(|| turn.add(index, encode::frame(&message, format).clone()));
                turn.stage(&mut place.list, *frame);
                if place.mark_dirty() {
                    dirty.push(subscriber);
                }
            }
        });
        self.stage_deflated(&message, index, &deflating);
        // Before whatever looks through the log for those who are behind: for them it is there already.
        self.routed = message.seq() + 1;
        for id in &special {
            self.route_special(*id, &message, index);
        }
        self.position = message.position().or(self.position);
        special.clear();
        deflating.clear();
        (self.kinds.special, self.kinds.deflating) = (special, deflating);
    }

    /// Stages a message for sessions that negotiated compression: compressed once for all of them, if they are enough.
    fn stage_deflated(&mut self, message: &Message<'_>, index: usize, ids: &[SessionId]) {
        let mut frames: [Option<FrameId>; Kinds::COUNT] = [None; Kinds::COUNT];
        for id in ids {
            let place = &mut self.places[*id as usize];
            let (kind, format) = (place.kind, Kinds::format(place.kind));
            let window = Kinds::window(kind).expect("it negotiated one");
            let frame = frames[usize::from(kind)].get_or_insert_with(|| {
                let frame = if ids.len() >= DEFLATED_SESSIONS_MIN {
                    encode::deflated(message, format, window, &mut self.deflater)
                } else {
                    encode::deflated_already(message, format, window)
                        .unwrap_or_else(|| encode::frame(message, format))
                };
                self.turn.add(index, frame.clone())
            });
            self.turn.stage(&mut place.list, *frame);
            if place.mark_dirty() {
                self.dirty.push(*id);
            }
        }
    }

    /// A message for a session that is behind, paced, or conflating.
    fn route_special(&mut self, id: SessionId, message: &Message<'_>, index: usize) {
        let number = message.seq() + 1;
        let session = &mut self.sessions[id as usize];
        if session.last_seen == number || session.phase != Phase::Open {
            return;
        }
        session.last_seen = number;
        let conflates = self.places[id as usize].flags & CONFLATES != 0;
        if session.pace.as_ref().is_some_and(|pace| pace.concerns(message.topic())) {
            return self.hold(id, message);
        }
        if conflates {
            self.note_latest(message);
        }
        let format = Kinds::format(self.places[id as usize].kind);
        if self.sessions[id as usize].backlog.is_some() {
            self.count_behind(id, message, format);
        } else {
            let frame = self.turn.add(index, encode::frame(message, format).clone());
            self.turn.stage(&mut self.places[id as usize].list, frame);
            self.mark_dirty(id);
        }
    }

    /// A message that a session will get later: out of the log, if it is kept there.
    fn count_behind(&mut self, id: SessionId, message: &Message<'_>, format: Format) {
        let frame = encode::frame(message, format);
        if message.position().is_some() {
            let backlog = self.backlog(id);
            if backlog.has_nothing() {
                backlog.front_bytes = frame.len();
            }
            backlog.lag_bytes += frame.len();
            backlog.lag_events += 1;
        } else {
            let waiting = self.waiting_event(id, message, frame.clone());
            self.backlog(id).push(waiting);
        }
        // Whoever may still take everything at the next visit is not slow.
        if self.backlog(id).is_blocked {
            self.bound(id);
        }
    }

    /// A message that the log does not keep, as it waits for a session.
    pub(super) fn waiting_event(&self, id: SessionId, message: &Message<'_>, frame: bytes::Bytes) -> Waiting {
        let session = &self.sessions[id as usize];
        let held = deciding(&session.subscriptions, &[], message.topic(), message.seq());
        let policy = held.map_or(Policy::Disconnect, |held| session.policy(held));
        let topic = (policy == Policy::Conflate).then(|| message.topic().into());
        let (seq, position) = (message.seq(), message.position());
        Waiting { before: seq, frame, what: What::Event { policy, topic, seq, position } }
    }

    /// `max_hz` holds a message until it is time.
    fn hold(&mut self, id: SessionId, message: &Message<'_>) {
        let format = Kinds::format(self.places[id as usize].kind);
        let session = &mut self.sessions[id as usize];
        let held = deciding(&session.subscriptions, &[], message.topic(), message.seq());
        let is_limited = held.is_some_and(|held| !held.interval.is_zero());
        let frame = encode::frame(message, format).clone();
        let held = Held { topic: message.topic().into(), frame, position: message.position() };
        let pace = session.pace.as_mut().expect("it is concerned");
        let (due, has_replaced) = pace.hold(message.seq(), held, is_limited);
        self.counts.conflated += u64::from(has_replaced);
        if self.sessions[id as usize]
            .pace
            .as_ref()
            .is_some_and(|pace| pace.bytes() > self.limits.outbox_bytes_max)
        {
            return self.close_slow(id);
        }
        self.dues.add(due, id, self.sessions[id as usize].generation);
    }

    fn note_latest(&mut self, message: &Message<'_>) {
        match self.latest.get_mut(message.topic()) {
            Some(latest) => *latest = message.seq(),
            None => {
                self.latest.insert(message.topic().into(), message.seq());
            }
        }
        if self.latest.len() > self.latest_max.max(1_024) {
            let oldest = self.log.oldest_seq();
            self.latest.retain(|_, seq| *seq >= oldest);
            self.latest_max = 2 * self.latest.len();
        }
    }

    /// The frame of a message for a session that is not served with others: compressed where somebody had it compressed.
    pub(super) fn frame_for<'a>(kind: Kind, message: &Message<'a>) -> &'a bytes::Bytes {
        let format = Kinds::format(kind);
        let deflated =
            Kinds::window(kind).and_then(|window| encode::deflated_already(message, format, window));
        deflated.unwrap_or_else(|| encode::frame(message, format))
    }

    /// The topics of a session's subscriptions that `concerns` says.
    pub(super) fn topics_of(session: &Session, concerns: impl Fn(Policy) -> bool) -> SmallVec<[&[u8]; 4]> {
        let held = session.subscriptions.iter().filter(|held| concerns(session.policy(held)));
        held.map(|held| &*held.topic).collect()
    }
}

fn body_bytes(message: &Message<'_>) -> usize {
    message.body().map(<[u8]>::len).sum()
}
