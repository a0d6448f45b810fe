//! Server-sent events: what `trestle.v1.json` says, as `text/event-stream` has it (HTML Living Standard §9.2).

use bytes::Bytes;
use trestle_messages::Position;
use trestle_recorder::Message;

use super::json;
use super::reply::ServerMessage;
use crate::decode::Decoders;

/// A message of the log: its JSON, and its position as the id, behind which a browser resumes. A last value has none: the
/// client comes no further by it.
pub(super) fn event(message: &Message<'_>, decoders: &Decoders, snapshot: bool) -> Bytes {
    let mut data = Vec::new();
    json::event(message, decoders, snapshot, &mut data);
    block(None, message.position().filter(|_| !snapshot), &data)
}

/// What the server says of its own. A heartbeat is its id alone, of which a browser only remembers the position, unless
/// upstream is silent.
pub(super) fn server_message(message: &ServerMessage<'_>) -> Bytes {
    match message {
        ServerMessage::Heartbeat(heartbeat) if !heartbeat.stale => match heartbeat.position {
            Some(position) => block(None, Some(position), b""),
            None => Bytes::from_static(b":\n\n"),
        },
        _ => notice(message),
    }
}

/// What is not a message of the log has a name, so that `onmessage` hears those alone.
pub(super) fn notice(message: &ServerMessage<'_>) -> Bytes {
    let data = serde_json::to_vec(message).expect("all keys are strings, and nothing else can fail");
    let block = block(Some(message.name()), message.position(), &data);
    match message {
        ServerMessage::Goodbye(goodbye) => match goodbye.reconnect_after_ms {
            Some(after_ms) => [format!("retry: {after_ms}\n").as_bytes(), &block].concat().into(),
            None => block,
        },
        _ => block,
    }
}

/// One event. Whatever ends a line in `data` ends it for a browser, too, which joins the parts by LF: in JSON that is white
/// space for white space.
fn block(name: Option<&str>, id: Option<Position>, data: &[u8]) -> Bytes {
    let mut block = Vec::with_capacity(data.len() + 64);
    if let Some(name) = name {
        block.extend_from_slice(format!("event: {name}\n").as_bytes());
    }
    if let Some(id) = id {
        block.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    let mut rest = data;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
        block.extend_from_slice(b"data: ");
        block.extend_from_slice(&rest[..end]);
        block.push(b'\n');
        rest = &rest[end..];
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
    }
    block.push(b'\n');
    block.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Goodbye, GoodbyeReason, Heartbeat};

    fn text(bytes: &[u8]) -> &str {
        str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn data_is_split_where_a_browser_sees_the_end_of_a_line() {
        let data = b"{\n\"a\":\r1,\r\n\n\"b\":2}";
        let expected = "data: {\ndata: \"a\":\ndata: 1,\ndata: \ndata: \"b\":2}\n\n";
        assert_eq!(text(&block(None, None, data)), expected);
    }

    #[test]
    fn a_heartbeat_is_an_id_and_a_blank_line() {
        let position = Position { epoch: 7, offset: 9 };
        let heartbeat = ServerMessage::Heartbeat(Heartbeat { position: Some(position), stale: false });
        assert_eq!(text(&server_message(&heartbeat)), format!("id: {position}\n\n"));
        let unknown = ServerMessage::Heartbeat(Heartbeat { position: None, stale: false });
        assert_eq!(text(&server_message(&unknown)), ":\n\n");
    }

    #[test]
    fn a_silent_upstream_is_heard_of() {
        let position = Some(Position { epoch: 7, offset: 9 });
        let stale = ServerMessage::Heartbeat(Heartbeat { position: None, stale: true });
        assert_eq!(
            text(&server_message(&stale)),
            "event: heartbeat\ndata: {\"heartbeat\":{\"stale\":true}}\n\n"
        );
        let heals = ServerMessage::Heartbeat(Heartbeat { position, stale: false });
        assert!(text(&notice(&heals)).starts_with("event: heartbeat\nid: "));
    }

    #[test]
    fn goodbye_says_when_to_come_back() {
        let goodbye = Goodbye { reason: GoodbyeReason::Draining, reconnect_after_ms: Some(1_500) };
        let expected = "retry: 1500\nevent: goodbye\n\
                        data: {\"goodbye\":{\"reason\":\"draining\",\"reconnect_after_ms\":1500}}\n\n";
        assert_eq!(text(&server_message(&ServerMessage::Goodbye(goodbye))), expected);
    }
}
