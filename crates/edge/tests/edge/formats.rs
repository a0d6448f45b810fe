//! Each kind of message as both kinds of browser see it.

use std::collections::HashMap;

use prost::Message as _;
use serde_json::{Value, json};
use trestle_messages::EVENT_MARKER;
use trestle_messages::v1::event::Body;
use trestle_messages::v1::progress::State;
use trestle_messages::v1::{Event, Progress, Status};

use crate::client::{Client, Said};
use crate::fixture::{Feed, TestEdge};

/// Publishes `frames` and checks what a client of `rust-websocket` and one of `trestle.v1.json` get.
struct Check {
    feed: Feed,
    raw: Client,
    json: Client,
    _edge: TestEdge,
}

impl Check {
    fn new(flags: &str) -> Self {
        let feed = Feed::bound();
        let edge = TestEdge::on(&feed, flags);
        let (raw, json) = (Client::raw(&edge, "/"), Client::json(&edge, "/ws?topic="));
        Self { feed, raw, json, _edge: edge }
    }

    #[track_caller]
    fn gives<B: AsRef<[u8]>>(&mut self, frames: &[B], raw: &Said, json: Value) {
        self.feed.send(frames);
        assert_eq!(self.raw.next(), *raw);
        let mut event = self.json.event();
        let fields = event.as_object_mut().unwrap();
        let (position, time) = (fields.remove("position"), fields.remove("time_ms"));
        assert!(position.is_some_and(|position| position.is_string()), "a recorded message has a position");
        assert!(time.is_some_and(|time| time.as_u64() > Some(1_700_000_000_000)), "Unix milliseconds");
        assert_eq!(event, json);
    }
}

#[test]
fn bodies_are_data_text_or_base64() {
    let mut check = Check::new("");
    let text = |text: &str| Said::Text(text.to_owned());
    check.gives(&["t", "hello Ø"], &text("hello Ø"), json!({"topic": "t", "text": "hello Ø"}));
    check.gives(
        &["t", " {\"a\": [1.0]}"],
        &text(" {\"a\": [1.0]}"),
        json!({"topic": "t", "data": {"a": [1.0]}}),
    );
    check.gives(&["t", "{\"a\":"], &text("{\"a\":"), json!({"topic": "t", "text": "{\"a\":"}));
    check.gives(&["t", "42"], &text("42"), json!({"topic": "t", "text": "42"}));
    check.gives(&["t", ""], &text(""), json!({"topic": "t", "text": ""}));
    check.gives(&["t", "bell\x07"], &text("bell\x07"), json!({"topic": "t", "base64": "YmVsbAc="}));
    let bytes = b"\xff\x00\x01".to_vec();
    check.gives(&[&b"t"[..], &bytes], &Said::Binary(bytes.clone()), json!({"topic": "t", "base64": "/wAB"}));
}

#[test]
fn several_frames_are_parts_and_the_last_is_the_raw_body() {
    let mut check = Check::new("");
    let parts = json!([{"text": "a"}, {"text": ""}, {"base64": "/w=="}, {"data": {"b": 1}}]);
    let frames = [&b"t"[..], b"a", b"", b"\xff", b"{\"b\":1}"];
    check.gives(&frames, &Said::text("{\"b\":1}"), json!({"topic": "t", "parts": parts}));

    let sixteen: Vec<String> = (0..16).map(|n| format!("frame {n}")).collect();
    let parts: Vec<_> = sixteen[1..].iter().map(|frame| json!({"text": frame})).collect();
    check.gives(&sixteen, &Said::text("frame 15"), json!({"topic": "frame 0", "parts": parts}));

    let empty = ["", "", ""];
    check.gives(&empty, &Said::text(""), json!({"topic": "", "parts": [{"text": ""}, {"text": ""}]}));
}

