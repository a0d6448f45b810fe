//! Commands in protobuf: what JSON takes and refuses, and what only bytes can have wrong.

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{Cardinality, Kind};
use serde_json::{Value, json};
use trestle_messages::Position;
use trestle_messages::v1::{ClientMessage, client_message as wire};

use super::super::command;
use super::command::{AUTHENTICATE, COMMANDS, ID, PUBLISH, SUBSCRIBE, UNSUBSCRIBE};
use super::wire::Known;
use super::{parse, twin};
use crate::ErrorCode::{self, BadRequest, InvalidTopic, UnknownCommand, UnknownField};

/// Checks that a command says the same in both formats, be it obeyed or refused.
#[track_caller]
fn check(json: &Value) {
    let bytes = twin::command(json).unwrap_or_else(|| panic!("{json} is not defined"));
    let (text, bytes) = (command::parse(&json.to_string()), parse(&bytes));
    match (text, bytes) {
        (Err(text), Err(bytes)) => {
            assert_eq!((text.id, text.code, text.unparsed), (bytes.id, bytes.code, bytes.unparsed), "{json}");
            assert!(bytes.reason.len() <= 400, "{bytes}");
        }
        (text, bytes) => assert_eq!(text, bytes, "{json}"),
    }
}

/// Checks that `bytes` are refused with `code` and a reason that names `named`.
#[track_caller]
fn check_refused(bytes: &[u8], id: Option<u64>, code: ErrorCode, named: &str) {
    let error = parse(bytes).unwrap_err();
    assert_eq!((error.id, error.code, error.unparsed), (id, code, false), "{}", error.reason);
    assert!(error.reason.contains(named), "{} does not name {named}", error.reason);
}

#[test]
fn each_command_is_as_in_json() {
    let since = Position { epoch: 3, offset: 9 }.to_string();
    for subscribe in [
        json!({"topics": [""]}),
        json!({"topics": ["jobs/", "a\"é"], "exact": true, "snapshot": true, "since": since, "policy": "conflate",
               "max_hz": 10}),
        json!({"topics_base64": ["/wA=", "/w"], "policy": "drop_oldest", "max_hz": 0.001}),
        json!({"topics": ["a"], "policy": "disconnect", "since": format!("CQ{}", "A".repeat(21))}),
        // Refused in both.
        json!({}),
        json!({"topics": []}),
        json!({"topics": ["x".repeat(256)]}),
        json!({"topics": ["\0trestle"]}),
        json!({"topics": ["a"], "since": "yesterday"}),
        json!({"topics": ["a"], "max_hz": 0}),
        json!({"topics": ["a"], "max_hz": 1001}),
    ] {
        check(&json!({"id": 7, "subscribe": subscribe}));
    }
    check(&json!({"id": 0, "unsubscribe": {"topics": ["jobs/"], "exact": false}}));
    check(&json!({"id": (1u64 << 53) - 1, "unsubscribe": {"topics_base64": ["/w"], "exact": true}}));
    check(&json!({"id": 1, "unsubscribe": {"exact": true}}));
    for publish in [
        json!({"topic": "a", "data": {"any": ["json", 1]}, "key": "k"}),
        json!({"topic": "", "data": "x"}),
        json!({"topic": "a", "text": ""}),
        json!({"topic_base64": "/w", "base64": "AAE"}),
        json!({"topic": "a", "parts": [{"text": "x"}, {"data": [1]}, {"base64": "AA=="}]}),
        // Refused in both.
        json!({"topic": "a"}),
        json!({"text": "a"}),
        json!({"topic": "a", "text": "x", "parts": [{"text": "x"}]}),
        json!({"topic": "a", "parts": []}),
        json!({"topic": "a", "parts": vec![json!({"text": ""}); 65]}),
        json!({"topic": "a", "text": "", "key": ""}),
        json!({"topic": "a", "text": "", "key": "k".repeat(65)}),
        json!({"topic": "x".repeat(256), "text": ""}),
        json!({"topic": "\0trestle", "text": ""}),
        json!({"topic": "a", "text": "", "qos": 1}),
    ] {
        check(&json!({"id": 7, "publish": publish}));
    }
    check(&json!({"id": 1, "authenticate": {"token": "x"}}));
    check(&json!({"id": 1, "authenticate": {"token": ""}}));
    check(&json!({"id": 1, "authenticate": {}}));
    check(&json!({"id": 1, "authenticate": {"token": "x", "password": "y"}}));
    check(&json!({"id": 1u64 << 53, "unsubscribe": {"topics": ["a"]}}));
    check(&json!({"unsubscribe": {"topics": ["a"]}}));
    check(&json!({"id": 1}));
    check(&json!({}));
}

