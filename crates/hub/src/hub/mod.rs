//! The sessions of one shard and the messages that go to them.

mod authenticate;
mod bound;
mod commands;
mod feed;
mod gather;
mod overrun;
mod pacing;
mod parked;
mod passing;
mod place;
mod publications;
mod rates;
mod recover;
mod route;
mod sessions;
#[cfg(test)]
mod tests;
mod visit;
mod zws;
mod zws_greeting;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;
use trestle_messages::Position;
use trestle_recorder::{Cursor, Log, RecordRules, Segment};

use crate::backlog::{Backlog, Waiting, What};
use crate::decode::Decoders;
use crate::encode::{Format, Heartbeat, LostCause, Publish, ServerMessage};
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::session::{Phase, Session};
use crate::trie::Trie;
use crate::turn::{List, Turn};
use crate::wheel::Wheel;
use crate::ws::{CloseCode, Deflater, Inflater, Opcode, server_frame};
use crate::{ErrorCode, Verifier};

use pacing::Dues;
use parked::Parked;
use passing::Passing;
use place::{Kinds, Place};
use rates::Rates;
use route::Aside;

pub use publications::{Ticket, Unpublished};
pub(crate) use rates::Buckets;
pub use visit::Visit;
pub(crate) use zws::Gathered;

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

/// Something that a client said and that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whose it is.
    pub session: SessionId,
    /// What it should speak.
    pub protocol: Protocol,
    /// What its reply says, or would say where there is none.
    pub code: ErrorCode,
    /// In words; they may be the client's own.
    pub why: Cow<'static, str>,
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
    /// Messages dropped for clients that read too slowly, by the policy of their subscription.
    pub dropped_slow: u64,
    /// Messages not sent because a newer one of their topic replaced them, by `conflate` or `max_hz`.
    pub conflated: u64,
    /// Messages that this shard did not read before the log dropped them, and those that it did not write in time for a
    /// client whose socket would have taken them.
    pub overrun: u64,
    /// Times that a client was told `lost`, in the order of [`LostCause::ALL`].
    pub told_lost: [u64; LostCause::ALL.len()],
    /// Sessions closed because they read too slowly.
    pub closed_slow: u64,
    /// Sessions cut because nothing was heard of them.
    pub closed_silent: u64,
    /// Sessions closed for breaking a protocol's rules.
    pub closed_protocol: u64,
    /// What clients said and was refused, in the order of [`ErrorCode::ALL`].
    pub refused: [u64; ErrorCode::ALL.len()],
    /// Sessions closed because too much waited for all of them together.
    pub closed_full: u64,
}

/// The number of the newest message of each topic.
type Latest = HashMap<Box<[u8]>, u64>;

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
    /// Its turn to be closed has come, of all to whom goodbye was said.
    Restart,
    /// What it asked for cannot wait any longer.
    Parked,
    /// Its token ends soon, or now, or has to be shown by now.
    Token,
    /// The client has had its time to answer our Close frame, or to read its own's answer.
    Close,
}

/// The sessions of one shard. It is driven by its owner, in one thread:
///
/// 1. [`open`](Self::open) and [`close`](Self::close) when a connection comes and goes, [`receive`](Self::receive) with
///    what it says, [`pull`](Self::pull) when the log has more, [`release`](Self::release) at
///    [`next_release`](Self::next_release), [`tick`](Self::tick) at least each [`wheel::TICK`](crate::wheel::TICK);
/// 2. after any of these, [`visit`](Self::visit) for each of [`take_dirty`](Self::take_dirty), then
///    [`end_turn`](Self::end_turn), and [`take_interest`](Self::take_interest) and
///    [`take_publications`](Self::take_publications) sent upward; of these the answers come back by
///    [`published`](Self::published).
///
/// Time is what the last call said; it never goes back.
#[derive(Debug)]
pub struct Hub {
    limits: Limits,
    /// Begins the name of each session.
    name: String,
    now: Instant,
    sessions: Slab<Session>,
    /// By session: the little of it that a delivery touches.
    places: Vec<Place>,
    /// The most sessions since memory was last given back.
    sessions_peak: usize,
    opened: u32,
    subscribers: Trie,

    log: Arc<Log>,
    cursor: Cursor,
    /// Read from the log and not routed, the first from message `unrouted_from` on.
    unrouted: VecDeque<Arc<Segment>>,
    unrouted_from: usize,
    /// The message of the log that is routed next; all before it concern nobody any more but those who are behind.
    routed: u64,
    /// Where the recorded sequence stands there.
    position: Option<Position>,

    decoders: Arc<Decoders>,
    /// Where tokens are asked for.
    verifier: Option<Arc<dyn Verifier>>,
    /// Who has shown the first one since that was asked last.
    admitted: Vec<SessionId>,
    turn: Turn,
    aside: Aside,
    dirty: Vec<SessionId>,
    /// The newest message of each topic for which a session conflates.
    latest: Latest,
    /// `latest` is rid of what the log has dropped when it has so many topics.
    latest_max: usize,
    n_conflating: usize,
    dues: Dues,
    wheel: Wheel<Timer>,
    parked: Parked,
    /// Begun so far.
    replays: u32,

