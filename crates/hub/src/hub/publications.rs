//! What clients publish, on its way upward, and the answers that come back.

use trestle_messages::Position;

use super::{Hub, SessionId};
use crate::ErrorCode;
use crate::encode::{Outcome, Publish, Published, Reply, ServerMessage};
use crate::session::Phase;

/// Whose publication it is: given out with it, and given back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    session: SessionId,
    /// Parts the session from an earlier one of the same number.
    generation: u32,
    /// The command that the reply names.
    command: u64,
    bytes: u32,
}

impl Ticket {
    /// The session's number; whether it is still that session the hub knows.
    pub fn session(&self) -> SessionId {
        self.session
    }
}

/// Why something was not published, or not certainly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Unpublished {
    /// From the closed list.
    pub code: ErrorCode,
    /// For people.
    pub reason: String,
}

impl Unpublished {
    /// With a reason in words.
    pub fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl Hub {
    /// What clients published since the last call, each client's in its order. Each is to be answered once by
    /// [`published`](Self::published), at any time; while a client's wait for that in numbers, no more is read from it.
    pub fn take_publications(&mut self) -> Vec<(Ticket, Publish)> {
        std::mem::take(&mut self.publications)
    }

    /// The answer to a publication: its position, `None` where it is not recorded. Nothing happens if its client has gone.
    pub fn published(&mut self, ticket: Ticket, outcome: Result<Option<Position>, Unpublished>) {
        let Ticket { session: id, generation, command, bytes } = ticket;
        let session = self.sessions.get_mut(id as usize);
        let Some(session) = session.filter(|session| session.generation == generation) else { return };
        session.unanswered -= 1;
        session.unanswered_bytes -= bytes;
        // Behind our own Close frame nothing is said (RFC 6455 §5.5.1).
        if session.phase != Phase::Open {
            return;
        }
        match outcome {
            // Of ZWS nobody waits for an answer.
            Ok(_) if session.protocol.is_zws() => {}
            Err(Unpublished { code, reason }) if session.protocol.is_zws() => self.fault(id, code, reason),
            Ok(position) => {
                let outcome = Outcome::Published(Published { position });
                self.reply(id, &ServerMessage::Reply(Reply { id: Some(command), outcome }));
            }
            Err(Unpublished { code, reason }) => {
                self.fault(id, code, reason.clone());
                self.reply(id, &ServerMessage::error(Some(command), code, &reason));
            }
        }
    }

    pub(super) fn obey_publish(&mut self, id: SessionId, command: u64, publish: Publish) {
        let session = &mut self.sessions[id as usize];
        let bytes = u32::try_from(publish.bytes()).expect("a client's message is far below 4 GiB");
        session.unanswered += 1;
        session.unanswered_bytes += bytes;
        let ticket = Ticket { session: id, generation: session.generation, command, bytes };
        self.publications.push((ticket, publish));
    }
}
