//! What a client says, and what that does.

use super::rates::Said;
use super::recover::Start;
use super::{Hub, SessionId};
use crate::ErrorCode;
use crate::encode::{
    self, Command, CommandError, CommandKind, Outcome, Reply, ServerMessage, Subscribe, Unsubscribe,
    Unsubscribed,
};
use crate::protocol::Protocol;
use crate::session::Phase;
use crate::ws::{CloseCode, Incoming, Inflater, Opcode, ReadError, Reader, close_echo, server_frame};

/// So many messages in a row that do not parse at all, and the client speaks another protocol: closed with 4500.
const UNPARSED_MAX: u8 = 3;

/// Why a command is refused.
pub(super) type Refused = (ErrorCode, String);

impl Hub {
    /// Bytes that the client of `id` sent, in order. They are unmasked in place.
    pub fn receive(&mut self, id: SessionId, bytes: &mut [u8]) {
        let now = self.now;
        let session = &mut self.sessions[id as usize];
        if session.phase == Phase::Ended {
            return;
        }
        session.heard = now;
        // Lent out while what it hands out changes the rest of the session.
        let mut reader = std::mem::replace(&mut session.reader, Reader::new(0, false));
        let mut input = bytes;
        loop {
            match reader.next(&mut input) {
                Ok(Some(incoming)) => {
                    if let Err(error) = self.hear(id, incoming) {
                        self.cut_off(id, error);
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.cut_off(id, error);
                    break;
                }
            }
        }
        self.sessions[id as usize].reader = reader;
    }

    /// The client broke a rule of the protocol; nothing more of it is understood.
    fn cut_off(&mut self, id: SessionId, error: ReadError) {
        if self.sessions[id as usize].phase == Phase::Open {
            self.counts.closed_protocol += 1;
            self.fault(id, code_of(error), error.to_string());
            self.begin_close(id, error.close_code());
        } else {
            // Our Close frame is on its way for another reason, and what would answer it cannot be read any more.
            self.sessions[id as usize].phase = Phase::Ending;
            self.mark_dirty(id);
        }
    }

    fn hear(&mut self, id: SessionId, incoming: Incoming<'_>) -> Result<(), ReadError> {
        let is_open = self.sessions[id as usize].phase == Phase::Open;
        if let Incoming::Compressed { text, payload } = incoming {
            if !is_open {
                return Ok(());
            }
            // Lent out, as the reader is.
            let max = self.limits.message_bytes_max;
            let mut inflater = self.inflater.take().unwrap_or_else(|| Box::new(Inflater::new(max)));
            let heard = inflater.inflate(text, payload).map(|incoming| self.hear_whole(id, incoming));
            self.inflater = Some(inflater);
            return heard;
        }
        self.hear_whole(id, incoming);
        Ok(())
    }

    fn hear_whole(&mut self, id: SessionId, incoming: Incoming<'_>) {
        let now = self.now;
        let session = &mut self.sessions[id as usize];
        let is_open = session.phase == Phase::Open;
        let is_data = matches!(incoming, Incoming::Text(_) | Incoming::Binary(_));
        self.counts.received += u64::from(is_data);
        match incoming {
            Incoming::Close { code, .. } => {
                if is_open {
                    self.say_close(id, CloseCode::Normal, close_echo(code));
                }
                self.sessions[id as usize].phase = Phase::Ending;
                self.mark_dirty(id);
            }
            // Behind our own Close frame nothing is answered (RFC 6455 §5.5.1).
            _ if !is_open => {}
            // One that comes too fast has no answer: nobody is owed one for each (RFC 6455 §5.5.3).
            Incoming::Ping(payload) => {
                session.said = now;
                if self.may_say(id, Said::Command, 1) {
                    self.push_reply(id, server_frame(Opcode::Pong, payload));
                }
            }
            Incoming::Pong(_) => {}
            // The original page says nothing; what it might say concerns nobody.
            _ if session.protocol == Protocol::RustWebsocket => {}
            Incoming::Binary(payload) if session.protocol.is_zws() => self.hear_zws(id, payload),
            _ if session.protocol.is_zws() => {
                self.refuse_zws(id, "messages of ZWS are binary", CloseCode::UnsupportedData)
            }
            _ => {
                let parsed = match (session.protocol, incoming) {
                    (Protocol::Proto, Incoming::Binary(payload)) => encode::parse_proto(payload),
                    (Protocol::Proto, _) => {
                        Err(wrong_frame("commands of trestle.v1.proto are binary frames"))
                    }
                    (_, Incoming::Text(text)) => encode::parse(text),
                    _ => Err(wrong_frame("commands are text frames")),
                };
                session.said = now;
                let (said, n, command) = match &parsed {
                    Ok(Command { id, kind: CommandKind::Publish(_) }) => (Said::Publication, 1, Some(*id)),
                    // Each topic may travel to the publishers, and its end after it.
                    Ok(Command { id, kind: CommandKind::Subscribe(wanted) }) => {
                        (Said::Command, wanted.topics.len(), Some(*id))
                    }
                    Ok(Command { id, .. }) => (Said::Command, 1, Some(*id)),
                    Err(error) => (Said::Command, 1, error.id),
                };
                if !self.may_say(id, said, n) {
                    let error = self.too_fast(command, said);
                    return self.reply_to_open(id, &error);
                }
                match parsed {
                    Ok(command) => {
                        self.sessions[id as usize].unparsed = 0;
                        self.obey(id, command);
                    }
                    Err(error) => self.refuse(id, &error),
                }
            }
        }
    }

    /// Behind our own Close frame nothing is said (RFC 6455 §5.5.1).
    fn reply_to_open(&mut self, id: SessionId, error: &CommandError) {
        if self.sessions[id as usize].phase == Phase::Open {
            self.reply(id, &error.reply());
        }
    }

    pub(super) fn refuse(&mut self, id: SessionId, error: &CommandError) {
        self.fault(id, error.code, error.reason.clone());
        self.reply(id, &error.reply());
        let session = &mut self.sessions[id as usize];
        session.unparsed = if error.unparsed { session.unparsed + 1 } else { 0 };
        if session.unparsed >= UNPARSED_MAX {
            self.counts.closed_protocol += 1;
            self.begin_close(id, CloseCode::BadRequest);
        }
    }

    fn obey(&mut self, id: SessionId, Command { id: command, kind }: Command) {
        let refused =
            |code, reason: String| CommandError { id: Some(command), code, reason, unparsed: false };
        let done = match kind {
            CommandKind::Subscribe(subscribe) => self.obey_subscribe(id, command, &subscribe),
            CommandKind::Unsubscribe(unsubscribe) => {
                self.obey_unsubscribe(id, command, &unsubscribe);
                Ok(())
            }
            CommandKind::Publish(publish) => {
                let checked = self.check_topics(std::slice::from_ref(&publish.topic));
                let checked = checked.and_then(|()| self.may_publish(id, &publish.topic));
                checked.map(|()| self.obey_publish(id, command, publish))
            }
            CommandKind::Authenticate(token) => self.obey_authenticate(id, command, &token),
        };
        if let Err((code, reason)) = done {
            self.refuse(id, &refused(code, reason));
        }
    }

    pub(super) fn obey_subscribe(
        &mut self,
        id: SessionId,
        command: u64,
        wanted: &Subscribe,
    ) -> Result<(), Refused> {
        self.check_topics(&wanted.topics)?;
        self.may_subscribe(id, &wanted.topics)?;
        self.settle_parked_of(id, &wanted.topics, wanted.exact);
        let session = &self.sessions[id as usize];
        let is_new = |topic: &&Vec<u8>| session.find(topic, wanted.exact).is_err();
        let mut new: Vec<_> = wanted.topics.iter().filter(is_new).collect();
        new.sort_unstable();
        new.dedup();
        let max = self.limits.subscriptions_max;
        if session.subscriptions.len() + self.parked.n_topics(id) + new.len() > max {
            return Err((
                ErrorCode::TooManySubscriptions,
                format!("a connection holds at most {max} subscriptions"),
            ));
        }
        match self.start(wanted) {
            Start::Now(begin) => self.begin(id, command, wanted, begin),
            Start::Later(why) => self.park(id, command, wanted, why),
        }
        Ok(())
    }

    /// The encodings know no other bound than the greatest that there may be.
    fn check_topics(&self, topics: &[Vec<u8>]) -> Result<(), Refused> {
        let max = self.limits.topic_bytes_max;
        match topics.iter().find(|topic| topic.len() > max) {
            Some(topic) => Err((
                ErrorCode::InvalidTopic,
                format!("a topic of {} bytes, at most {max} are allowed", topic.len()),
            )),
            None => Ok(()),
        }
    }

    fn obey_unsubscribe(&mut self, id: SessionId, command: u64, unwanted: &Unsubscribe) {
        self.settle_parked_of(id, &unwanted.topics, unwanted.exact);
        self.unsubscribe(id, &unwanted.topics, unwanted.exact);
        let topics = unwanted.topics.iter().map(Vec::as_slice).collect();
        let outcome = Outcome::Unsubscribed(Unsubscribed { topics });
        self.reply(id, &ServerMessage::Reply(Reply { id: Some(command), outcome }));
    }
}

/// A broken rule as a reply would name it, if there were one.
fn code_of(error: ReadError) -> ErrorCode {
    match error {
        ReadError::TooLarge { .. } => ErrorCode::TooLarge,
        _ => ErrorCode::BadRequest,
    }
}

/// What came is a frame of the kind that the protocol does not have.
fn wrong_frame(reason: &str) -> CommandError {
    CommandError { id: None, code: ErrorCode::BadRequest, reason: reason.to_owned(), unparsed: true }
}