/// `id` 1 and a subscription to `a`, without what follows.
const SUBSCRIBE_TO_A: &[u8] = b"\x08\x01\x12\x03\x0a\x01a";

#[test]
fn an_unknown_command_or_field_is_named_by_its_number() {
    parse(SUBSCRIBE_TO_A).unwrap();
    check_refused(
        b"\x08\x01\x4a\x00",
        Some(1),
        UnknownCommand,
        "unknown command 9; known are subscribe (2), unsub",
    );
    check_refused(&[SUBSCRIBE_TO_A, b"\x48\x01"].concat(), Some(1), UnknownField, "unknown field 9");
    let inside = b"\x08\x01\x12\x06\x0a\x01a\x98\x06\x01";
    check_refused(
        inside,
        Some(1),
        UnknownField,
        "unknown field 99 of `subscribe`; known are topics (1), exact (2)",
    );
    check_refused(
        b"\x08\x01\x1a\x05\x0a\x01a\x18\x01",
        Some(1),
        UnknownField,
        "unknown field 3 of `unsubscribe`",
    );
}

#[test]
fn what_is_of_the_wrong_type_is_named() {
    for (bytes, id, named) in [
        (&b"\x0a\x01\x01\x12\x03\x0a\x01a"[..], None, "field `id` must be a varint, not length-delimited"),
        (b"\x08\x01\x10\x01", Some(1), "field `subscribe` must be length-delimited, not a varint"),
        (
            b"\x08\x01\x12\x02\x08\x01",
            Some(1),
            "field `subscribe.topics` must be length-delimited, not a varint",
        ),
        (
            b"\x08\x01\x12\x05\x0a\x01a\x30\x01",
            Some(1),
            "field `subscribe.max_hz` must be 64 bits, not a varint",
        ),
        (b"\x08\x01\x12\x05\x0a\x01a\x28\x09", Some(1), "field `subscribe.policy` must be a Policy, not 9"),
        (b"\x08\x01\x12\x06\x0a\x01a\x22\x01\xff", Some(1), "since"),
    ] {
        check_refused(bytes, id, BadRequest, named);
    }
}

#[test]
fn nothing_is_there_twice() {
    check_refused(&[b"\x08\x02", SUBSCRIBE_TO_A].concat(), None, BadRequest, "field `id` is there twice");
    let again = [SUBSCRIBE_TO_A, &SUBSCRIBE_TO_A[2..]].concat();
    check_refused(&again, Some(1), BadRequest, "field `subscribe` is there twice");
    check_refused(
        b"\x08\x01\x12\x07\x0a\x01a\x10\x01\x10\x01",
        Some(1),
        BadRequest,
        "`subscribe.exact` is there twice",
    );
    let both = [SUBSCRIBE_TO_A, b"\x1a\x03\x0a\x01a"].concat();
    check_refused(&both, Some(1), BadRequest, "not both `subscribe` and `unsubscribe`");
    check_refused(b"\x08\x01\x12\x0b\x0a\x09\0trestle/", Some(1), InvalidTopic, "`subscribe.topics`");
}

