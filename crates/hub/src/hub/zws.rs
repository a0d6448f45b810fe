//! What a client of ZWS 2.0 says. It cannot be answered: what is wrong ends its connection.

use super::rates::Said;
use super::sessions::Terms;
use super::{Hub, SessionId};
use crate::ErrorCode;
use crate::encode::zws::{self, Wish};
use crate::encode::{PARTS_MAX, Publish};
use crate::protocol::Role;
use crate::session::Greeting;
use crate::ws::CloseCode;

/// The frames of a message from a PUB or XPUB, of which more are to come.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    frames: Vec<Vec<u8>>,
    bytes: usize,
}

impl Hub {
    pub(super) fn hear_zws(&mut self, id: SessionId, payload: &[u8]) {
        let session = &self.sessions[id as usize];
        match session.role() {
            _ if session.greeting != Greeting::Over => self.hear_greeting(id, payload),
            Role::Subscriber => self.hear_wish(id, payload),
            Role::Publisher => self.hear_part(id, payload),
        }
    }

    fn hear_wish(&mut self, id: SessionId, payload: &[u8]) {
        if !self.may_say(id, Said::Command, 1) {
            return self.end_zws(id, CloseCode::TooManyRequests);
        }
        match zws::parse(payload) {
            Some(Wish::Subscribe(topic)) => self.subscribe_zws(id, topic),
            Some(Wish::Unsubscribe(topic)) => {
                self.unsubscribe(id, &[topic.to_vec()], false);
                // No reply follows by which it would be visited, and until then it counts as behind.
                self.mark_dirty(id);
            }
            None => self.refuse_zws(id, "neither a subscription nor the end of one", CloseCode::BadRequest),
        }
    }

    /// Again is no different from once: jszmq does so at will, and its one end ends it.
    fn subscribe_zws(&mut self, id: SessionId, topic: &[u8]) {
        let session = &self.sessions[id as usize];
        if session.find(topic, false).is_ok() {
            return;
        }
        let (refused, close) = if topic.len() > self.limits.topic_bytes_max {
            (ErrorCode::InvalidTopic, CloseCode::PolicyViolation)
        } else if session.subscriptions.len() >= self.limits.subscriptions_max {
            (ErrorCode::TooManySubscriptions, CloseCode::PolicyViolation)
        } else if self.may_subscribe(id, &[topic]).is_err() {
            (ErrorCode::Forbidden, CloseCode::Forbidden)
        } else {
            self.subscribe(id, topic, false, Terms::default());
            return self.follow_subscriptions(id);
        };
        self.fault(id, refused, refused.text());
        self.end_zws(id, close);
    }

    /// Messages go on whole: half of one is dropped with its connection.
    fn hear_part(&mut self, id: SessionId, payload: &[u8]) {
        let Some((frame, more)) = zws::part(payload) else {
            return self.refuse_zws(id, "no part of a message", CloseCode::BadRequest);
        };
        let session = &mut self.sessions[id as usize];
        let gathered = session.gathered.get_or_insert_default();
        gathered.bytes += frame.len();
        // The first is the topic.
        let is_full = gathered.bytes > self.limits.message_bytes_max || gathered.frames.len() > PARTS_MAX;
        if is_full {
            self.fault(id, ErrorCode::TooLarge, ErrorCode::TooLarge.text());
            return self.end_zws(id, CloseCode::MessageTooBig);
        }
        gathered.frames.push(frame.to_vec());
        if !more {
            let frames = std::mem::take(&mut **gathered).frames;
            self.publish_zws(id, frames);
        }
    }

    /// What may not be published is dropped and counted, as a PUB itself drops what its peer does not want: jszmq, once a
    /// message was wanted, sends all that follow.
    fn publish_zws(&mut self, id: SessionId, mut frames: Vec<Vec<u8>>) {
        if !self.may_say(id, Said::Publication, 1) {
            return;
        }
        let topic = frames.remove(0);
        // A message of one frame may be longer than a topic, whose beginning it is.
        let is_too_long = !frames.is_empty() && topic.len() > self.limits.topic_bytes_max;
        let (code, why) = match self.may_publish(id, &topic) {
            Ok(()) if is_too_long => (ErrorCode::InvalidTopic, ErrorCode::InvalidTopic.text().to_owned()),
            Ok(()) => return self.obey_publish(id, 0, Publish { topic, body: frames, key: None }),
            Err(denied) => denied,
        };
        self.fault(id, code, why);
    }

    /// What came is not ZWS.
    pub(super) fn refuse_zws(&mut self, id: SessionId, why: &'static str, close: CloseCode) {
        self.fault(id, ErrorCode::BadRequest, why);
        self.end_zws(id, close);
    }

    fn end_zws(&mut self, id: SessionId, code: CloseCode) {
        self.counts.closed_protocol += 1;
        self.begin_close(id, code);
    }
}
