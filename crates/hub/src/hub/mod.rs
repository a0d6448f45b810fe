//! The sessions of one shard and the messages that go to them.

mod commands;
#[cfg(test)]
mod tests;
mod visit;

use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use trestle_messages::Position;
use trestle_recorder::{RecordRules, Segment};

use crate::encode::{
    self, Goodbye, GoodbyeReason, Heartbeat, Lost, LostCause, LostCount, ServerMessage, Welcome,
};
use crate::limits::Limits;
use crate::outbox::{Kind, Outbox};
use crate::protocol::Protocol;
use crate::session::{Phase, Session, Subscription};
use crate::trie::Trie;
use crate::turn::{Staged, Turn};
use crate::wheel::Wheel;
use crate::ws::{CloseCode, Opcode, close_frame, server_frame};

pub use visit::Visit;

/// Deliveries staged before their sockets are visited: bounds a turn's memory (8 bytes each).
const TURN_DELIVERIES_MAX: usize = 1 << 20;

/// A session's number, unique while it is open and used again afterwards.
pub type SessionId = u32;

/// A prefix that this shard began or ceased to want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterestChange {
    /// Nobody here wanted it before.
    Wanted(Box<[u8]>),
    /// Nobody here wants it any more.
    Unwanted(Box<[u8]>),
}

/// What a shard counts. All only rise.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Messages written to a client, whole.
    pub deliveries: u64,
    /// Messages from clients.
    pub received: u64,
    /// Bytes written to clients, framing included.
    pub bytes_out: u64,
    /// Messages dropped for clients that read too slowly and cannot be told.
    pub dropped_slow: u64,
    /// Sessions closed because they read too slowly.
    pub closed_slow: u64,
    /// Sessions cut because nothing was heard of them.
    pub closed_silent: u64,
    /// Sessions closed for breaking a protocol's rules.
    pub closed_protocol: u64,
    /// Commands answered with an error.
    pub commands_refused: u64,
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    session: SessionId,
    generation: u32,
    kind: TimerKind,
}

#[derive(Debug, Clone, Copy)]
enum TimerKind {
    /// Say something, and see whether the client still does.
    Beat,
    /// The client has had its time to answer our Close frame, or to read its own's answer.
    Close,
}

/// The sessions of one shard. It is driven by its owner, in one thread:
///
/// 1. [`open`](Self::open) and [`close`](Self::close) when a connection comes and goes, [`receive`](Self::receive) with
///    what it says, [`route`](Self::route) with what the log has, [`tick`](Self::tick) at least each
///    [`wheel::TICK`](crate::wheel::TICK);
/// 2. after any of these, [`visit`](Self::visit) for each of [`take_dirty`](Self::take_dirty), then
///    [`end_turn`](Self::end_turn), and [`take_interest`](Self::take_interest) sent upward.
///
/// Time is what the last `tick` said; it never goes back.
#[derive(Debug)]
pub struct Hub {
    limits: Limits,
    /// Begins the name of each session.
    name: String,
    now: Instant,
    sessions: Slab<Session>,
    opened: u32,
    subscribers: Trie,
    turn: Turn,
    dirty: Vec<SessionId>,
    wheel: Wheel<Timer>,
    interest: Vec<InterestChange>,
    position: Option<Position>,
    rules: RecordRules,
    counts: Counts,
}

