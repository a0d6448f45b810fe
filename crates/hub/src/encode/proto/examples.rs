//! `docs/protocol.md` says what is so: each example goes through both formats, each table is the code's.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor};
use serde_json::Value;
use trestle_messages::v1::progress::State;
use trestle_messages::v1::{Event, Progress, Stamp, Status, event::Body};
use trestle_messages::{EVENT_MARKER, Position};
use trestle_recorder::Segment;

use super::super::reply::*;
use super::super::tests::segment;
use super::super::{Format, command, event as json_event};
use super::{event, parse, twin};
use crate::ErrorCode;
use crate::decode::Decoders;
use crate::ws::CloseCode;

const DOCUMENT: &str = include_str!("../../../../../docs/protocol.md");

const AT: Position = Position { epoch: 7, offset: 42 };
const LATER: Position = Position { epoch: 7, offset: 54 };

/// The lines of its blocks of JSON.
fn examples() -> Vec<&'static str> {
    let blocks = DOCUMENT.split("```json\n").skip(1);
    blocks.flat_map(|block| block.split("```").next().expect("a block ends").lines()).collect()
}

/// The rows of the table behind a heading, its head left out.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = DOCUMENT.split_once(&format!("# {heading}\n")).expect(heading);
    let rows =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect()
}

fn own_messages() -> Vec<ServerMessage<'static>> {
    let topics = |topics: &[&'static [u8]]| Topics::from_iter(topics.iter().copied());
    let (jobs, job, other) = (&b"jobs/"[..], &b"jobs/42"[..], &b"\xff\0"[..]);
    let reply = |id, outcome| ServerMessage::Reply(Reply { id: Some(id), outcome });
    let subscribed = |topics, recorded, recovery| {
        Outcome::Subscribed(Subscribed { topics, position: Some(AT), recorded, recovery })
    };
    let truncated = Some(Recovery::Failed(Unrecovered::HistoryTruncated));
    let lost = |topics, cause, count| {
        ServerMessage::Lost(Lost { topics, from: Some(AT), position: Some(LATER), cause, count: Some(count) })
    };
    let welcome = |session, position, expires_at, stale| {
        ServerMessage::Welcome(Welcome { session, position, heartbeat_ms: 25_000, expires_at, stale })
    };
    let ended = vec![
        Ended { topics: topics(&[jobs, other]), exact: false },
        Ended { topics: topics(&[job]), exact: true },
    ];
    let goodbye = |reason, reconnect_after_ms| ServerMessage::Goodbye(Goodbye { reason, reconnect_after_ms });
    vec![
        welcome("edge-1-7", Some(AT), None, false),
        welcome("edge-1-8", None, Some(1_790_000_000), true),
        reply(1, subscribed(topics(&[jobs]), Recorded::All, None)),
        reply(2, subscribed(topics(&[job, other]), Recorded::Some, Some(Recovery::Recovered))),
        reply(2, subscribed(topics(&[job]), Recorded::All, truncated)),
        reply(3, Outcome::Unsubscribed(Unsubscribed { topics: topics(&[job, other]) })),
        reply(4, Outcome::Published(Published { position: Some(AT) })),
        reply(5, Outcome::Published(Published { position: None })),
        reply(8, Outcome::Authenticated(Authenticated { expires_at: Some(1_790_000_600), ended: vec![] })),
        reply(9, Outcome::Authenticated(Authenticated { expires_at: None, ended })),
        ServerMessage::error(Some(4), ErrorCode::Forbidden, "publishing is not allowed here"),
        ServerMessage::error(Some(5), ErrorCode::Unavailable, "the forwarder is away"),
        ServerMessage::error(None, ErrorCode::BadRequest, "field `id` is missing"),
        ServerMessage::CaughtUp(CaughtUp { id: 2, position: Some(LATER), replayed: 12 }),
        ServerMessage::Heartbeat(Heartbeat { position: Some(AT), stale: false }),
        ServerMessage::Heartbeat(Heartbeat { position: Some(AT), stale: true }),
        lost(topics(&[jobs]), LostCause::SlowConsumer, LostCount::Count(17)),
        lost(topics(&[jobs, other]), LostCause::LinkHole, LostCount::AtMost(3)),
        goodbye(GoodbyeReason::Restarting, Some(1834)),
        goodbye(GoodbyeReason::TokenExpired, Some(30_000)),
        goodbye(GoodbyeReason::Disconnected, None),
    ]
}

