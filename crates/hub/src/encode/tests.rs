//! Events and replies, sentence by sentence of the protocol's description.

use std::sync::Arc;

use prost::Message as _;
use trestle_messages::v1::event::Body as TypedBody;
use trestle_messages::v1::progress::State;
use trestle_messages::v1::{Event, Progress, Stamp, Status};
use trestle_messages::{EVENT_MARKER, Position};
use trestle_recorder::{Log, Segment, SegmentBuilder};

use super::*;
use crate::ErrorCode;

/// A log's segment with one message.
pub(super) fn segment(frames: &[&[u8]], stamp: Stamp) -> Arc<Segment> {
    let log = Log::new(0);
    let (mut cursor, mut segments) = (log.cursor(), Vec::new());
    let mut batch = SegmentBuilder::default();
    batch.push(frames.iter().copied(), stamp);
    log.append(&mut batch);
    log.read(&mut cursor, &mut segments).unwrap();
    segments.remove(0)
}

/// What stands between `{"event":{` and `}}`, the time left out.
fn json(frames: &[&[u8]], stamp: Stamp) -> String {
    let mut out = Vec::new();
    event(&segment(frames, stamp).message(0), &Decoders::default(), false, &mut out);
    let text = String::from_utf8(out).unwrap();
    let inner = text.strip_prefix("{\"event\":{").unwrap().strip_suffix("}}").unwrap();
    inner.replace("\"time_ms\":1790000000123,", "")
}

const TIME_UNIX_NS: u64 = 1_790_000_000_123_999_999;

fn unrecorded() -> Stamp {
    Stamp { epoch: 7, time_unix_ns: TIME_UNIX_NS, ..Stamp::default() }
}

fn typed(event: &Event) -> Vec<Vec<u8>> {
    vec![b"t".to_vec(), EVENT_MARKER.to_vec(), event.encode_to_vec()]
}

fn typed_json(body: Option<TypedBody>) -> String {
    let frames = typed(&Event { body, ..Event::default() });
    let text = json(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>(), unrecorded());
    text.strip_prefix("\"topic\":\"t\",").unwrap().to_owned()
}

