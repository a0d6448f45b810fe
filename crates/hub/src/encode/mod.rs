//! What goes over a browser's connection: messages as shared WebSocket frames, replies, and commands the other way.
//!
//! [`frame`] gives a message in one [`Format`], encoded once in the process and shared by every connection that wants
//! it. [`ServerMessage`] is all that the server says of its own, [`Command`] all that a client may say.

mod body;
mod check;
mod command;
mod decoded;
mod fields;
mod json;
pub(crate) mod proto;
mod publish;
mod raw;
mod reply;
mod sse;
pub(crate) mod syntax;
mod typed;
pub(crate) mod zws;
pub(crate) mod zws_plain;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod decoded_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod publish_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod zws_tests;

use bytes::Bytes;
use trestle_recorder::{Message, Slot};

use crate::decode::Decoders;
use crate::ws::{DeflateWindow, Deflater, Opcode, server_frame};

pub(crate) use body::is_deeper_than;
pub use body::{Body, JSON_DEPTH_MAX, is_json};
pub use command::{
    Command, CommandError, CommandKind, HZ_MAX, HZ_MIN, ID_MAX, Policy, Since, Subscribe, Token, Unsubscribe,
    interval_of, parse,
};
pub use json::event;
pub use proto::parse as parse_proto;
pub use publish::{KEY_BYTES_MAX, PARTS_MAX, Publish};
pub use reply::{
    Authenticated, CaughtUp, Ended, Goodbye, GoodbyeReason, Heartbeat, Lost, LostCause, LostCount, Outcome,
    Published, Recorded, Recovery, Reply, ServerMessage, Subscribed, Topics, Unrecovered, Unsubscribed,
    Welcome,
};

/// A wire format for messages, one per subprotocol and what is negotiated with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `rust-websocket`: bodies alone.
    Raw,
    /// `trestle.v1.json`: one JSON object a text frame.
    Json,
    /// Server-sent events: the same objects as `text/event-stream`.
    Sse,
    /// `trestle.v1.proto`: one protobuf message a binary frame.
    Proto,
    /// ZWS 2.0: each ØMQ frame a binary message.
    Zws,
}

impl Format {
    /// All, by their number.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Json, Self::Sse, Self::Proto, Self::Zws];

    /// Where a message keeps it.
    const fn slot(self) -> Slot {
        Slot::new(self as u8)
    }

    const fn deflated_slot(self, window: DeflateWindow) -> Slot {
        Slot::new(Self::ALL.len() as u8 * (1 + window as u8) + self as u8)
    }
}

/// Room for an event's envelope: keys, position, time, a topic of usual length.
const ENVELOPE_BYTES: usize = 192;

/// The complete server frame (RFC 6455 §5.2: header and payload, not masked; of [`Format::Sse`] the bytes of its event,
/// of [`Format::Zws`] one for each ØMQ frame) that shows `message` in `format`.
///
/// Made on the first call in the process, by whichever thread comes first; cloning it copies nothing. What `decoders` finds
/// in a body is in JSON and SSE; the others show it as it came.
pub fn frame<'a>(message: &Message<'a>, format: Format, decoders: &Decoders) -> &'a Bytes {
    message.encoded(format.slot(), || match format {
        Format::Raw => raw::frame(message),
        Format::Json => json_frame(message, decoders, false),
        Format::Sse => sse::event(message, decoders, false),
        Format::Proto => proto::frame(message, false),
        Format::Zws => zws::frames(message),
    })
}

/// The frame that shows `message` as a last value, as [`frame`] but marked. Made anew for each who asks.
pub fn snapshot_frame(message: &Message<'_>, format: Format, decoders: &Decoders) -> Bytes {
    match format {
        Format::Raw | Format::Zws => frame(message, format, decoders).clone(),
        Format::Json => json_frame(message, decoders, true),
        Format::Sse => sse::event(message, decoders, true),
        Format::Proto => proto::frame(message, true),
    }
}

fn json_frame(message: &Message<'_>, decoders: &Decoders, snapshot: bool) -> Bytes {
    let body_bytes = message.body().map(<[u8]>::len).sum::<usize>();
    let mut json = Vec::with_capacity(ENVELOPE_BYTES + body_bytes + body_bytes / 2);
    event(message, decoders, snapshot, &mut json);
    server_frame(Opcode::Text, &json)
}

/// Bodies below this are sent as they are: their header and name weigh more than what compression saves (RFC 7692).
pub const DEFLATE_BYTES_MIN: usize = 256;

/// The message as [`frame`] has it, which is one frame, compressed; as it is where that is no shorter. Shared as that is.
pub fn deflated<'a>(
    message: &Message<'a>,
    format: Format,
    decoders: &Decoders,
    window: DeflateWindow,
    deflater: &mut Deflater,
) -> &'a Bytes {
    message.encoded(format.deflated_slot(window), || {
        let plain = frame(message, format, decoders);
        let (opcode, payload) = payload_of(plain);
        deflater.frame(opcode, payload, window).unwrap_or_else(|| plain.clone())
    })
}

/// What [`deflated`] has made, if it was asked for before.
pub fn deflated_already<'a>(
    message: &Message<'a>,
    format: Format,
    window: DeflateWindow,
) -> Option<&'a Bytes> {
    message.encoded_already(format.deflated_slot(window))
}

/// What is in a server's data frame.
fn payload_of(frame: &[u8]) -> (Opcode, &[u8]) {
    let opcode = if frame[0] & 0x0f == Opcode::Text.value() { Opcode::Text } else { Opcode::Binary };
    let header_bytes = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    (opcode, &frame[header_bytes..])
}