    deflater: Deflater,
    /// Made when the first compressed message comes.
    inflater: Option<Box<Inflater>>,
    interest: Vec<InterestChange>,
    publications: Vec<(Ticket, Publish)>,
    rates: Rates,
    faults: Vec<Fault>,
    rules: RecordRules,
    passing: Passing,
    counts: Counts,
    /// Upstream is silent.
    stale: bool,
}

impl Hub {
    /// A hub without sessions that reads `log` from its end on. `name` begins the sessions' names, so that they differ
    /// between shards and replicas.
    pub fn new(name: String, limits: Limits, log: Arc<Log>, now: Instant) -> Self {
        let (cursor, rates) = (log.cursor(), Rates::new(&limits, now));
        Self {
            inflater: None,
            limits,
            name,
            now,
            sessions: Slab::new(),
            places: Vec::new(),
            sessions_peak: 0,
            opened: 0,
            subscribers: Trie::default(),
            routed: cursor.next_seq(),
            position: cursor.position(),
            log,
            cursor,
            unrouted: VecDeque::new(),
            unrouted_from: 0,
            decoders: Arc::default(),
            verifier: None,
            admitted: Vec::new(),
            turn: Turn::new(Kinds::COUNT),
            aside: Aside::default(),
            dirty: Vec::new(),
            latest: HashMap::new(),
            latest_max: 0,
            n_conflating: 0,
            dues: Dues::default(),
            wheel: Wheel::new(now),
            parked: Parked::default(),
            replays: 0,
            deflater: Deflater::new(),
            interest: Vec::new(),
            publications: Vec::new(),
            rates,
            faults: Vec::new(),
            rules: RecordRules::nothing(),
            passing: Passing::default(),
            counts: Counts::default(),
            stale: false,
        }
    }

    /// What is in bodies, as it is shown from now on; without this, what they look like.
    pub fn set_decoders(&mut self, decoders: Arc<Decoders>) {
        self.decoders = decoders;
    }

    /// What upstream records, for the word `recorded` in replies.
    pub fn set_rules(&mut self, rules: RecordRules) {
        self.rules = rules;
        self.watch_rings();
    }