fn messages() -> Vec<(Arc<Segment>, bool)> {
    let unrecorded = Stamp { epoch: 7, time_unix_ns: 1_790_000_000_123_000_000, ..Stamp::default() };
    let recorded = Stamp { offset: 42, ..unrecorded };
    let typed = |topic: &[u8], id: &str, source: &str, body| {
        let event = Event { id: id.into(), source: source.into(), body: Some(body), time_unix_ns: 0 };
        (segment(&[topic, EVENT_MARKER, &event.encode_to_vec()], unrecorded), false)
    };
    let progress =
        Progress { job: "42".into(), done: 3, total: 10, unit: "files".into(), state: State::Running.into() };
    let gauges = [("cpu.percent".to_owned(), 12.5)].into();
    vec![
        (segment(&[b"jobs/42", b"{\"step\":3}"], recorded), false),
        (segment(&[b"chat/7", b"hello"], recorded), true),
        (segment(&[b"\xff\0", b"\0\x01\x02"], unrecorded), false),
        (segment(&[b"rawtx", b"\0\x01\x02", b"more", b"[1]"], unrecorded), false),
        typed(b"jobs/42", "e1", "host-1", Body::Progress(progress)),
        typed(b"hosts/1", "", "host-1", Body::Status(Status { gauges })),
        typed(b"jobs/42", "", "", Body::Json("7".into())),
        typed(b"jobs/42", "", "", Body::Text("done".into())),
    ]
}

/// What follows a server frame's header (RFC 6455 §5.2).
fn payload(frame: &[u8]) -> &[u8] {
    &frame[if frame[1] == 126 { 4 } else { 2 }..]
}

/// Each message of the server that the document shows: its JSON, and its protobuf.
fn said() -> Vec<(String, Vec<u8>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let own = own_messages().into_iter().map(|message| {
        let (json, proto) = (message.frame(Format::Json), message.frame(Format::Proto));
        (text(payload(&json)), payload(&proto).to_vec())
    });
    let events = messages().into_iter().map(|(segment, snapshot)| {
        let mut json = Vec::new();
        json_event(&segment.message(0), &Decoders::default(), snapshot, &mut json);
        (text(&json), event::payload(&segment.message(0), snapshot))
    });
    own.chain(events).collect()
}

#[test]
fn what_the_server_says_is_as_the_examples_show() {
    let said = said();
    let shown: BTreeSet<_> = examples().into_iter().filter(|line| !line.starts_with("{\"id\"")).collect();
    assert_eq!(said.iter().map(|(json, _)| &**json).collect::<BTreeSet<_>>(), shown);
    for (json, proto) in said {
        assert_eq!(twin::json(&proto), serde_json::from_str::<Value>(&json).unwrap());
    }
}

#[test]
fn the_examples_of_commands_are_taken_in_both_formats() {
    let commands: Vec<_> = examples().into_iter().filter(|line| line.starts_with("{\"id\"")).collect();
    assert!(!commands.is_empty());
    for text in commands {
        let bytes = twin::command(&serde_json::from_str(text).unwrap()).expect(text);
        assert_eq!(command::parse(text).expect(text), parse(&bytes).expect(text));
    }
}

/// Fields that are set somewhere in a message, as `Message.field`.
fn note(message: &DynamicMessage, seen: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        seen.insert(field.full_name().to_owned());
        twin::messages(value).for_each(|inner| note(inner, seen));
    }
}

fn all_fields(message: &MessageDescriptor, found: &mut BTreeSet<String>) {
    for field in message.fields() {
        if found.insert(field.full_name().to_owned())
            && let (Kind::Message(inner), false) = (field.kind(), field.is_map())
        {
            all_fields(&inner, found);
        }
    }
}

