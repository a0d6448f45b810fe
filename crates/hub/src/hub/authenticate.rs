//! The tokens of sessions: who may do what now, another token in band, and the end of one.

use std::sync::Arc;
use std::time::Instant;

use trestle_recorder::Listed;

use super::commands::Refused;
use super::{Hub, InterestChange, SessionId, TimerKind};
use crate::backlog::What;
use crate::encode::{
    Authenticated, CommandError, Ended, Goodbye, GoodbyeReason, Outcome, Reply, ServerMessage, Token,
};
use crate::protocol::Protocol;
use crate::session::{Phase, Subscription, TokenState};
use crate::ws::CloseCode;
use crate::{Denied, ErrorCode, Grant, Unverified, Verifier};

/// So many tokens in a row that do not count, and the connection is closed: each costs a signature's verification.
const UNVERIFIED_MAX: u8 = 3;

impl Hub {
    /// From now on tokens are asked for, and `verifier` reads those that come in band. Who is opened with a grant without a
    /// subject has yet to show one.
    pub fn set_verifier(&mut self, verifier: Arc<dyn Verifier>) {
        self.verifier = Some(verifier);
    }

    /// What session `id` may do.
    pub fn grant(&self, id: SessionId) -> &Arc<Grant> {
        &self.sessions[id as usize].grant
    }