#[test]
fn what_is_no_protobuf_is_told_apart() {
    for garbled in [
        &b"{\"id\":1,\"subscribe\":{\"topics\":[\"a\"]}}"[..],
        b"\x08",
        b"\x08\x01\x12\x04\x0a\x01a",
        b"\x00\x01",
        b"\x0b\x0c",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        // Inside the command.
        b"\x08\x01\x12\x03\x0a\x02a",
    ] {
        let error = parse(garbled).unwrap_err();
        assert_eq!((error.code, error.unparsed), (BadRequest, true), "{garbled:?}: {}", error.reason);
        assert!(error.reason.contains("protobuf"));
    }
    check_refused(b"", None, BadRequest, "`id` (1) is missing");
}

#[test]
fn data_must_be_json() {
    let publish = |data: &str| {
        let body = Some(wire::publish::Body::Data(data.to_owned()));
        let publish = wire::Publish { topic: Some("a".into()), body, ..wire::Publish::default() };
        ClientMessage { id: Some(1), command: Some(wire::Command::Publish(publish)) }.encode_to_vec()
    };
    parse(&publish(" {\"a\": 1e400} ")).unwrap();
    check_refused(&publish("{a:1}"), Some(1), BadRequest, "`publish.data` must be a JSON text");
    let nested = |levels: usize| publish(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    parse(&nested(128)).unwrap();
    check_refused(&nested(129), Some(1), BadRequest, "`publish.data` must be nested at most 128 deep");
}

#[test]
fn the_tables_are_what_is_defined() {
    let id = [ID];
    let top = id.iter().chain(&COMMANDS);
    for (name, known) in [
        ("ClientMessage", top.collect::<Vec<_>>()),
        ("ClientMessage.Subscribe", SUBSCRIBE.iter().collect()),
        ("ClientMessage.Unsubscribe", UNSUBSCRIBE.iter().collect()),
        ("ClientMessage.Publish", PUBLISH.iter().collect()),
        ("ClientMessage.Authenticate", AUTHENTICATE.iter().collect()),
    ] {
        let definition = twin::definition(name);
        let defined = definition.fields().map(|field| {
            let wire_type = match field.kind() {
                Kind::Double => 1,
                Kind::Bool | Kind::Uint64 | Kind::Enum(_) => 0,
                _ => 2,
            };
            let repeated = field.cardinality() == Cardinality::Repeated;
            (field.number(), field.name().to_owned(), wire_type, repeated)
        });
        let of =
            |known: &&Known| (known.number, known.name.to_owned(), known.wire_type as i32, known.repeated);
        let mut known: Vec<_> = known.iter().map(of).collect();
        known.sort();
        let mut defined: Vec<_> = defined.collect();
        defined.sort();
        assert_eq!(known, defined, "{name}");
    }
}

proptest! {
    #[test]
    fn anything_is_a_command_or_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
    }

    /// A library may write fields in any order, and what is cut or changed anywhere is never taken for something else.
    #[test]
    fn damage_never_panics(
        topics in proptest::collection::vec(".{0,9}", 1..4), exact: bool, max_hz in 0.001..1000.0f64,
        cut in 0..80usize, flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let subscribe = wire::Subscribe {
            topics: topics.iter().map(|topic| topic.clone().into()).collect(), exact, max_hz: Some(max_hz),
            ..wire::Subscribe::default()
        };
        let command = Some(wire::Command::Subscribe(subscribe));
        let bytes = ClientMessage { id: Some(5), command }.encode_to_vec();
        let said = parse(&bytes).unwrap();
        prop_assert_eq!(said.id, 5);
        if cut < bytes.len() {
            prop_assert!(parse(&bytes[..cut]).is_err());
        }
        let mut changed = bytes;
        let at = flip.0.index(changed.len());
        changed[at] ^= flip.1;
        let _ = parse(&changed);
    }
}
