//! What goes over a browser's connection: messages as shared WebSocket frames, replies, and commands the other way.
//!
//! [`frame`] gives a message in one [`Format`], encoded once in the process and shared by every connection that wants
//! it. [`ServerMessage`] is all that the server says of its own, [`Command`] all that a client may say.

mod body;
mod command;
mod fields;
mod json;
mod raw;
mod reply;
mod syntax;
mod typed;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use trestle_recorder::{Message, Slot};

pub use body::{Body, JSON_DEPTH_MAX, is_json};
pub use command::{
    Command, CommandError, CommandKind, HZ_MAX, HZ_MIN, ID_MAX, Policy, Since, Subscribe, Unsubscribe, parse,
};
pub use json::event;
pub use reply::{
    CaughtUp, Goodbye, GoodbyeReason, Heartbeat, Lost, LostCause, LostCount, Outcome, Recorded, Recovery,
    Reply, ServerMessage, Subscribed, Topics, Unrecovered, Unsubscribed, Welcome,
};

/// A wire format for messages, one per subprotocol and what is negotiated with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `rust-websocket`: bodies alone.
    Raw,
    /// `trestle.v1.json`: one JSON object a text frame.
    Json,
}

impl Format {
    /// Where a message keeps its frame in this format.
    const fn slot(self) -> Slot {
        match self {
            Self::Raw => Slot::new(0),
            Self::Json => Slot::new(1),
        }
    }
}

/// Room for an event's envelope: keys, position, time, a topic of usual length.
const ENVELOPE_BYTES: usize = 192;

/// The complete server frame (RFC 6455 §5.2: header and payload, not masked) that shows `message` in `format`.
///
/// Made on the first call in the process, by whichever thread comes first; cloning it copies nothing.
pub fn frame<'a>(message: &Message<'a>, format: Format) -> &'a Bytes {
    message.encoded(format.slot(), || match format {
        Format::Raw => raw::frame(message),
        Format::Json => {
            let body_bytes = message.body().map(<[u8]>::len).sum::<usize>();
            let mut json = Vec::with_capacity(ENVELOPE_BYTES + body_bytes + body_bytes / 2);
            event(message, false, &mut json);
            crate::ws::server_frame(crate::ws::Opcode::Text, &json)
        }
    })
}