impl Hub {
    /// A hub without sessions. `name` begins the sessions' names, so that they differ between shards and replicas.
    pub fn new(name: String, limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            name,
            now,
            sessions: Slab::new(),
            opened: 0,
            subscribers: Trie::default(),
            turn: Turn::default(),
            dirty: Vec::new(),
            wheel: Wheel::new(now),
            interest: Vec::new(),
            position: None,
            rules: RecordRules::nothing(),
            counts: Counts::default(),
        }
    }

    /// A client whose handshake is accepted, with the subscriptions that its URL named. They stand when this returns:
    /// what is routed from now on waits for the client until its socket is there.
    pub fn open<'a>(&mut self, protocol: Protocol, topics: impl IntoIterator<Item = &'a [u8]>) -> SessionId {
        self.opened = self.opened.wrapping_add(1);
        let session = Session::new(protocol, self.limits.message_bytes_max, self.opened, self.now);
        let id = SessionId::try_from(self.sessions.insert(session)).expect("less than 2^32 sessions");
        if protocol == Protocol::Json {
            let name = format!("{}-{:x}", self.name, self.opened);
            let heartbeat_ms = u64::try_from(self.limits.ping_interval.as_millis()).unwrap_or(u64::MAX);
            let welcome = Welcome { session: &name, position: self.position, heartbeat_ms, expires_at: None };
            self.reply(id, &ServerMessage::Welcome(welcome));
        }
        for topic in topics {
            self.subscribe(id, topic, false);
        }
        // Spread over half an interval, so that clients that came together do not beat together.
        let spread = self.limits.ping_interval / 2 / 64 * (self.opened % 64);
        self.set_timer(id, self.now + self.limits.ping_interval / 2 + spread, TimerKind::Beat);
        id
    }

    /// The connection is gone. Its number may be given out again. Returns what our Close frame said; `None` if the
    /// connection broke without one (RFC 6455 §7.1.5: 1006).
    pub fn close(&mut self, id: SessionId) -> Option<CloseCode> {
        self.unsubscribe_all(id);
        self.sessions.remove(id as usize).close_code
    }

    /// Stages the messages of `segment` from `from` on for those who want them, until the turn is full. Returns where to
    /// go on after the visits; the segment's length when it is done.
    pub fn route(&mut self, segment: &Segment, from: usize) -> usize {
        let Self { sessions, subscribers, turn, dirty, .. } = self;
        for index in from..segment.len() {
            if turn.deliveries() >= TURN_DELIVERIES_MAX {
                return index;
            }
            let message = segment.message(index);
            let number = message.seq() + 1;
            let mut frames = [None; Protocol::ALL.len()];
            subscribers.matches(message.topic(), |subscriber, _| {
                let session = &mut sessions[subscriber as usize];
                if session.last_staged == number {
                    return;
                }
                session.last_staged = number;
                let format = session.protocol.format();
                let frame = *frames[format as usize]
                    .get_or_insert_with(|| turn.add(encode::frame(&message, format).clone()));
                turn.stage(&mut session.staged, frame);
                if !session.is_dirty {
                    session.is_dirty = true;
                    dirty.push(subscriber);
                }
            });
        }
        segment.len()
    }

    /// The shard fell off the log and missed `messages`, those up to `until`. Each client that can be told is told that
    /// it may have lost as many.
    pub fn overrun(&mut self, messages: u64, until: Option<Position>) {
        let from = std::mem::replace(&mut self.position, until);
        let ids: Vec<_> = self.sessions.iter().map(|(index, _)| index as SessionId).collect();
        for id in ids {
            let session = &self.sessions[id as usize];
            if session.protocol != Protocol::Json || session.subscriptions.is_empty() {
                continue;
            }
            let topics = session.subscriptions.iter().map(|held| &*held.topic).collect();
            let (cause, count) = (LostCause::ShardOverrun, Some(LostCount::AtMost(messages)));
            let frame = ServerMessage::Lost(Lost { topics, from, position: until, cause, count }).frame();
            self.push_reply(id, frame);
        }
    }

    /// All messages up to `position` have been routed.
    pub fn set_position(&mut self, position: Option<Position>) {
        self.position = position;
    }

    /// What upstream records, for the word `recorded` in replies.
    pub fn set_rules(&mut self, rules: RecordRules) {
        self.rules = rules;
    }

    /// Moves time on: heartbeats, pings, and the end of those who are silent.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        let mut due = Vec::new();
        self.wheel.fire(now, &mut due);
        let heartbeat = ServerMessage::Heartbeat(Heartbeat { position: self.position }).frame();
        let ping = server_frame(Opcode::Ping, b"");
        for timer in due {
            let session = self.sessions.get(timer.session as usize);
            if session.is_none_or(|session| session.generation != timer.generation) {
                continue;
            }
            match timer.kind {
                TimerKind::Beat => self.beat(timer.session, &heartbeat, &ping),
                TimerKind::Close => self.end(timer.session),
            }
        }
    }

    fn beat(&mut self, id: SessionId, heartbeat: &Bytes, ping: &Bytes) {
        let session = &self.sessions[id as usize];
        if session.phase != Phase::Open {
            return;
        }
        let (protocol, heard) = (session.protocol, session.heard);
        let silent = self.now.saturating_duration_since(heard);
        if silent >= self.limits.half_open_timeout {
            self.counts.closed_silent += 1;
            self.end(id);
            return;
        }
        if silent >= self.limits.ping_interval {
            self.push_reply(id, ping.clone());
        }
        if protocol == Protocol::Json {
            self.push_reply(id, heartbeat.clone());
        }
        let gone = heard + self.limits.half_open_timeout;
        self.set_timer(id, gone.min(self.now + self.limits.ping_interval), TimerKind::Beat);
    }

    /// Says goodbye to everybody and closes with 1012; clients of `trestle.v1.*` are told to come back spread over
    /// `spread`.
    pub fn goodbye(&mut self, reason: GoodbyeReason, spread: Duration) {
        // Whoever is being closed already hears nothing behind its Close frame (RFC 6455 §5.5.1).
        let open = self.sessions.iter().filter(|(_, session)| session.phase == Phase::Open);
        let ids: Vec<_> = open.map(|(index, _)| index as SessionId).collect();
        for (nth, id) in ids.iter().enumerate() {
            if self.sessions[*id as usize].protocol == Protocol::Json {
                let share = spread.as_secs_f64() * nth as f64 / ids.len() as f64;
                let reconnect_after_ms = Some((share * 1e3) as u64);
                self.reply(*id, &ServerMessage::Goodbye(Goodbye { reason, reconnect_after_ms }));
            }
            self.begin_close(*id, CloseCode::ServiceRestart);
        }
    }

    /// Whether the client's bytes are wanted now: not while its replies pile up because it does not read them.
    pub fn wants_read(&self, id: SessionId) -> bool {
        self.sessions[id as usize].outbox.reply_bytes() <= self.limits.replies_bytes_max
    }

    /// Whether the connection is to be dropped now.
    pub fn is_ended(&self, id: SessionId) -> bool {
        let session = &self.sessions[id as usize];
        session.phase == Phase::Ended || session.phase == Phase::Ending && session.outbox.is_empty()
    }

    /// Sessions with something to write or to end, each once. Visit them all, then [`end_turn`](Self::end_turn); visits
    /// can make more of them (a slow client's Close frame), so go on until there are none.
    pub fn take_dirty(&mut self) -> Vec<SessionId> {
        let mut dirty = std::mem::take(&mut self.dirty);
        // Whoever has gone since needs no visit.
        dirty.retain(|id| {
            let session = self.sessions.get_mut(*id as usize);
            session.is_some_and(|session| std::mem::take(&mut session.is_dirty))
        });
        dirty
    }

    /// The visits are done. `visited` is [`take_dirty`](Self::take_dirty)'s list, given back for its capacity.
    pub fn end_turn(&mut self, mut visited: Vec<SessionId>) {
        visited.clear();
        visited.append(&mut self.dirty);
        self.dirty = visited;
        self.turn.clear();
    }

    /// What this shard began and ceased to want since the last call, in order.
    pub fn take_interest(&mut self) -> Vec<InterestChange> {
        std::mem::take(&mut self.interest)
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes that wait in all outboxes; looks at every session.
    pub fn outbox_bytes(&self) -> usize {
        self.sessions.iter().map(|(_, session)| session.outbox.bytes()).sum()
    }

    /// Sessions open now.
    pub fn n_sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Subscriptions held now.
    pub fn n_subscriptions(&self) -> usize {
        self.subscribers.len()
    }

    fn reply(&mut self, id: SessionId, message: &ServerMessage<'_>) {
        self.push_reply(id, message.frame());
    }

    /// Queues a frame for this client alone, behind the messages that are staged for it: a position must not overtake
    /// them.
    fn push_reply(&mut self, id: SessionId, frame: Bytes) {
        self.keep_staged(id);
        self.sessions[id as usize].outbox.push(frame, Kind::Reply);
        self.mark_dirty(id);
    }

    fn mark_dirty(&mut self, id: SessionId) {
        let session = &mut self.sessions[id as usize];
        if !session.is_dirty {
            session.is_dirty = true;
            self.dirty.push(id);
        }
    }

    fn set_timer(&mut self, id: SessionId, at: Instant, kind: TimerKind) {
        let generation = self.sessions[id as usize].generation;
        self.wheel.set(at, Timer { session: id, generation, kind });
    }

    /// The connection goes at the next visit, whatever waits.
    fn end(&mut self, id: SessionId) {
        self.cut(id);
        self.mark_dirty(id);
    }

    /// Nothing goes to the connection any more, and nothing waits for it, until its owner closes it.
    fn cut(&mut self, id: SessionId) {
        self.unsubscribe_all(id);
        let session = &mut self.sessions[id as usize];
        session.phase = Phase::Ended;
        session.staged = Staged::default();
        session.outbox = Outbox::default();
    }

    /// Sends our Close frame behind what waits, and no more messages.
    fn begin_close(&mut self, id: SessionId, code: CloseCode) {
        if self.sessions[id as usize].phase != Phase::Open {
            return;
        }
        self.sessions[id as usize].phase = Phase::Closing;
        self.say_close(id, code, close_frame(code));
    }

    /// Queues the only Close frame of a session, whose connection then has its time to end.
    fn say_close(&mut self, id: SessionId, code: CloseCode, frame: Bytes) {
        self.unsubscribe_all(id);
        self.push_reply(id, frame);
        self.sessions[id as usize].close_code = Some(code);
        self.set_timer(id, self.now + self.limits.close_timeout, TimerKind::Close);
    }

    /// Adds a subscription that the session does not hold.
    fn subscribe(&mut self, id: SessionId, topic: &[u8], exact: bool) {
        let Err(at) = self.sessions[id as usize].find(topic, exact) else { return };
        let (entry, first) = self.subscribers.insert(topic, exact, id);
        if first {
            self.interest.push(InterestChange::Wanted(topic.into()));
        }
        let held = Subscription { topic: topic.into(), exact, entry };
        self.sessions[id as usize].subscriptions.insert(at, held);
    }

    fn drop_subscription(&mut self, subscription: Subscription) {
        if self.subscribers.remove(subscription.entry) {
            self.interest.push(InterestChange::Unwanted(subscription.topic));
        }
    }

    fn unsubscribe_all(&mut self, id: SessionId) {
        for subscription in std::mem::take(&mut self.sessions[id as usize].subscriptions) {
            self.drop_subscription(subscription);
        }
    }
}
