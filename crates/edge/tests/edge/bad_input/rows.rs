//! The table: what is wrong, by whom, what answers it and what counts it.

use std::fmt::Write as _;

use serde_json::json;
use trestle_hub::ws::{Opcode, client_frame};

use crate::http::Request;

/// One thing that a client may do wrong.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) by: Where,
    pub(super) input: fn() -> Input,
    pub(super) answer: Answer,
    /// The label of the counter that counts it: an error's code, or the cause of a refused request.
    counted: &'static str,
}

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    Json,
    Proto,
    Raw,
    Zws,
    ZwsNull,
    /// A PUB of ZWS at `/pub`.
    Pub,
    /// A request that is no WebSocket's, or does not become one.
    Http,
}

/// What it sends.
pub(super) enum Input {
    /// Behind the handshake and the greetings.
    Frames(Vec<Vec<u8>>),
    Request(Vec<u8>),
}

/// What it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// An error of this code, and the connection goes on.
    Reply(&'static str),
    /// Nothing, and the connection goes on.
    Silence,
    Close(u16),
    Status(u16),
}

use Answer::{Close, Reply, Silence, Status};
use Where::{Http, Json, Proto, Pub, Raw, Zws, ZwsNull};

const fn row(
    by: Where,
    what: &'static str,
    input: fn() -> Input,
    answer: Answer,
    counted: &'static str,
) -> Row {
    Row { what, by, input, answer, counted }
}

