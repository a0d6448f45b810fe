//! ØMQ over WebSockets, as ZeroMQ RFC 45 (ZWS 2.0) has it: a flag byte before each ØMQ frame.

use bytes::{BufMut as _, Bytes, BytesMut};
use trestle_messages::topic::{TOPIC_BYTES_MAX, is_reserved};
use trestle_recorder::Message;

use crate::protocol::Role;
use crate::ws::{Opcode, server_frame, server_frame_header};

/// The last ØMQ frame of a message.
const LAST: u8 = 0;
/// More of the message follow.
const MORE: u8 = 1;
/// A command of the protocol itself.
pub(super) const COMMAND: u8 = 2;

/// The longest header of a server's frame (RFC 6455 §5.2) and the flag byte.
const FRAME_OVERHEAD_BYTES: usize = 10 + 1;

/// The message as its publisher sent it, alias and split undone, each ØMQ frame a binary message: all in one piece, so that
/// none goes out without the others. jszmq keeps half of one for whatever comes next.
pub(super) fn frames(message: &Message<'_>) -> Bytes {
    let frames: Vec<_> = message.original_frames().collect();
    let bytes = frames.iter().map(|frame| frame.len() + FRAME_OVERHEAD_BYTES).sum();
    let mut out = BytesMut::with_capacity(bytes);
    for (nth, frame) in frames.iter().enumerate() {
        let flag = if nth + 1 < frames.len() { MORE } else { LAST };
        out.put_slice(&server_frame_header(Opcode::Binary, true, false, 1 + frame.len()));
        out.put_u8(flag);
        out.put_slice(frame);
    }
    out.freeze()
}

/// The first message of `ZWS2.0` each way: an empty routing id.
pub(crate) fn routing_id() -> Bytes {
    server_frame(Opcode::Binary, &[LAST])
}

/// The first message of `ZWS2.0/NULL` each way (ZMTP's READY), and the last of the server before messages on
/// `ZWS2.0/PLAIN`: a SUB may well have an XPUB before it, and a PUB an XSUB.
pub(crate) fn ready(client: Role) -> Bytes {
    let mut payload = vec![COMMAND, 5];
    payload.extend_from_slice(b"READY\x0bSocket-Type\0\0\0\x04");
    payload.extend_from_slice(match client {
        Role::Subscriber => b"XPUB",
        Role::Publisher => b"XSUB",
    });
    server_frame(Opcode::Binary, &payload)
}

/// Whether a client's first message on `ZWS2.0/NULL` is the READY of such a socket.
pub(crate) fn is_ready_of(client: Role, payload: &[u8]) -> bool {
    payload.strip_prefix(b"\x02\x05READY").is_some_and(|metadata| says_socket(client, metadata))
}

/// Whether a socket's properties, which are to be whole, say that it is such a one.
pub(super) fn says_socket(client: Role, metadata: &[u8]) -> bool {
    let mut rest = metadata;
    let mut is_such = false;
    while !rest.is_empty() {
        let Some((name, value, behind)) = property(rest) else { return false };
        // Names are in any case (ZMTP 3.1).
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            is_such = match client {
                Role::Subscriber => matches!(value, b"SUB" | b"XSUB"),
                Role::Publisher => matches!(value, b"PUB" | b"XPUB"),
            };
        }
        rest = behind;
    }
    is_such
}

/// A name, its value, and what is behind them.
fn property(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_bytes, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*name_bytes))?;
    let (value_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*value_bytes) as usize)?;
    (!name.is_empty()).then_some((name, value, rest))
}

/// Whether a client's first message on `ZWS2.0` is a routing id: a last frame.
pub(crate) fn is_routing_id(payload: &[u8]) -> bool {
    matches!(payload, [LAST, id @ ..] if id.len() <= TOPIC_BYTES_MAX)
}

/// What tells a PUB or XPUB that messages which begin with `prefix` are wanted. It sends nothing before.
pub(crate) fn subscription(prefix: &[u8]) -> Bytes {
    server_frame(Opcode::Binary, &[&[LAST, 1], prefix].concat())
}

/// A frame of a message from a PUB or XPUB, and whether more of it follow; `None` for whatever else.
pub(crate) fn part(payload: &[u8]) -> Option<(&[u8], bool)> {
    match payload {
        [LAST, frame @ ..] => Some((frame, false)),
        [MORE, frame @ ..] => Some((frame, true)),
        _ => None,
    }
}

/// What a SUB or XSUB says after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish<'a> {
    /// Everything whose topic begins so.
    Subscribe(&'a [u8]),
    /// That no more.
    Unsubscribe(&'a [u8]),
}

/// `00 01 topic` or `00 00 topic`; `None` for whatever else: messages of an XSUB's user go nowhere here.
pub(crate) fn parse(payload: &[u8]) -> Option<Wish<'_>> {
    let [LAST, verb, topic @ ..] = payload else { return None };
    if topic.len() > TOPIC_BYTES_MAX || is_reserved(topic) {
        return None;
    }
    match verb {
        1 => Some(Wish::Subscribe(topic)),
        0 => Some(Wish::Unsubscribe(topic)),
        _ => None,
    }
}
