//! Messages as `rust-websocket` shows them: the body alone, for clients that only listen.

use bytes::Bytes;
use trestle_messages::v1::event::Body as TypedBody;
use trestle_recorder::Message;

use super::typed;
use crate::ws::{Opcode, server_frame};

/// A WebSocket frame of the message's last ØMQ frame as the publisher sent it, alias and split undone: text if it is
/// UTF-8, else binary.
///
/// Of a typed event: its JSON or text; progress and status as the JSON objects that `trestle.v1.json` has under these
/// keys; its bytes as binary; nothing, as an empty text.
pub(super) fn frame(message: &Message<'_>) -> Bytes {
    let Some(event) = typed::event(message) else {
        let last = message.original_frames().last().unwrap_or_default();
        let is_text = simdutf8::basic::from_utf8(last).is_ok();
        return server_frame(if is_text { Opcode::Text } else { Opcode::Binary }, last);
    };
    let mut json = Vec::new();
    match &event.body {
        Some(TypedBody::Json(text) | TypedBody::Text(text)) => {
            return server_frame(Opcode::Text, text.as_bytes());
        }
        Some(TypedBody::Bytes(bytes)) => return server_frame(Opcode::Binary, bytes),
        Some(TypedBody::Progress(progress)) => typed::progress(progress, &mut json),
        Some(TypedBody::Status(status)) => typed::status(status, &mut json),
        None => {}
    }
    server_frame(Opcode::Text, &json)
}