/// In the order of the page.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row(Json, "text that is no JSON", || text(r#"{"id":1,"#), Reply("bad_request"), "bad_request"),
    row(Json, "the same three times in a row", thrice, Close(4500), "bad_request"),
    row(Json, "JSON that is no object", || text("[]"), Reply("bad_request"), "bad_request"),
    row(Json, "a command without `id`", || text(r#"{"unsubscribe":{"topics":["a"]}}"#), Reply("bad_request"), "bad_request"),
    row(Json, "no command", || text(r#"{"id":1}"#), Reply("bad_request"), "bad_request"),
    row(Json, "an unknown command", || text(r#"{"id":1,"shout":{}}"#), Reply("unknown_command"), "unknown_command"),
    row(Json, "an unknown field", || subscribe(r#""topics":["a"],"qos":1"#), Reply("unknown_field"), "unknown_field"),
    row(Json, "a field of the wrong type", || subscribe(r#""topics":"a""#), Reply("bad_request"), "bad_request"),
    row(Json, "a field that is there twice", || subscribe(r#""topics":["a"],"topics":["b"]"#), Reply("bad_request"), "bad_request"),
    row(Json, "a text with half a surrogate pair", || subscribe(r#""topics":["\ud800"]"#), Reply("bad_request"), "bad_request"),
    row(Json, "`since` that is no position", || subscribe(r#""topics":["a"],"since":"!""#), Reply("bad_request"), "bad_request"),
    row(Json, "a topic of more than 255 bytes", long_topic, Reply("invalid_topic"), "invalid_topic"),
    row(Json, "a reserved topic", || subscribe(r#""topics":["\u0000trestle"]"#), Reply("invalid_topic"), "invalid_topic"),
    row(Json, "more topics than a connection may have", many_topics, Reply("too_many_subscriptions"), "too_many_subscriptions"),
    row(Json, "a publication that is not allowed", || publish(r#""topic":"jobs/1","text":"""#), Reply("forbidden"), "forbidden"),
    row(Json, "a publication without a body", || publish(r#""topic":"chat/1""#), Reply("bad_request"), "bad_request"),
    row(Json, "`data` nested more than 128 deep", deep_data, Reply("bad_request"), "bad_request"),
    row(Json, "more than 64 `parts`", many_parts, Reply("too_large"), "too_large"),
    row(Json, "a binary message", || frame(Opcode::Binary, b"{}"), Reply("bad_request"), "bad_request"),
    row(Proto, "bytes that are no protobuf", || frame(Opcode::Binary, b"\x08"), Reply("bad_request"), "bad_request"),
    row(Proto, "an unknown command", || frame(Opcode::Binary, b"\x08\x01\x4a\x00"), Reply("unknown_command"), "unknown_command"),
    row(Proto, "an unknown field", || frame(Opcode::Binary, b"\x08\x01\x12\x06\x0a\x01a\x98\x06\x01"), Reply("unknown_field"), "unknown_field"),
    row(Proto, "a field of the wrong type", || frame(Opcode::Binary, b"\x08\x01\x10\x01"), Reply("bad_request"), "bad_request"),
    row(Proto, "a reserved topic", || frame(Opcode::Binary, b"\x08\x01\x12\x0b\x0a\x09\0trestle/"), Reply("invalid_topic"), "invalid_topic"),
    row(Proto, "a publication that is not allowed", || frame(Opcode::Binary, b"\x08\x01\x22\x06\x0a\x01j\x22\x01x"), Reply("forbidden"), "forbidden"),
    row(Proto, "a text message", || text("{}"), Reply("bad_request"), "bad_request"),
    row(Json, "a message over `--message-bytes-max`", || text(&" ".repeat(5_000)), Close(1009), "too_large"),
    row(Json, "a text message that is not UTF-8", || frame(Opcode::Text, b"\xff"), Close(1007), "bad_request"),
    row(Json, "a compressed message that does not inflate", || raw(b"\xc1\x81\0\0\0\0\xff"), Close(1007), "bad_request"),
    row(Json, "a frame without a mask", || raw(b"\x81\x02{}"), Close(1002), "bad_request"),
    row(Raw, "a frame without a mask", || raw(b"\x81\x02{}"), Close(1002), "bad_request"),
    row(Json, "a reserved bit", || raw(b"\xa1\x80\0\0\0\0"), Close(1002), "bad_request"),
    row(Json, "a reserved opcode", || raw(b"\x83\x80\0\0\0\0"), Close(1002), "bad_request"),
    row(Json, "a ping of more than 125 bytes", || frame(Opcode::Ping, &[0; 126]), Close(1002), "bad_request"),
    row(Json, "a ping in parts", || raw(b"\x09\x80\0\0\0\0"), Close(1002), "bad_request"),
    row(Json, "the next part of no message", || raw(b"\x80\x80\0\0\0\0"), Close(1002), "bad_request"),
    row(Json, "a close code that nobody may send", || frame(Opcode::Close, &1005_u16.to_be_bytes()), Close(1002), "bad_request"),
    row(Zws, "a subscription that is none", || frame(Opcode::Binary, b"\0\x02a"), Close(4500), "bad_request"),
    row(Zws, "a message where a subscription is due", || frame(Opcode::Binary, b"\x01a"), Close(4500), "bad_request"),
    row(Zws, "a topic of more than 255 bytes", || frame(Opcode::Binary, &[&b"\0\x01"[..], &[b'x'; 256]].concat()), Close(4500), "bad_request"),
    row(Zws, "more topics than a connection may have", many_zws, Close(1008), "too_many_subscriptions"),
    row(Zws, "a text message", || text("{}"), Close(1003), "bad_request"),
    row(ZwsNull, "the greeting of a PUB", || frame(Opcode::Binary, b"\x02\x05READY\x0bSocket-Type\0\0\0\x03PUB"), Close(4500), "bad_request"),
    row(Pub, "a publication that is not allowed", || frame(Opcode::Binary, b"\0jobs/1"), Silence, "forbidden"),
    row(Pub, "a command where a message is due", || frame(Opcode::Binary, b"\x02\x05PING"), Close(4500), "bad_request"),
    row(Pub, "more than 64 frames behind a topic", many_frames, Close(1009), "too_large"),
    row(Http, "no HTTP", || Input::Request(b"\x16\x03\x01 no HTTP\r\n\r\n".to_vec()), Status(400), "malformed"),
    row(Http, "a head over `--head-bytes-max`", || request(websocket("/ws").with("X", &"x".repeat(9_000))), Status(431), "head"),
    row(Http, "a WebSocket without a key", || request(websocket("/ws").without("Sec-WebSocket-Key")), Status(400), "malformed"),
    row(Http, "a WebSocket of another version", || request(websocket("/ws").replacing("Sec-WebSocket-Version", "8")), Status(426), "version"),
    row(Http, "a WebSocket without a subprotocol that is spoken here", || request(Request::websocket("/ws", "mqtt")), Status(400), "subprotocol"),
    row(Http, "a page of another origin", || request(websocket("/ws").with("Origin", "https://evil.example")), Status(403), "origin"),
    row(Http, "a topic of more than 255 bytes in a URL", || request(websocket(&format!("/ws?topic={}", "x".repeat(256)))), Status(400), "topic"),
    row(Http, "more topics in a URL than a connection may have", || request(websocket(&format!("/ws?{}", "topic=a&".repeat(9)))), Status(400), "topic"),
    row(Http, "an unknown parameter of `/ws`", || request(websocket("/ws?qos=1")), Status(400), "topic"),
    row(Http, "an unknown parameter of `/events`", || request(Request::get("/events?qos=1")), Status(400), "topic"),
    row(Http, "a parameter of `/events` that is of the wrong type", || request(Request::get("/events?max_hz=fast")), Status(400), "topic"),
    row(Http, "a publication that is not allowed", || request(Request::post("/publish?topic=jobs/1", b"")), Status(403), "forbidden"),
    row(Http, "a publication without a topic", || request(Request::post("/publish", b"")), Status(400), "bad_request"),
    row(Http, "an unknown parameter of `/publish`", || request(Request::post("/publish?topic=chat/1&qos=1", b"")), Status(400), "unknown_field"),
    row(Http, "a reserved topic of a publication", || request(Request::post("/publish?topic=%00trestle", b"")), Status(400), "invalid_topic"),
    row(Http, "a body over `--message-bytes-max`", || request(Request::post("/publish?topic=chat/1", &[b'x'; 5_000])), Status(413), "too_large"),
];

/// The rows as the page has them.
pub(super) fn table() -> String {
    let mut page = "| by | what | answer | counted in |\n| --- | --- | --- | --- |\n".to_owned();
    for row in ROWS {
        let answer = match row.answer {
            Reply(code) => format!("error `{code}`"),
            Silence => "dropped".to_owned(),
            Close(code) => format!("closed with {code}"),
            Status(status) => status.to_string(),
        };
        let (by, what, counted) = (row.by.name(), row.what, row.counted());
        writeln!(page, "| {by} | {what} | {answer} | `{counted}` |").unwrap();
    }
    page
}

impl Row {
    /// How often it counts.
    pub(super) fn times(&self) -> u64 {
        if self.what.contains("three times") { 3 } else { 1 }
    }

    /// The sample that counts it, without `trestle_edge_`.
    pub(super) fn counted(&self) -> String {
        match self.is_handshake() {
            true => format!("handshake_refusals_total{{cause=\"{}\"}}", self.counted),
            false => format!("commands_refused_total{{code=\"{}\"}}", self.counted),
        }
    }

    /// What the log says of it beside the address.
    pub(super) fn logged(&self) -> String {
        match self.is_handshake() {
            true => format!("cause=\"{}\"", self.counted),
            false => format!("code={}", self.counted),
        }
    }

    /// It is refused before there is a session, and it is no publication.
    fn is_handshake(&self) -> bool {
        const CAUSES: [&str; 6] = ["malformed", "head", "version", "subprotocol", "origin", "topic"];
        self.by == Http && CAUSES.contains(&self.counted)
    }
}

impl Where {
    /// As the page has it: the subprotocol, where there is one.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Json => "trestle.v1.json",
            Proto => "trestle.v1.proto",
            Raw => "rust-websocket",
            Zws => "ZWS2.0",
            Pub => "ZWS2.0 at /pub",
            ZwsNull => "ZWS2.0/NULL",
            Http => "HTTP",
        }
    }

    /// What it asks for, and the subprotocol that it offers.
    pub(super) fn handshake(self) -> (&'static str, &'static str) {
        if self == Pub { ("/pub", Zws.name()) } else { ("/ws", self.name()) }
    }

    pub(super) fn is_websocket(self) -> bool {
        self != Http
    }
}

fn raw(bytes: &[u8]) -> Input {
    Input::Frames(vec![bytes.to_vec()])
}

fn frame(opcode: Opcode, payload: &[u8]) -> Input {
    Input::Frames(vec![client_frame(opcode, true, [1, 2, 3, 4], payload).to_vec()])
}

fn text(text: &str) -> Input {
    frame(Opcode::Text, text.as_bytes())
}

fn subscribe(fields: &str) -> Input {
    text(&format!(r#"{{"id":1,"subscribe":{{{fields}}}}}"#))
}

fn publish(fields: &str) -> Input {
    text(&format!(r#"{{"id":1,"publish":{{{fields}}}}}"#))
}

fn thrice() -> Input {
    Input::Frames(vec![client_frame(Opcode::Text, true, [1, 2, 3, 4], b"{").to_vec(); 3])
}

fn long_topic() -> Input {
    subscribe(&format!(r#""topics":["{}"]"#, "x".repeat(256)))
}

fn many_topics() -> Input {
    subscribe(&format!(r#""topics":{}"#, json!(["a", "b", "c", "d", "e", "f", "g", "h", "i"])))
}

fn deep_data() -> Input {
    publish(&format!(r#""topic":"chat/1","data":{}{}"#, "[".repeat(129), "]".repeat(129)))
}

fn many_parts() -> Input {
    publish(&format!(r#""topic":"chat/1","parts":{}"#, json!(vec![json!({"text": ""}); 65])))
}

fn many_zws() -> Input {
    let wish = |topic: u8| client_frame(Opcode::Binary, true, [1, 2, 3, 4], &[0, 1, topic]).to_vec();
    Input::Frames((b'a'..=b'i').map(wish).collect())
}

fn many_frames() -> Input {
    let frame = client_frame(Opcode::Binary, true, [1, 2, 3, 4], b"\x01chat/1").to_vec();
    Input::Frames(vec![frame; 66])
}

fn websocket(target: &str) -> Request {
    Request::websocket(target, Json.name())
}

fn request(request: Request) -> Input {
    Input::Request(request.bytes())
}