#[test]
fn an_event_as_the_protocol_shows_it() {
    let position = Position { epoch: 7, offset: 42 };
    let stamp = Stamp { offset: 42, ..unrecorded() };
    let segment = segment(&[b"jobs/42", b"{ \"a\": 1 }"], stamp);
    let mut out = Vec::new();
    event(&segment.message(0), &Decoders::default(), false, &mut out);
    let expected = format!(
        r#"{{"event":{{"topic":"jobs/42","position":"{position}","time_ms":1790000000123,"data":{{ "a": 1 }}}}}}"#
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);

    let mut out = Vec::new();
    event(&segment.message(0), &Decoders::default(), true, &mut out);
    let expected = expected.replace(",\"data\"", ",\"snapshot\":true,\"data\"");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn plain_messages() {
    let alias = Stamp { original_frames: true, ..unrecorded() };
    let split = Stamp { body_start: 6, ..alias };
    for (frames, stamp, expected) in [
        (&[&b"t"[..], b"hi"][..], unrecorded(), r#""topic":"t","text":"hi""#),
        (&[b"t", b""], unrecorded(), r#""topic":"t","text":"""#),
        (&[b"", b"\xff\xfe\xfd\xfc"], unrecorded(), r#""topic":"","base64":"//79/A==""#),
        (&[b"alone"], unrecorded(), r#""text":"alone""#),
        (&[b"\xff"], unrecorded(), r#""base64":"/w==""#),
        (&[b"[1]"], unrecorded(), r#""data":[1]"#),
        (&[b"\xff\x00", b"x"], unrecorded(), r#""topic_base64":"/wA=","text":"x""#),
        (&[b"a\"\n", b"x"], unrecorded(), r#""topic":"a\"\n","text":"x""#),
        (
            &[b"t", b"{}", b"", b"\0", b"\"x\""],
            unrecorded(),
            r#""topic":"t","parts":[{"data":{}},{"text":""},{"base64":"AA=="},{"text":"\"x\""}]"#,
        ),
        (&[b"eddn", b"raw"], alias, r#""topic":"eddn","text":"raw""#),
        (&[b"eddn", b"a", b"b"], alias, r#""topic":"eddn","parts":[{"text":"a"},{"text":"b"}]"#),
        (&[b"10001", b"10001 23 45"], split, r#""topic":"10001","text":"23 45""#),
        (&[b"eddn"], alias, r#""topic":"eddn","text":"""#),
    ] {
        assert_eq!(json(frames, stamp), expected, "{frames:?}");
    }
}

#[test]
fn typed_events() {
    let progress =
        |done, total, state| Progress { job: "42".into(), done, total, unit: "files".into(), state };
    let status = |gauges: &[(&str, f64)]| {
        let gauges = gauges.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Some(TypedBody::Status(Status { gauges }))
    };
    let progressed = |done, total, state| Some(TypedBody::Progress(progress(done, total, state)));
    for (body, expected) in [
        (Some(TypedBody::Json("{\"a\":\n1}".into())), "\"data\":{\"a\":\n1}"),
        (Some(TypedBody::Json("1.50".into())), r#""data":1.50"#),
        (Some(TypedBody::Json("{a:1}".into())), r#""text":"{a:1}""#),
        (Some(TypedBody::Json(String::new())), r#""text":"""#),
        (Some(TypedBody::Text("{}\0".into())), r#""text":"{}\u0000""#),
        (Some(TypedBody::Bytes(Bytes::from_static(b"{}"))), r#""base64":"e30=""#),
        (
            progressed(3, 10, State::Started as i32),
            r#""progress":{"job":"42","done":3,"total":10,"unit":"files","state":"started"}"#,
        ),
        (
            progressed(1 << 53, (1 << 53) - 1, State::Failed as i32),
            r#""progress":{"job":"42","done":"9007199254740992","total":9007199254740991,"unit":"files","state":"failed"}"#,
        ),
        (
            progressed(0, 0, State::Done as i32),
            r#""progress":{"job":"42","done":0,"total":0,"unit":"files","state":"done"}"#,
        ),
        (
            progressed(0, 0, 99),
            r#""progress":{"job":"42","done":0,"total":0,"unit":"files","state":"running"}"#,
        ),
        (
            status(&[("b\"", f64::NAN), ("a", 1.5), ("c", f64::NEG_INFINITY)]),
            r#""status":{"gauges":{"a":1.5,"b\"":null,"c":null}}"#,
        ),
        (status(&[]), r#""status":{"gauges":{}}"#),
        (None, r#""text":"""#),
    ] {
        assert_eq!(typed_json(body), expected);
    }
}

#[test]
fn a_typed_event_adds_id_source_and_its_own_time() {
    let event = Event {
        id: "e\"1".into(),
        time_unix_ns: 5_999_999,
        source: "host".into(),
        body: Some(TypedBody::Text("x".into())),
    };
    let frames = typed(&event);
    let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
    let expected = r#""topic":"t","time_ms":5,"id":"e\"1","source":"host","text":"x""#;
    assert_eq!(json(&frames, unrecorded()), expected);
}

#[test]
fn what_is_almost_a_typed_event_is_plain() {
    let marker = r#""topic":"t","parts":[{"text":"trestle.v1.Event"}"#;
    for (frames, rest) in [
        (&[&b"t"[..], EVENT_MARKER, b"\xff"][..], r#",{"base64":"/w=="}]"#),
        (&[b"t", EVENT_MARKER, b"", b""], r#",{"text":""},{"text":""}]"#),
    ] {
        assert_eq!(json(frames, unrecorded()), format!("{marker}{rest}"));
        assert_eq!(&raw::frame(&segment(frames, unrecorded()).message(0))[2..], *frames.last().unwrap());
    }
    assert_eq!(json(&[b"t", EVENT_MARKER], unrecorded()), r#""topic":"t","text":"trestle.v1.Event""#);
    assert_eq!(
        json(&[EVENT_MARKER, b""], unrecorded()),
        r#""topic":"trestle.v1.Event","text":"""#,
        "the marker as a topic is a topic"
    );
}

#[test]
fn raw_frames_are_bodies_alone() {
    let text = |body: &[u8]| crate::ws::server_frame(crate::ws::Opcode::Text, body);
    let binary = |body: &[u8]| crate::ws::server_frame(crate::ws::Opcode::Binary, body);
    let alias = Stamp { original_frames: true, ..unrecorded() };
    let split = Stamp { body_start: 6, ..alias };
    for (frames, stamp, expected) in [
        (&[&b"t"[..], b"hi"][..], unrecorded(), text(b"hi")),
        (&[b"alone"], unrecorded(), text(b"alone")),
        (&[b"t", b"first", b"last\0"], unrecorded(), text(b"last\0")),
        (&[b"t", b"\xff"], unrecorded(), binary(b"\xff")),
        (&[b"t", b""], unrecorded(), text(b"")),
        (&[b"eddn", b"raw"], alias, text(b"raw")),
        (&[b"10001", b"10001 23 45"], split, text(b"10001 23 45")),
        (&[b"eddn"], alias, text(b"")),
    ] {
        assert_eq!(raw::frame(&segment(frames, stamp).message(0)), expected, "{frames:?}");
    }
    let progress = Progress { job: "j".into(), ..Progress::default() };
    for (body, expected) in [
        (Some(TypedBody::Json("{bad".into())), text(b"{bad")),
        (Some(TypedBody::Text("x".into())), text(b"x")),
        (Some(TypedBody::Bytes(Bytes::from_static(b"ascii"))), binary(b"ascii")),
        (
            Some(TypedBody::Progress(progress)),
            text(br#"{"job":"j","done":0,"total":0,"unit":"","state":"running"}"#),
        ),
        (Some(TypedBody::Status(Status::default())), text(br#"{"gauges":{}}"#)),
        (None, text(b"")),
    ] {
        let frames = typed(&Event { body, ..Event::default() });
        let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
        assert_eq!(raw::frame(&segment(&frames, unrecorded()).message(0)), expected);
    }
}

#[test]
fn a_frame_is_made_once_for_each_format() {
    let segment = segment(&[b"t", &[b'x'; 200]], unrecorded());
    let message = segment.message(0);
    let (raw, json) = (
        frame(&message, Format::Raw, &Decoders::default()),
        frame(&message, Format::Json, &Decoders::default()),
    );
    assert_eq!(&raw[..5], b"\x81\x7e\x00\xc8x");
    assert_eq!((json[0], json[1], &json[4..14]), (0x81, 0x7e, &b"{\"event\":{"[..]));
    assert_eq!(usize::from(u16::from_be_bytes([json[2], json[3]])), json.len() - 4);
    for format in [Format::Raw, Format::Json] {
        assert!(std::ptr::eq(
            frame(&message, format, &Decoders::default()),
            frame(&message, format, &Decoders::default())
        ));
    }
    assert_ne!(raw, json);
}

#[test]
fn the_servers_own_messages() {
    let position = Position { epoch: 1, offset: 2 };
    let topics = Topics::from_iter([&b"jobs/"[..]]);
    let subscribed = |topics, recovery| {
        let subscribed = Subscribed { topics, position: Some(position), recorded: Recorded::All, recovery };
        ServerMessage::Reply(Reply { id: Some(1), outcome: Outcome::Subscribed(subscribed) })
    };
    let lost = |cause, count| {
        ServerMessage::Lost(Lost {
            topics: topics.clone(),
            from: None,
            position: Some(position),
            cause,
            count,
        })
    };
    let unsubscribed = Unsubscribed { topics: Topics::from_iter([&b"\xff"[..]]) };
    let welcome = Welcome {
        session: "s\"1",
        position: None,
        heartbeat_ms: 25_000,
        expires_at: Some(1_790_000_000),
        stale: false,
    };
    for (message, expected) in [
        (
            ServerMessage::Welcome(welcome),
            r#"{"welcome":{"session":"s\"1","heartbeat_ms":25000,"expires_at":1790000000}}"#,
        ),
        (
            subscribed(topics.clone(), None),
            r#"{"reply":{"id":1,"subscribed":{"topics":["jobs/"],"position":"P","recorded":"all"}}}"#,
        ),
        (
            subscribed(Topics::from_iter([&b"a"[..], b"\xff\x00"]), Some(Recovery::Recovered)),
            r#"{"reply":{"id":1,"subscribed":{"topics":["a"],"topics_base64":["/wA="],"position":"P","recorded":"all","recovered":true}}}"#,
        ),
        (
            subscribed(topics.clone(), Some(Recovery::Failed(Unrecovered::HistoryTruncated))),
            r#"{"reply":{"id":1,"subscribed":{"topics":["jobs/"],"position":"P","recorded":"all","recovered":false,"reason":"history_truncated"}}}"#,
        ),
        (
            ServerMessage::Reply(Reply { id: Some(2), outcome: Outcome::Unsubscribed(unsubscribed) }),
            r#"{"reply":{"id":2,"unsubscribed":{"topics_base64":["/w=="]}}}"#,
        ),
        (
            ServerMessage::error(Some(2), ErrorCode::Forbidden, "no"),
            r#"{"reply":{"id":2,"error":{"code":"forbidden","reason":"no","retry":false}}}"#,
        ),
        (
            ServerMessage::error(None, ErrorCode::Unavailable, "later"),
            r#"{"reply":{"error":{"code":"unavailable","reason":"later","retry":true}}}"#,
        ),
        (
            ServerMessage::CaughtUp(CaughtUp { id: 1, position: Some(position), replayed: 12 }),
            r#"{"caught_up":{"id":1,"position":"P","replayed":12}}"#,
        ),
        (
            ServerMessage::Heartbeat(Heartbeat { position: Some(position), stale: false }),
            r#"{"heartbeat":{"position":"P"}}"#,
        ),
        (ServerMessage::Heartbeat(Heartbeat { position: None, stale: false }), r#"{"heartbeat":{}}"#),
        (
            ServerMessage::Heartbeat(Heartbeat { position: None, stale: true }),
            r#"{"heartbeat":{"stale":true}}"#,
        ),
        (
            lost(LostCause::SlowConsumer, Some(LostCount::Count(17))),
            r#"{"lost":{"topics":["jobs/"],"position":"P","cause":"slow_consumer","count":17}}"#,
        ),
        (
            lost(LostCause::LinkHole, Some(LostCount::AtMost(3))),
            r#"{"lost":{"topics":["jobs/"],"position":"P","cause":"link_hole","at_most":3}}"#,
        ),
        (
            lost(LostCause::EpochChanged, None),
            r#"{"lost":{"topics":["jobs/"],"position":"P","cause":"epoch_changed"}}"#,
        ),
        (
            ServerMessage::Goodbye(Goodbye {
                reason: GoodbyeReason::Restarting,
                reconnect_after_ms: Some(1834),
            }),
            r#"{"goodbye":{"reason":"restarting","reconnect_after_ms":1834}}"#,
        ),
    ] {
        let expected = expected.replace("\"P\"", &format!("\"{position}\""));
        assert_eq!(
            message.frame(crate::encode::Format::Json),
            crate::ws::server_frame(crate::ws::Opcode::Text, expected.as_bytes())
        );
    }
}