    /// Moves time on: heartbeats, pings, and the end of those who are silent.
    pub fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let mut due = Vec::new();
        self.wheel.fire(now, &mut due);
        let heartbeats = self.heartbeats();
        let ping = server_frame(Opcode::Ping, b"");
        for timer in due {
            let session = self.sessions.get(timer.session as usize);
            if session.is_none_or(|session| session.generation != timer.generation) {
                continue;
            }
            match timer.kind {
                TimerKind::Beat => self.beat(timer.session, &heartbeats, &ping),
                TimerKind::Restart => self.begin_close(timer.session, CloseCode::ServiceRestart),
                TimerKind::Parked => self.settle_overdue(),
                TimerKind::Token => self.look_at_token(timer.session),
                TimerKind::Close => self.end(timer.session),
            }
        }
        self.beat_early(&heartbeats);
    }

    fn beat(&mut self, id: SessionId, heartbeats: &[Bytes; Format::ALL.len()], ping: &Bytes) {
        let session = &self.sessions[id as usize];
        if session.phase != Phase::Open {
            return;
        }
        let protocol = session.protocol;
        let heard = if protocol.may_be_silent() { self.now } else { session.heard };
        let silent = self.now.saturating_duration_since(heard);
        let unheard = self.now.saturating_duration_since(session.heard);
        if silent >= self.limits.half_open_timeout {
            self.counts.closed_silent += 1;
            self.end(id);
            return;
        }
        let idle = self.now.saturating_duration_since(session.said);
        let idle_max = self.limits.idle_timeout;
        if protocol.is_conversation()
            && session.subscriptions.is_empty()
            && !idle_max.is_zero()
            && idle >= idle_max
        {
            self.begin_close(id, CloseCode::GoingAway);
            return;
        }
        // A ping also keeps a quiet connection open through proxies, answered or not.
        if unheard >= self.limits.ping_interval && protocol != Protocol::Sse {
            self.push_reply(id, ping.clone());
        }
        if protocol.is_told() {
            self.push_heartbeat(id, &heartbeats[protocol.format() as usize], false);
        }
        let gone = heard + self.limits.half_open_timeout;
        self.set_timer(id, gone.min(self.now + self.limits.ping_interval), TimerKind::Beat);
    }

    /// Whether upstream is silent. Clients that can be told hear at once when that changes.
    pub fn set_stale(&mut self, stale: bool) {
        if std::mem::replace(&mut self.stale, stale) == stale {
            return;
        }
        let heartbeats = Format::ALL.map(|format| self.heartbeat(self.position, format, true));
        let hears = |session: &Session| session.phase == Phase::Open && session.protocol.is_told();
        let open = self.sessions.iter().filter(|(_, session)| hears(session));
        let ids: Vec<_> =
            open.map(|(index, session)| (index as SessionId, session.protocol.format())).collect();
        ids.into_iter().for_each(|(id, format)| self.push_heartbeat(id, &heartbeats[format as usize], true));
    }

    fn heartbeat(&self, position: Option<Position>, format: Format, is_news: bool) -> Bytes {
        let heartbeat = ServerMessage::Heartbeat(Heartbeat { position, stale: self.stale });
        if is_news { heartbeat.notice(format) } else { heartbeat.frame(format) }
    }

    /// Those for who is at the head, by format.
    fn heartbeats(&self) -> [Bytes; Format::ALL.len()] {
        Format::ALL.map(|format| self.heartbeat(self.position, format, false))
    }

    /// Tells a client how far it is: with everybody else at the head, or, where it is behind or `max_hz` holds something
    /// back, as far as that. `is_news`: what it says beside that is new.
    fn push_heartbeat(&mut self, id: SessionId, at_head: &Bytes, is_news: bool) {
        let session = &self.sessions[id as usize];
        let format = session.protocol.format();
        let held_back = session.pace.as_ref().and_then(|pace| pace.holds_back());
        let behind =
            session.backlog.as_ref().filter(|backlog| backlog.next < self.routed || backlog.lost.count > 0);
        match behind {
            // Whoever takes nothing would only hear how little it took.
            Some(backlog) if backlog.is_blocked && backlog.reply_bytes() > 0 => {}
            Some(backlog) => {
                let (before, at) = (backlog.next, backlog.position);
                let is_earlier = |held_back: &Position| at.is_some_and(|at| held_back.offset < at.offset);
                let position = held_back.filter(is_earlier).or(at);
                let frame = self.heartbeat(position, format, is_news);
                self.push(id, Waiting { before, frame, what: What::Reply });
            }
            None if held_back.is_some() => {
                let frame = self.heartbeat(held_back, format, is_news);
                self.push_reply(id, frame);
            }
            None => self.push_reply(id, at_head.clone()),
        }
    }

    /// Sessions with something to write or to end, each once. Visit them all, then [`end_turn`](Self::end_turn); visits
    /// can make more of them (a slow client's Close frame), so go on until there are none.
    pub fn take_dirty(&mut self) -> Vec<SessionId> {
        let mut dirty = std::mem::take(&mut self.dirty);
        // Whoever has gone since needs no visit.
        dirty.retain(|id| self.places.get_mut(*id as usize).is_some_and(Place::take_dirty));
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

    /// What was refused since the last call, in order.
    pub fn take_faults(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.faults)
    }

    /// Counts a refusal. Whatever a client says that is not taken comes by here, once.
    fn fault(&mut self, id: SessionId, code: ErrorCode, why: impl Into<Cow<'static, str>>) {
        self.counts.refused[code as usize] += 1;
        let protocol = self.sessions[id as usize].protocol;
        self.faults.push(Fault { session: id, protocol, code, why: why.into() });
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes that wait for all clients, in the log and outside; looks at every session.
    pub fn outbox_bytes(&self) -> usize {
        let waiting = |session: &Session| session.backlog.as_ref().map_or(0, |backlog| backlog.bytes());
        self.sessions.iter().map(|(_, session)| waiting(session)).sum()
    }

    /// Sessions open now.
    pub fn n_sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Subscriptions held now.
    pub fn n_subscriptions(&self) -> usize {
        self.subscribers.len()
    }

    #[cfg(test)]
    fn n_timers(&self) -> usize {
        self.wheel.len()
    }

    fn reply(&mut self, id: SessionId, message: &ServerMessage<'_>) {
        let format = self.sessions[id as usize].protocol.format();
        self.push_reply(id, message.frame(format));
    }

    /// Queues a frame for this client alone, behind everything that was routed to it: a position must not overtake data.
    fn push_reply(&mut self, id: SessionId, frame: Bytes) {
        let before = self.routed;
        self.push(id, Waiting { before, frame, what: What::Reply });
    }

    fn push(&mut self, id: SessionId, waiting: Waiting) {
        self.fall_behind(id, 0);
        self.backlog(id).push(waiting);
        self.mark_dirty(id);
    }

    /// The session's backlog, which [`fall_behind`](Self::fall_behind) has made.
    fn backlog(&mut self, id: SessionId) -> &mut Backlog {
        self.sessions[id as usize].backlog.as_mut().expect("it is behind")
    }

    fn mark_dirty(&mut self, id: SessionId) {
        if self.places[id as usize].mark_dirty() {
            self.dirty.push(id);
        }
    }

    fn set_timer(&mut self, id: SessionId, at: Instant, kind: TimerKind) {
        let generation = self.sessions[id as usize].generation;
        self.wheel.set(at, Timer { session: id, generation, kind });
    }

    /// What is staged for the session is no longer.
    fn unstage(&mut self, id: SessionId) -> List {
        let place = &mut self.places[id as usize];
        std::mem::replace(&mut place.list, Turn::empty(place.kind))
    }
}