    /// Who has shown its first token since the last call. Nothing that it asked for was written yet: whoever may not stay
    /// is [turned out](Self::turn_out).
    pub fn take_admitted(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.admitted)
    }

    /// Closes a session at once: nothing goes out but what was begun, and the Close frame.
    pub fn turn_out(&mut self, id: SessionId, code: CloseCode) {
        let routed = self.routed;
        self.sessions[id as usize].pace = None;
        self.fall_behind(id, 0);
        // Replies and heartbeats go with the messages: behind a gap, a position would tell of what never came.
        self.backlog(id).give_up(routed);
        self.begin_close(id, code);
    }

    /// The one decision over what a session may hear.
    pub(super) fn may_subscribe<T: AsRef<[u8]>>(&self, id: SessionId, topics: &[T]) -> Result<(), Refused> {
        let session = &self.sessions[id as usize];
        if session.awaits_token() {
            return Err(no_token());
        }
        session.grant.may_subscribe_to(topics).map_err(refused)
    }

    /// The one over what it may say to others.
    pub(super) fn may_publish(&self, id: SessionId, topic: &[u8]) -> Result<(), Refused> {
        let session = &self.sessions[id as usize];
        if session.awaits_token() {
            return Err(no_token());
        }
        session.grant.may_publish(topic).map_err(refused)
    }

    /// The session is new. Returns when its token ends, Unix seconds.
    pub(super) fn begin_token(&mut self, id: SessionId) -> Option<u64> {
        let session = &mut self.sessions[id as usize];
        let expires_at = session.grant.expires_at;
        if self.verifier.is_some() || expires_at.is_some() {
            let is_awaited = self.verifier.is_some() && session.grant.subject.is_none();
            session.token = Some(Box::new(TokenState { is_awaited, ..TokenState::default() }));
            self.watch_token(id);
        }
        expires_at.map(|expiry| expiry.unix_seconds)
    }

    pub(super) fn obey_authenticate(
        &mut self,
        id: SessionId,
        command: u64,
        token: &Token,
    ) -> Result<(), Refused> {
        let Some(verifier) = &self.verifier else {
            return Err((ErrorCode::Unavailable, "no tokens are used here".to_owned()));
        };
        match verifier.verify(token.as_str()) {
            Err(unverified) => self.refuse_token(id, command, unverified),
            Ok(grant) => {
                if self.is_of_another(id, &grant) {
                    let why = "the token is of another subject than this connection: open another one for it";
                    return Err((ErrorCode::Forbidden, why.to_owned()));
                }
                self.take_grant(id, command, Arc::new(grant));
            }
        }
        Ok(())
    }

    fn is_of_another(&self, id: SessionId, grant: &Grant) -> bool {
        let session = &self.sessions[id as usize];
        !session.awaits_token() && session.grant.subject != grant.subject
    }

    /// A token that does not count changes nothing for who has one. Who has none, or goes on so, is closed.
    fn refuse_token(&mut self, id: SessionId, command: u64, Unverified { code, reason }: Unverified) {
        self.refuse(id, &CommandError { id: Some(command), code, reason, unparsed: false });
        let token = self.sessions[id as usize].token.as_mut();
        if let (Some(token), Some(close)) = (token, code.close_code()) {
            token.unverified += 1;
            if token.is_awaited || token.unverified >= UNVERIFIED_MAX {
                self.begin_close(id, close);
            }
        }
    }

    /// `grant` counts from here on. What it does not cover ends, and the reply says so.
    fn take_grant(&mut self, id: SessionId, command: u64, grant: Arc<Grant>) {
        let ended = self.replace_grant(id, grant);
        let expires_at = self.sessions[id as usize].grant.expires_at.map(|expiry| expiry.unix_seconds);
        let topics = |exact| ended.iter().filter(move |held| held.exact == exact).map(|held| &*held.topic);
        let of = |exact| Ended { topics: topics(exact).collect(), exact };
        let ended =
            [false, true].into_iter().filter(|exact| topics(*exact).next().is_some()).map(of).collect();
        let outcome = Outcome::Authenticated(Authenticated { expires_at, ended });
        self.reply(id, &ServerMessage::Reply(Reply { id: Some(command), outcome }));
    }

    /// The session has `grant` instead of what it had. Returns the subscriptions that this ends.
    pub(super) fn replace_grant(&mut self, id: SessionId, grant: Arc<Grant>) -> Vec<Subscription> {
        let session = &mut self.sessions[id as usize];
        session.grant = grant;
        if let Some(token) = &mut session.token {
            token.unverified = 0;
            if std::mem::take(&mut token.is_awaited) {
                self.admitted.push(id);
            }
        }
        self.watch_token(id);
        self.narrow(id)
    }

    /// Ends what the session's grant does not cover: subscriptions, those that wait to begin, and messages that wait for
    /// subscriptions that ended, now or before.
    fn narrow(&mut self, id: SessionId) -> Vec<Subscription> {
        // What is staged waits from here on as the rest does.
        self.fall_behind(id, 0);
        let session = &mut self.sessions[id as usize];
        let grant = Arc::clone(&session.grant);
        let is_denied = |held: &mut Subscription| grant.may_subscribe(&held.topic).is_err();
        let ended: Vec<_> = session.subscriptions.extract_if(.., is_denied).collect();
        let backlog = session.backlog.as_deref_mut().expect("it is behind");
        let earlier = backlog.ended.iter_mut();
        let n_earlier: usize =
            earlier.map(|earlier| earlier.subscriptions.extract_if(.., is_denied).count()).sum();
        self.forget_denied(id, ended.len() + n_earlier > 0);
        for held in &ended {
            if self.subscribers.remove(held.entry) {
                self.interest.push(InterestChange::Unwanted(held.topic.clone()));
            }
        }
        self.refuse_parked(id);
        self.follow_subscriptions(id);
        self.mark_dirty(id);
        ended
    }

    /// What waits and is not covered goes. In the log that is what is for none of the subscriptions that are left, if some
    /// `ended`.
    fn forget_denied(&mut self, id: SessionId, ended: bool) {
        let session = &mut self.sessions[id as usize];
        let backlog = session.backlog.as_deref_mut().expect("it is behind");
        if ended {
            let earlier = backlog.ended.iter_mut().flat_map(|earlier| &mut earlier.subscriptions);
            session.subscriptions.iter_mut().chain(earlier).for_each(|held| held.note_served(backlog.next));
            // What was looked up of last values may be for others.
            backlog.listed = Listed::default();
        }
        // No longer is it known for what they wait.
        let grant = Arc::clone(&session.grant);
        backlog.retain(|waiting| match &waiting.what {
            What::Event { topic, .. } => {
                topic.as_ref().is_some_and(|topic| grant.may_subscribe(topic).is_ok())
            }
            _ => true,
        });
        if ended && backlog.may_find() {
            self.recount(id);
        }
    }

    /// Commands that wait, and that the grant does not cover, are answered now.
    fn refuse_parked(&mut self, id: SessionId) {
        let grant = Arc::clone(&self.sessions[id as usize].grant);
        for (command, denied) in self.parked.take_denied(id, &grant) {
            let (code, reason) = refused(denied);
            self.refuse(id, &CommandError { id: Some(command), code, reason, unparsed: false });
        }
    }

    /// Sets the timer for what is due next about the token.
    fn watch_token(&mut self, id: SessionId) {
        let (now, warning) = (self.now, self.limits.expiry_warning);
        let session = &mut self.sessions[id as usize];
        let Some(token) = &mut session.token else { return };
        let due = match session.grant.expires_at {
            Some(expiry) => {
                let left = expiry.at.saturating_duration_since(now);
                // Tokens that were issued together are not renewed together.
                let spread = warning / 2 / 64 * (session.generation % 64);
                let ahead = (warning + spread).min(left / 2);
                let is_warned = session.protocol.is_conversation();
                token.warn_at = is_warned.then(|| expiry.at - ahead);
                token.warn_at.unwrap_or(expiry.at)
            }
            None if token.is_awaited => now + self.limits.authenticate_timeout,
            None => {
                token.warn_at = None;
                return;
            }
        };
        self.set_token_timer(id, due);
    }

    /// One timer for each session, however often it shows another token.
    fn set_token_timer(&mut self, id: SessionId, due: Instant) {
        let Some(token) = &mut self.sessions[id as usize].token else { return };
        if token.timer.is_none_or(|set| due < set) {
            token.timer = Some(due);
            self.set_timer(id, due, TimerKind::Token);
        }
    }

    /// A timer has come: the token ends, or will soon, or was to be shown by now; or it is for a token of before.
    pub(super) fn look_at_token(&mut self, id: SessionId) {
        let now = self.now;
        let session = &mut self.sessions[id as usize];
        // One that was set before a sooner one: that has looked already, or will.
        let Some(token) = &mut session.token else { return };
        if token.timer.is_some_and(|set| set > now) || session.phase != Phase::Open {
            return;
        }
        token.timer = None;
        match session.grant.expires_at {
            None if token.is_awaited => {
                self.fault(id, ErrorCode::Unauthorized, "no token came in time");
                self.begin_close(id, CloseCode::Unauthorized);
            }
            None => {}
            Some(expiry) if expiry.at <= now => self.expire(id),
            Some(expiry) => {
                let warning = token.warn_at.take_if(|at| *at <= now);
                let due = token.warn_at.unwrap_or(expiry.at);
                if warning.is_some() {
                    self.say_goodbye(id, Some(expiry.at));
                }
                self.set_token_timer(id, due);
            }
        }
    }

    /// What was routed while the token counted still comes, then the Close frame.
    fn expire(&mut self, id: SessionId) {
        self.fault(id, ErrorCode::TokenExpired, ErrorCode::TokenExpired.text());
        if self.sessions[id as usize].protocol == Protocol::Sse {
            self.say_goodbye(id, None);
        }
        self.begin_close(id, CloseCode::TokenExpired);
    }

    fn say_goodbye(&mut self, id: SessionId, at: Option<Instant>) {
        let left = at.map(|at| at.saturating_duration_since(self.now).as_millis());
        let reconnect_after_ms = left.and_then(|left| u64::try_from(left).ok());
        let goodbye = Goodbye { reason: GoodbyeReason::TokenExpired, reconnect_after_ms };
        self.reply(id, &ServerMessage::Goodbye(goodbye));
    }
}

fn refused(denied: Denied) -> Refused {
    (denied.code(), denied.to_string())
}

fn no_token() -> Refused {
    (ErrorCode::Unauthorized, "show a token first: `authenticate`".to_owned())
}
