//! How a client of ZWS 2.0 introduces itself, and is let in.

use std::sync::Arc;

use super::{Hub, SessionId};
use crate::ErrorCode;
use crate::encode::{Token, zws, zws_plain};
use crate::protocol::{Protocol, Role};
use crate::session::Greeting;
use crate::ws::CloseCode;

impl Hub {
    /// What the server says first, before any message. On `ZWS2.0/PLAIN` the client begins.
    pub(super) fn greet_zws(&mut self, id: SessionId) {
        let session = &self.sessions[id as usize];
        match session.protocol {
            Protocol::Zws => self.push_reply(id, zws::routing_id()),
            Protocol::ZwsNull => self.push_reply(id, zws::ready(session.role())),
            _ => {}
        }
    }

    pub(super) fn hear_greeting(&mut self, id: SessionId, payload: &[u8]) {
        let session = &self.sessions[id as usize];
        let role = session.role();
        let is_greeting = match (session.protocol, session.greeting) {
            (Protocol::ZwsPlain, Greeting::Awaited) => return self.hear_hello(id, payload),
            (Protocol::ZwsPlain, _) => zws_plain::is_initiate_of(role, payload),
            (Protocol::ZwsNull, _) => zws::is_ready_of(role, payload),
            _ => zws::is_routing_id(payload),
        };
        if !is_greeting {
            return self.refuse_zws(id, "the greeting of another kind of socket", CloseCode::BadRequest);
        }
        self.sessions[id as usize].greeting = Greeting::Over;
        if self.sessions[id as usize].protocol == Protocol::ZwsPlain {
            self.push_reply(id, zws::ready(role));
        }
        if role == Role::Publisher {
            self.want_what_it_may_publish(id);
        }
    }

    fn hear_hello(&mut self, id: SessionId, payload: &[u8]) {
        let Some(token) = zws_plain::token(payload) else {
            return self.refuse_zws(id, "no HELLO where one is due", CloseCode::BadRequest);
        };
        if let Err(code) = self.let_in(id, &token) {
            self.fault(id, code, code.text());
            let close = code.close_code();
            // libzmq does not come again after ERROR. Where nobody knows whether the token counts, it is to.
            if close.is_some() {
                self.push_reply(id, zws_plain::error());
            }
            return self.begin_close(id, close.unwrap_or(CloseCode::TryAgainLater));
        }
        self.sessions[id as usize].greeting = Greeting::Welcomed;
        self.push_reply(id, zws_plain::welcome());
    }

    /// A token that came with the handshake counts, and this one is not looked at.
    fn let_in(&mut self, id: SessionId, token: &Token) -> Result<(), ErrorCode> {
        let session = &self.sessions[id as usize];
        if !session.awaits_token() {
            return Ok(());
        }
        let role = session.role();
        let Some(verifier) = &self.verifier else { return Ok(()) };
        let grant = verifier.verify(token.as_str()).map_err(|unverified| unverified.code)?;
        if role == Role::Publisher && grant.publish.is_empty() {
            return Err(ErrorCode::Forbidden);
        }
        self.replace_grant(id, Arc::new(grant));
        Ok(())
    }

    /// So that a publisher sends nothing that it may not, its socket sorts it out.
    fn want_what_it_may_publish(&mut self, id: SessionId) {
        let grant = Arc::clone(&self.sessions[id as usize].grant);
        for prefix in grant.publish.iter() {
            self.push_reply(id, zws::subscription(prefix));
        }
    }
}