/// As Bitcoin Core notifies: topic, body, a sequence number of four bytes.
#[test]
fn a_sequence_number_is_one_more_part() {
    let mut check = Check::new("");
    let hash = [0xab; 32];
    let frames = [&b"hashblock"[..], &hash, &7u32.to_le_bytes()];
    let parts = json!([{"base64": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="}, {"base64": "BwAAAA=="}]);
    let sequence = Said::Text("\u{7}\0\0\0".to_owned());
    check.gives(&frames, &sequence, json!({"topic": "hashblock", "parts": parts}));
}

#[test]
fn a_single_frame_is_a_body_without_a_topic() {
    let mut check = Check::new("");
    check.gives(&["10001 23 45"], &Said::text("10001 23 45"), json!({"text": "10001 23 45"}));
    check.gives(&[""], &Said::text(""), json!({"text": ""}));
    let bytes = Said::Binary(b"\xc3\x28".to_vec());
    check.gives(&[&b"\xc3\x28"[..]], &bytes, json!({"base64": "wyg="}));
}

#[test]
fn a_topic_that_is_not_utf8_is_base64() {
    let mut check = Check::new("");
    check.gives(&[&b"\xff/1"[..], b"x"], &Said::text("x"), json!({"topic_base64": "/y8x", "text": "x"}));
    // A NUL is UTF-8.
    check.gives(&[&b"a\0b"[..], b"x"], &Said::text("x"), json!({"topic": "a\0b", "text": "x"}));
}

#[test]
fn a_mebibyte_arrives_whole() {
    let mut check = Check::new("");
    let text = "x".repeat(1 << 20);
    check.gives(&["t", &text], &Said::text(&text), json!({"topic": "t", "text": text}));
    let bytes = vec![0xff; 1 << 20];
    check.feed.send(&[&b"t"[..], &bytes]);
    assert_eq!(check.raw.next(), Said::Binary(bytes));
    assert_eq!(check.json.event()["base64"].as_str().unwrap().len(), (1usize << 20).div_ceil(3) * 4);
}

#[test]
fn typed_events_are_shown_as_what_they_are() {
    let mut check = Check::new("");
    let mut typed = |body: Option<Body>, raw: &Said, key: &str, value: Value| {
        let event = Event { id: "e1".into(), source: "host".into(), time_unix_ns: 0, body };
        let mut expected = json!({"topic": "jobs/42", "id": "e1", "source": "host"});
        expected[key] = value;
        check.gives(&[b"jobs/42", EVENT_MARKER, &event.encode_to_vec()], raw, expected);
    };
    let progress = Progress {
        job: "42".into(),
        done: 3,
        total: 1 << 60,
        unit: "files".into(),
        state: State::Running.into(),
    };
    let shown = r#"{"job":"42","done":3,"total":"1152921504606846976","unit":"files","state":"running"}"#;
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    typed(Some(Body::Progress(progress)), &Said::text(shown), "progress", parsed(shown));

    let gauges = HashMap::from([("cpu.percent".to_owned(), 12.5), ("a".to_owned(), 0.0)]);
    let shown = r#"{"gauges":{"a":0.0,"cpu.percent":12.5}}"#;
    typed(Some(Body::Status(Status { gauges })), &Said::text(shown), "status", parsed(shown));

    typed(Some(Body::Json("[1, 2]".into())), &Said::text("[1, 2]"), "data", json!([1, 2]));
    typed(Some(Body::Json("7".into())), &Said::text("7"), "data", json!(7));
    typed(Some(Body::Text("hi".into())), &Said::text("hi"), "text", json!("hi"));
    typed(Some(Body::Bytes("hi".into())), &Said::Binary(b"hi".to_vec()), "base64", json!("aGk="));
    typed(None, &Said::text(""), "text", json!(""));
}

#[test]
fn a_typed_events_own_time_is_shown() {
    let mut check = Check::new("");
    let event = Event { time_unix_ns: 5_999_999, body: Some(Body::Text("x".into())), ..Event::default() };
    check.feed.send(&[b"t", EVENT_MARKER, &event.encode_to_vec()]);
    assert_eq!(check.json.event()["time_ms"], 5);
}

/// What calls itself a typed event and is none is shown as it came.
#[test]
fn a_broken_typed_event_is_parts() {
    let mut check = Check::new("");
    let parts = json!([{"text": "trestle.v1.Event"}, {"base64": "/w=="}]);
    check.gives(
        &[b"t", EVENT_MARKER, b"\xff"],
        &Said::Binary(vec![0xff]),
        json!({"topic": "t", "parts": parts}),
    );
}

#[test]
fn what_is_not_recorded_has_no_position() {
    let feed = Feed::bound();
    let edge = TestEdge::start(&format!("--source {} --record jobs/", feed.endpoint));
    feed.wait_for("+jobs/");
    let mut client = Client::json(&edge, "/ws?topic=");
    feed.wait_for("+");
    feed.send(&["chat/1", "x"]);
    feed.send(&["jobs/1", "y"]);
    let (chat, job) = (client.event(), client.event());
    assert_eq!((&chat["topic"], chat.get("position")), (&json!("chat/1"), None));
    assert_eq!((&job["topic"], job["position"].is_string()), (&json!("jobs/1"), true));
}

/// `--source ALIAS=…` names a feed without topics, `--split` parts a single frame; the original client sees the frame
/// as the publisher sent it.
#[test]
fn alias_and_split_name_what_has_no_topic() {
    let (plain, aliased) = (Feed::bound(), Feed::bound());
    let flags = format!("--source {} --source eddn={} --split =\\x20", plain.endpoint, aliased.endpoint);
    let edge = TestEdge::start(&flags);
    [&plain, &aliased].into_iter().for_each(|feed| feed.wait_for("+"));
    let mut raw = Client::raw(&edge, "/?topic=10001&topic=eddn");
    let mut client = Client::json(&edge, "/ws?topic=10001&topic=eddn");
    let mut get = || {
        let (said, mut event) = (raw.next(), client.event());
        event.as_object_mut().unwrap().retain(|key, _| key != "position" && key != "time_ms");
        (said, event)
    };
    plain.send(&["20002 elsewhere"]);
    plain.send(&["10001 23 45"]);
    assert_eq!(get(), (Said::text("10001 23 45"), json!({"topic": "10001", "text": "23 45"})));
    plain.send(&["10001", "two frames"]);
    assert_eq!(get(), (Said::text("two frames"), json!({"topic": "10001", "text": "two frames"})));
    aliased.send(&["{\"a\": 1}"]);
    assert_eq!(get(), (Said::text("{\"a\": 1}"), json!({"topic": "eddn", "data": {"a": 1}})));
    aliased.send(&["10001", "b"]);
    let parts = json!([{"text": "10001"}, {"text": "b"}]);
    assert_eq!(get(), (Said::text("b"), json!({"topic": "eddn", "parts": parts})));
}
