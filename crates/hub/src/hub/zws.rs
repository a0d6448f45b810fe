//! What a client of ZWS 2.0 says. It cannot be answered: what is wrong ends its connection.

use super::rates::Said;
use super::sessions::Terms;
use super::{Hub, SessionId};
use crate::ErrorCode;
use crate::encode::zws::{self, Wish};
use crate::protocol::Protocol;
use crate::ws::CloseCode;

impl Hub {
    /// What the server says first, before any message.
    pub(super) fn greet_zws(&mut self, id: SessionId) {
        match self.sessions[id as usize].protocol {
            Protocol::Zws => self.push_reply(id, zws::routing_id()),
            Protocol::ZwsNull => self.push_reply(id, zws::ready()),
            _ => {}
        }
    }

    pub(super) fn hear_zws(&mut self, id: SessionId, payload: &[u8]) {
        let session = &mut self.sessions[id as usize];
        if !std::mem::replace(&mut session.is_greeted, true) {
            let is_greeting = match session.protocol {
                Protocol::ZwsNull => zws::is_ready_of_subscriber(payload),
                _ => zws::is_routing_id(payload),
            };
            if !is_greeting {
                self.refuse_zws(id, CloseCode::BadRequest);
            }
            return;
        }
        if !self.may_say(id, Said::Command, 1) {
            return self.refuse_zws(id, CloseCode::TooManyRequests);
        }
        match zws::parse(payload) {
            Some(Wish::Subscribe(topic)) => self.subscribe_zws(id, topic),
            Some(Wish::Unsubscribe(topic)) => {
                self.unsubscribe(id, &[topic.to_vec()], false);
                // No reply follows by which it would be visited, and until then it counts as behind.
                self.mark_dirty(id);
            }
            None => self.refuse_zws(id, CloseCode::BadRequest),
        }
    }

    /// Again is no different from once: jszmq does so at will, and its one end ends it.
    fn subscribe_zws(&mut self, id: SessionId, topic: &[u8]) {
        let session = &self.sessions[id as usize];
        if session.find(topic, false).is_ok() {
            return;
        }
        let (refused, code) = if topic.len() > self.limits.topic_bytes_max {
            (ErrorCode::InvalidTopic, CloseCode::PolicyViolation)
        } else if session.subscriptions.len() >= self.limits.subscriptions_max {
            (ErrorCode::TooManySubscriptions, CloseCode::PolicyViolation)
        } else if self.may_subscribe(id, &[topic]).is_err() {
            (ErrorCode::Forbidden, CloseCode::Forbidden)
        } else {
            self.subscribe(id, topic, false, Terms::default());
            return self.follow_subscriptions(id);
        };
        self.note_refusal(id, refused);
        self.refuse_zws(id, code);
    }

    pub(super) fn refuse_zws(&mut self, id: SessionId, code: CloseCode) {
        self.counts.closed_protocol += 1;
        self.begin_close(id, code);
    }
}