#[test]
fn there_is_an_example_of_every_field() {
    let (mut seen, mut defined) = (BTreeSet::new(), BTreeSet::new());
    for (_, proto) in said() {
        note(&twin::read(&proto), &mut seen);
    }
    for text in examples().into_iter().filter(|line| line.starts_with("{\"id\"")) {
        let command = twin::command(&serde_json::from_str(text).unwrap()).unwrap();
        note(&DynamicMessage::decode(twin::definition("ClientMessage"), &command[..]).unwrap(), &mut seen);
    }
    all_fields(&twin::definition("ClientMessage"), &mut defined);
    all_fields(&twin::definition("ServerMessage"), &mut defined);
    let missing: Vec<_> = defined.difference(&seen).collect();
    assert!(missing.is_empty(), "no example has {missing:?}");
}

#[test]
fn the_tables_have_every_word() {
    for (heading, message, words) in [
        ("Policies", "ClientMessage", "Policy"),
        ("Recorded", "ServerMessage", "Recorded"),
        ("Reasons why nothing is resumed", "ServerMessage", "Unrecovered"),
        ("Error codes", "ServerMessage", "ErrorCode"),
        ("Lost causes", "ServerMessage", "LostCause"),
        ("Goodbye reasons", "ServerMessage", "GoodbyeReason"),
    ] {
        let message = twin::definition(message);
        let words = message.child_enums().find(|defined| defined.name() == words).expect(words);
        let defined: Vec<_> = words.values().filter(|value| value.number() != 0).collect();
        let defined: Vec<_> = defined.iter().map(|value| twin::word(&words, value.number())).collect();
        let shown: Vec<_> = table(heading).into_iter().map(|row| row[0]).collect();
        assert_eq!(shown, defined, "{heading}");
    }
}

#[test]
fn the_tables_of_codes_are_the_codes() {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let codes = ErrorCode::ALL.map(|code| {
        let close = code.close_code().map_or("–".to_owned(), |close| close.value().to_string());
        vec![code.as_str().to_owned(), code.text().to_owned(), yes(code.retry()).to_owned(), close]
    });
    assert_eq!(table("Error codes"), codes);
    let codes = CloseCode::ALL.map(|code| {
        vec![code.value().to_string(), code.reason().to_owned(), yes(code.may_reconnect()).to_owned()]
    });
    assert_eq!(table("Close codes"), codes);
}

/// Every word that the code has stands in the definition under the same name.
#[test]
fn every_reason_has_its_twin() {
    let check = |message: ServerMessage<'_>| {
        let (json, proto) = (message.frame(Format::Json), message.frame(Format::Proto));
        let json: Value = serde_json::from_slice(payload(&json)).unwrap();
        assert_eq!(twin::json(payload(&proto)), json);
    };
    ErrorCode::ALL.into_iter().for_each(|code| check(ServerMessage::error(Some(1), code, code.text())));
    for cause in
        [LostCause::SlowConsumer, LostCause::LinkHole, LostCause::EpochChanged, LostCause::ShardOverrun]
    {
        let (topics, from, position) = (Topics::default(), None, None);
        check(ServerMessage::Lost(Lost { topics, from, position, cause, count: None }));
    }
    for reason in [
        GoodbyeReason::Restarting,
        GoodbyeReason::Draining,
        GoodbyeReason::TokenExpired,
        GoodbyeReason::Disconnected,
    ] {
        check(ServerMessage::Goodbye(Goodbye { reason, reconnect_after_ms: None }));
    }
    for reason in [
        Unrecovered::HistoryTruncated,
        Unrecovered::EpochChanged,
        Unrecovered::NotRecorded,
        Unrecovered::UnknownPosition,
    ] {
        for recorded in [Recorded::All, Recorded::Some, Recorded::None] {
            let (topics, recovery) = (Topics::default(), Some(Recovery::Failed(reason)));
            let outcome = Outcome::Subscribed(Subscribed { topics, position: None, recorded, recovery });
            check(ServerMessage::Reply(Reply { id: None, outcome }));
        }
    }
}
