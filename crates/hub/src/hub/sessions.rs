//! How sessions come and go, and what they hold.

use std::sync::Arc;
use std::time::Duration;

use super::{Hub, InterestChange, SessionId, TimerKind};
use crate::Grant;
use crate::backlog::{Ended, Waiting, What};
use crate::encode::{Format, Goodbye, GoodbyeReason, Policy, ServerMessage, Subscribe, Welcome};
use crate::protocol::{Protocol, Role};
use crate::session::{Phase, Session, Subscription};
use crate::wheel::TICK;
use crate::ws::{CloseCode, Deflate, close_frame};

/// A client that is behind and ends subscriptions still gets what was routed for them, unless it does so this often without
/// reading: then not what waits for the first of them.
const ENDED_MAX: usize = 16;

/// Memory for fewer sessions than this is not given back.
const PEAK_MIN: usize = 64;

/// What a subscription asks for beside its topic.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    pub(super) policy: Policy,
    pub(super) interval: Duration,
    /// The first message of the log that is to be sent again.
    pub(super) from: Option<u64>,
    /// Whether last values are sent first.
    pub(super) snapshot: bool,
    /// The replay that this is a part of; 0 without.
    pub(super) replay: u32,
}

impl Hub {
    /// A client whose handshake is accepted, with the subscriptions that its URL named and the compression that was
    /// negotiated. They stand when this returns: what is routed from now on waits for the client until its socket is
    /// there. One that `grant` does not cover closes it.
    pub fn open<'a>(
        &mut self,
        protocol: Protocol,
        deflate: Option<Deflate>,
        grant: Arc<Grant>,
        topics: impl IntoIterator<Item = &'a [u8]>,
    ) -> SessionId {
        self.open_as(Role::Subscriber, protocol, deflate, grant, topics)
    }

    /// A PUB or XPUB that speaks ZWS: what it sends comes out of [`take_publications`](Self::take_publications), if `grant`
    /// covers it.
    pub fn open_publisher(&mut self, protocol: Protocol, grant: Arc<Grant>) -> SessionId {
        self.open_as(Role::Publisher, protocol, None, grant, [])
    }

    fn open_as<'a>(
        &mut self,
        role: Role,
        protocol: Protocol,
        deflate: Option<Deflate>,
        grant: Arc<Grant>,
        topics: impl IntoIterator<Item = &'a [u8]>,
    ) -> SessionId {
        self.opened = self.opened.wrapping_add(1);
        let deflate = deflate.filter(|_| protocol.may_compress());
        let mut session =
            Session::new(protocol, deflate, grant, self.limits.message_bytes_max, self.opened, self.now);
        session.is_publisher = role == Role::Publisher;
        let id = SessionId::try_from(self.sessions.insert(session)).expect("less than 2^32 sessions");
        self.take_place(id);
        self.sessions_peak = self.sessions_peak.max(self.sessions.len());
        let expires_at = self.begin_token(id);
        if protocol.is_conversation() {
            let name = format!("{}-{:x}", self.name, self.opened);
            let heartbeat_ms = u64::try_from(self.limits.ping_interval.as_millis()).unwrap_or(u64::MAX);
            let (position, stale) = (self.position, self.stale);
            let welcome = Welcome { session: &name, position, heartbeat_ms, expires_at, stale };
            self.reply(id, &ServerMessage::Welcome(welcome));
        }
        self.greet_zws(id);
        for topic in topics {
            if let Err((code, reason)) = self.may_subscribe(id, &[topic]) {
                self.fault(id, code, reason);
                self.begin_close(id, code.close_code().unwrap_or(CloseCode::PolicyViolation));
                break;
            }
            self.subscribe(id, topic, false, Terms::default());
        }
        // Spread over half an interval, so that clients that came together do not beat together.
        let spread = self.limits.ping_interval / 2 / 64 * (self.opened % 64);
        self.set_timer(id, self.now + self.limits.ping_interval / 2 + spread, TimerKind::Beat);
        id
    }

    /// A client of server-sent events, whose request asked for `wanted`.
    pub fn open_events(&mut self, grant: Arc<Grant>, wanted: &Subscribe) -> SessionId {
        let id = self.open(Protocol::Sse, None, grant, []);
        if let Err((code, reason)) = self.obey_subscribe(id, 0, wanted) {
            self.reply(id, &ServerMessage::error(None, code, &reason));
            self.fault(id, code, reason);
            self.begin_close(id, code.close_code().unwrap_or(CloseCode::BadRequest));
        } else if self.stale {
            // Where a WebSocket's welcome says so.
            let heartbeat = self.heartbeat(None, Format::Sse, true);
            self.push_reply(id, heartbeat);
        }
        id
    }

    /// The connection is gone. Its number may be given out again. Returns what our Close frame said; `None` if the
    /// connection broke without one (RFC 6455 §7.1.5: 1006).
    pub fn close(&mut self, id: SessionId) -> Option<CloseCode> {
        self.unsubscribe_all(id);
        self.leave_place(id);
        let code = self.sessions.remove(id as usize).close_code;
        // Once three quarters have gone: so the work is shared by all who went. One of the last may have the highest number,
        // which holds the place of all below it, so it is looked at again when nobody is left.
        let most_went = self.sessions_peak > PEAK_MIN && self.sessions.len() <= self.sessions_peak / 4;
        let all_went = self.sessions.is_empty() && self.sessions.capacity() > PEAK_MIN;
        if most_went || all_went {
            self.give_back();
        }
        code
    }

    /// What was for those who went is not kept for those who may come.
    fn give_back(&mut self) {
        self.sessions.shrink_to_fit();
        self.places.truncate(self.sessions.capacity());
        self.places.shrink_to_fit();
        self.sessions_peak = self.sessions.len();
        let sessions = &self.sessions;
        self.wheel.retain(|timer| {
            let session = sessions.get(timer.session as usize);
            session.is_some_and(|session| session.generation == timer.generation)
        });
    }

    /// Says goodbye to everybody now, and closes one after the other with 1012, evenly over `spread`. Until its close each
    /// gets every message; a client of `trestle.v1.*` is told when that will be. Told again, the earlier close holds.
    pub fn goodbye(&mut self, reason: GoodbyeReason, spread: Duration) {
        // Whoever is being closed already hears nothing behind its Close frame (RFC 6455 §5.5.1).
        let open = self.sessions.iter().filter(|(_, session)| session.phase == Phase::Open);
        let ids: Vec<_> = open.map(|(index, _)| index as SessionId).collect();
        for (nth, id) in ids.iter().enumerate() {
            let after = spread.mul_f64(nth as f64 / ids.len() as f64);
            if self.sessions[*id as usize].protocol.is_told() {
                // The wheel closes those of a tick together. Who comes back a tick after its place in the row comes alone.
                let reconnect_after_ms = u64::try_from((after + TICK).as_millis()).ok();
                self.reply(*id, &ServerMessage::Goodbye(Goodbye { reason, reconnect_after_ms }));
            }
            if after.is_zero() {
                self.begin_close(*id, CloseCode::ServiceRestart);
            } else {
                self.set_timer(*id, self.now + after, TimerKind::Restart);
            }
        }
    }

    /// Whether the client's bytes are wanted now: not while its replies pile up because it does not read them, nor while
    /// many of its publications have no answer.
    pub fn wants_read(&self, id: SessionId) -> bool {
        let session = &self.sessions[id as usize];
        let backlog = session.backlog.as_ref();
        let may_publish = session.unanswered < self.limits.publications_max
            && session.unanswered_bytes < self.limits.publication_bytes_max;
        may_publish && backlog.is_none_or(|backlog| backlog.reply_bytes() <= self.limits.replies_bytes_max)
    }

    /// Whether the connection is to be dropped now.
    pub fn is_ended(&self, id: SessionId) -> bool {
        let session = &self.sessions[id as usize];
        session.phase == Phase::Ended || session.phase == Phase::Ending && session.backlog.is_none()
    }

    /// The connection goes at the next visit, whatever waits.
    pub(super) fn end(&mut self, id: SessionId) {
        self.cut(id);
        self.mark_dirty(id);
    }

    /// Nothing goes to the connection any more, and nothing waits for it, until its owner closes it.
    pub(super) fn cut(&mut self, id: SessionId) {
        self.unsubscribe_all(id);
        self.unstage(id);
        let session = &mut self.sessions[id as usize];
        session.phase = Phase::Ended;
        session.backlog = None;
        self.review(id);
    }

    /// Sends our Close frame behind what waits, and no more messages.
    pub(super) fn begin_close(&mut self, id: SessionId, code: CloseCode) {
        if self.sessions[id as usize].phase != Phase::Open {
            return;
        }
        self.sessions[id as usize].phase = Phase::Closing;
        if self.sessions[id as usize].protocol == Protocol::Sse {
            // The end of the stream is all there is to say.
            self.say_close(id, code, bytes::Bytes::new());
            self.sessions[id as usize].phase = Phase::Ending;
            return;
        }
        self.say_close(id, code, close_frame(code));
    }

    /// Queues the only Close frame of a session, whose connection then has its time to end.
    pub(super) fn say_close(&mut self, id: SessionId, code: CloseCode, frame: bytes::Bytes) {
        self.fall_behind(id, 0);
        self.release_all(id);
        let routed = self.routed;
        if self.backlog(id).catches_up {
            // Behind what is still to be sent again nothing may tell the client that it has come further.
            self.backlog(id).break_off(routed);
        }
        self.unsubscribe_all(id);
        let before = self.routed;
        if !frame.is_empty() {
            self.push(id, Waiting { before, frame, what: What::Reply });
        }
        self.mark_dirty(id);
        self.sessions[id as usize].close_code = Some(code);
        self.set_timer(id, self.now + self.limits.close_timeout, TimerKind::Close);
    }

    /// Adds a subscription, or changes the terms of one that the session holds.
    pub(super) fn subscribe(&mut self, id: SessionId, topic: &[u8], exact: bool, terms: Terms) {
        let Terms { policy, interval, from, snapshot, replay } = terms;
        let born = self.routed;
        let snapshot = if snapshot { 0..born } else { 0..0 };
        match self.sessions[id as usize].find(topic, exact) {
            Ok(held) => {
                let session = &mut self.sessions[id as usize];
                let next = session.backlog.as_ref().map(|backlog| backlog.next);
                let held = &mut session.subscriptions[held];
                held.policy = policy;
                held.limit(interval, born, next);
                if let Some(from) = from {
                    (held.from, held.served) = (from, from);
                }
                if from.is_some() || !snapshot.is_empty() {
                    (held.snapshot, held.replay) = (snapshot, replay);
                }
            }
            Err(at) => {
                let (entry, first) = self.subscribers.insert(topic, exact, id);
                if first {
                    self.interest.push(InterestChange::Wanted(topic.into()));
                }
                let from = from.unwrap_or(born);
                let (topic, served) = (topic.into(), from);
                let held = Subscription {
                    topic,
                    exact,
                    policy,
                    entry,
                    interval,
                    flips: Box::default(),
                    from,
                    born,
                    served,
                    snapshot,
                    replay,
                };
                self.sessions[id as usize].subscriptions.insert(at, held);
            }
        }
    }

    /// Ends those of the subscriptions that the session holds. What was routed before still comes.
    pub(super) fn unsubscribe(&mut self, id: SessionId, topics: &[Vec<u8>], exact: bool) {
        self.fall_behind(id, 0);
        let session = &mut self.sessions[id as usize];
        let mut ended = Vec::new();
        for topic in topics {
            if let Ok(held) = session.find(topic, exact) {
                ended.push(session.subscriptions.remove(held));
            }
        }
        ended.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        self.drop_subscriptions(id, ended);
        self.follow_subscriptions(id);
    }

    fn unsubscribe_all(&mut self, id: SessionId) {
        self.parked.forget(id);
        let ended = std::mem::take(&mut self.sessions[id as usize].subscriptions);
        self.drop_subscriptions(id, ended);
        self.follow_subscriptions(id);
    }

    /// Takes `ended`, in the order of their keys, out of the trie; they are kept while messages for them wait.
    fn drop_subscriptions(&mut self, id: SessionId, mut ended: Vec<Subscription>) {
        for held in &ended {
            if self.subscribers.remove(held.entry) {
                self.interest.push(InterestChange::Unwanted(held.topic.clone()));
            }
        }
        let until = self.routed;
        if let Some(backlog) = &mut self.sessions[id as usize].backlog {
            // What was to be sent again is not wanted any more, unless it is counted already.
            let next = backlog.next;
            ended.retain(|held| !backlog.catches_up || held.next(next) >= held.born);
            ended.iter_mut().for_each(|held| held.snapshot = 0..0);
        }
        if let Some(backlog) = &mut self.sessions[id as usize].backlog
            && backlog.may_find()
            && !ended.is_empty()
        {
            backlog.ended.push(Ended { subscriptions: ended, until });
            if backlog.ended.len() > ENDED_MAX {
                backlog.ended.remove(0);
            }
        }
    }

    /// The subscriptions have changed; what depends on their terms follows.
    pub(super) fn follow_subscriptions(&mut self, id: SessionId) {
        let now = self.now;
        let session = &mut self.sessions[id as usize];
        if session.pace.is_some() || session.subscriptions.iter().any(|held| !held.interval.is_zero()) {
            let mut pace = session.pace.take().unwrap_or_default();
            let is_limited = pace.follow(&session.subscriptions, now);
            let free = pace.take_free();
            session.pace = is_limited.then_some(pace);
            self.push_held(id, free);
            self.schedule(id);
        }
        self.review(id);
    }
}
