//! Commands, sentence by sentence of the protocol's description.

use std::time::Duration;

use proptest::prelude::*;
use trestle_messages::Position;
use trestle_messages::topic::TOPIC_BYTES_MAX;

use super::*;
use crate::ErrorCode;
use ErrorCode::{BadRequest, InvalidTopic, UnknownCommand, UnknownField};

/// The command of a message with id 1.
fn kind(command: &str) -> CommandKind {
    let command = parse(&format!("{{\"id\":1,{command}}}")).unwrap();
    assert_eq!(command.id, 1);
    command.kind
}

/// Checks that `text` is refused with `code` and a reason that names `named`.
fn check_refused(text: &str, id: Option<u64>, code: ErrorCode, named: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!((error.id, error.code, error.unparsed), (id, code, false), "{text}: {}", error.reason);
    assert!(error.reason.contains(named), "{text}: {} does not name {named}", error.reason);
    assert!(error.reason.len() <= 400, "{text}: {}", error.reason);
}

#[test]
fn a_subscription_with_every_option() {
    let position = Position { epoch: 3, offset: 9 };
    let text = format!(
        r#" {{ "subscribe" : {{"topics":["jobs/","a\"é"],"topics_base64":["/wA=","/wA"],"exact":true,"snapshot":true,
            "since":"{position}","policy":"conflate","max_hz":10}}, "id" : 9007199254740991 }} "#
    );
    let subscribe = Subscribe {
        topics: vec![b"jobs/".to_vec(), "a\"é".into(), b"\xff\0".to_vec(), b"\xff\0".to_vec()],
        exact: true,
        snapshot: true,
        since: Some(Since::Position(position)),
        policy: Policy::Conflate,
        interval_min: Some(Duration::from_millis(100)),
    };
    assert_eq!(parse(&text), Ok(Command { id: ID_MAX, kind: CommandKind::Subscribe(subscribe) }));
}

#[test]
fn a_subscription_without_options() {
    let subscribe = Subscribe { topics: vec![vec![]], ..Subscribe::default() };
    assert_eq!(subscribe.policy, Policy::Disconnect);
    assert_eq!(kind(r#""subscribe":{"topics":[""]}"#), CommandKind::Subscribe(subscribe));
}

#[test]
fn the_other_commands() {
    let unsubscribe = Unsubscribe { topics: vec![b"jobs/".to_vec()], exact: false };
    assert_eq!(
        kind(r#""unsubscribe":{"topics":["jobs/"],"exact":false}"#),
        CommandKind::Unsubscribe(unsubscribe)
    );
    let exact = Unsubscribe { topics: vec![vec![0xff]], exact: true };
    assert_eq!(
        kind(r#""unsubscribe":{"topics_base64":["/w"],"exact":true}"#),
        CommandKind::Unsubscribe(exact)
    );
    let CommandKind::Authenticate(token) = kind(r#""authenticate":{"token":"se\u0063ret"}"#) else {
        panic!()
    };
    assert_eq!(token.as_str(), "secret");
    assert!(!format!("{token:?}").contains("secret"), "a log may show a command");
}

#[test]
fn policies_and_rates() {
    let options = |options: &str| match kind(&format!(r#""subscribe":{{"topics":["a"],{options}}}"#)) {
        CommandKind::Subscribe(subscribe) => (subscribe.policy, subscribe.interval_min),
        other => panic!("{other:?}"),
    };
    assert_eq!(options(r#""policy":"disconnect""#), (Policy::Disconnect, None));
    assert_eq!(options(r#""policy":"drop_oldest""#), (Policy::DropOldest, None));
    assert_eq!(options(r#""max_hz":0.5"#).1, Some(Duration::from_secs(2)));
    assert_eq!(options(r#""max_hz":1e3"#).1, Some(Duration::from_millis(1)));
    assert_eq!(options(r#""max_hz":0.001"#).1, Some(Duration::from_secs(1000)));
}

#[test]
fn a_position_of_another_release_is_unknown_not_wrong() {
    let since = format!("\"CQ{}\"", "A".repeat(21));
    match kind(&format!(r#""subscribe":{{"topics":["a"],"since":{since}}}"#)) {
        CommandKind::Subscribe(subscribe) => assert_eq!(subscribe.since, Some(Since::Unknown)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_json_is_told_apart() {
    for text in ["", " ", "hello", "{", "{\"id\":1,}", "{} {}", "\u{feff}{}", "{\"id\":01}", "{\"a\":\"\n\"}"]
    {
        let error = parse(text).expect_err(text);
        assert_eq!((error.id, error.code, error.unparsed), (None, BadRequest, true), "{text}");
        assert!(error.reason.contains("JSON"));
    }
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    check_refused(&deep, None, BadRequest, "an object, not an array");
    assert!(parse(&deep[1..]).unwrap_err().unparsed);
}

#[test]
fn an_id_is_an_integer_that_javascript_can_echo() {
    for (id, ok) in [
        ("0", true),
        ("9007199254740991", true),
        ("9007199254740992", false),
        ("-1", false),
        ("1.0", false),
        ("1e3", false),
        ("\"1\"", false),
        ("null", false),
        ("[1]", false),
        ("99999999999999999999", false),
    ] {
        let text = format!(r#"{{"id":{id},"unsubscribe":{{"topics":["a"]}}}}"#);
        match ok {
            true => assert_eq!(parse(&text).unwrap().id.to_string(), id),
            false => check_refused(&text, None, BadRequest, "`id` must be an integer"),
        }
    }
    check_refused(r#"{"subscribe":{"topics":["a"]}}"#, None, BadRequest, "`id` is missing");
    check_refused(r#"{"id":1,"id":1,"publish":{}}"#, None, BadRequest, "`id` is there twice");
}

#[test]
fn a_message_is_an_object_with_one_command() {
    for (text, found) in [("[]", "an array"), ("1", "a number"), ("\"x\"", "a string"), ("null", "null")] {
        check_refused(text, None, BadRequest, found);
    }
    check_refused(r#"{"id":7}"#, Some(7), BadRequest, "a command is missing: subscribe, unsubscribe");
    check_refused(
        r#"{"id":7,"subscribe":{},"publish":{}}"#,
        Some(7),
        BadRequest,
        "`subscribe` and `publish`",
    );
    check_refused(
        r#"{"subscribe":[],"id":7}"#,
        Some(7),
        BadRequest,
        "`subscribe` must be an object, not an array",
    );
    check_refused(
        r#"{"publish":1,"id":7}"#,
        Some(7),
        BadRequest,
        "`publish` must be an object, not a number",
    );
    check_refused(r#"{"authenticate":null,"id":7}"#, Some(7), BadRequest, "`authenticate` must be an object");
}

#[test]
fn unknown_commands_and_fields_are_named() {
    check_refused(r#"{"id":7,"subscibe":{"topics":["a"]}}"#, Some(7), UnknownCommand, "`subscibe`");
    check_refused(r#"{"id":7,"Subscribe":{}}"#, Some(7), UnknownCommand, "`Subscribe`");
    check_refused(r#"{"id":7,"subscribe":{},"qos":1}"#, Some(7), UnknownField, "`qos`");
    check_refused(
        r#"{"id":7,"subscribe":{"topic":"a"}}"#,
        Some(7),
        UnknownField,
        "`subscribe.topic`; known are topics,",
    );
    check_refused(
        r#"{"id":7,"unsubscribe":{"snapshot":true}}"#,
        Some(7),
        UnknownField,
        "`unsubscribe.snapshot`",
    );
    let long = format!(r#"{{"id":7,"{}":1}}"#, "é".repeat(30_000));
    check_refused(&long, Some(7), UnknownCommand, "éé…`");
}

#[test]
fn wrong_types_name_the_field_and_what_is_expected() {
    for (field, named) in [
        (r#""topics":"a""#, "`subscribe.topics` must be an array of strings, not a string"),
        (r#""topics":["a",1]"#, "`subscribe.topics` must be an array of strings; it holds a number"),
        (r#""topics":["\ud800"]"#, "it holds a string that is no Unicode text"),
        (
            r#""topics_base64":[{}]"#,
            "`subscribe.topics_base64` must be an array of strings; it holds an object",
        ),
        (r#""topics_base64":["a b"]"#, "`subscribe.topics_base64` must hold base64, not `a b`"),
        (r#""topics_base64":["A"]"#, "not `A`"),
        (r#""exact":"yes""#, "`subscribe.exact` must be true or false, not a string"),
        (r#""snapshot":1"#, "`subscribe.snapshot` must be true or false, not a number"),
        (r#""since":5"#, "`subscribe.since` must be a position as the server gave it, not a number"),
        (r#""since":"zzz""#, "`subscribe.since` must be a position as the server gave it"),
        (r#""policy":"drop""#, r#"must be one of "disconnect", "drop_oldest" and "conflate", not `drop`"#),
        (r#""policy":null"#, "`subscribe.policy` must be one of"),
        (r#""max_hz":"10""#, "`subscribe.max_hz` must be a number from 0.001 to 1000, not a string"),
        (r#""max_hz":0"#, "must be a number from 0.001 to 1000"),
        (r#""max_hz":-1"#, "must be a number from"),
        (r#""max_hz":1e999"#, "must be a number from"),
        (r#""exact":true,"exact":true"#, "`subscribe.exact` is there twice"),
        (r#""\udc00":true"#, "`subscribe` has a field name that is no Unicode text"),
    ] {
        check_refused(&format!(r#"{{"id":1,"subscribe":{{{field}}}}}"#), Some(1), BadRequest, named);
    }
    for command in ["subscribe", "unsubscribe"] {
        for empty in ["", "\"topics\":[]", "\"exact\":true"] {
            let text = format!(r#"{{"id":1,"{command}":{{{empty}}}}}"#);
            check_refused(&text, Some(1), BadRequest, &format!("`{command}` names no topic"));
        }
    }
}

#[test]
fn topics_are_short_and_not_reserved() {
    let longest = "é".repeat(127) + "x";
    assert_eq!(longest.len(), TOPIC_BYTES_MAX);
    let expected = Unsubscribe { topics: vec![longest.clone().into()], exact: false };
    assert_eq!(
        kind(&format!(r#""unsubscribe":{{"topics":["{longest}"]}}"#)),
        CommandKind::Unsubscribe(expected)
    );
    for (topics, named) in [
        (format!(r#""topics":["ok","{longest}y"]"#), "256 bytes, at most 255"),
        (format!(r#""topics_base64":["{}"]"#, "AAAA".repeat(86)), "258 bytes"),
        (r#""topics":["\u0000trestle"]"#.to_owned(), "reserved"),
        (r#""topics":["\u0000trestle/x"]"#.to_owned(), "reserved"),
        (r#""topics_base64":["AHRyZXN0bGU="]"#.to_owned(), "reserved"),
    ] {
        for command in ["subscribe", "unsubscribe"] {
            check_refused(&format!(r#"{{"id":1,"{command}":{{{topics}}}}}"#), Some(1), InvalidTopic, named);
        }
    }
}

#[test]
fn a_refusal_makes_its_reply() {
    let error = parse(r#"{"id":7,"x":1}"#).unwrap_err();
    let frame = error.reply().frame(crate::encode::Format::Json);
    let value: serde_json::Value = serde_json::from_slice(&frame[4..]).unwrap();
    assert_eq!(value["reply"]["id"], 7);
    assert_eq!(value["reply"]["error"]["code"], "unknown_command");
    assert_eq!(value["reply"]["error"]["reason"], error.reason);
    assert_eq!(value["reply"]["error"]["retry"], false);
}

/// Pieces of commands, so that random joins are nearly right.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"id\":",
        "1",
        "\"subscribe\":",
        "\"unsubscribe\":",
        "\"topics\":",
        "\"a\"",
        "\"exact\":",
        "true",
        "null",
        "\"since\":",
        "\"max_hz\":",
        "-1e5",
        "\"\\ud800\"",
        "\"é",
        "\"",
        " ",
    ]);
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_or_understood(text in prop_oneof![".{0,60}", pieces()]) {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        match parse(&text) {
            Ok(command) => prop_assert!(is_json && command.id <= ID_MAX),
            Err(error) => {
                prop_assert_eq!(error.unparsed, !is_json);
                prop_assert!(!error.reason.is_empty() && error.reason.len() < 400);
            }
        }
    }

    /// What a client writes with an ordinary JSON library arrives as it was meant.
    #[test]
    fn subscriptions_arrive_as_written(
        id in 0..=ID_MAX, topics in proptest::collection::vec(".{0,20}", 1..5), exact: bool, snapshot: bool,
    ) {
        prop_assume!(topics.iter().all(|topic| !topic.starts_with("\0trestle")));
        let text = serde_json::json!({
            "id": id, "subscribe": {"topics": topics, "exact": exact, "snapshot": snapshot}
        });
        let topics = topics.into_iter().map(String::into_bytes).collect();
        let subscribe = Subscribe { topics, exact, snapshot, ..Subscribe::default() };
        prop_assert_eq!(parse(&text.to_string()), Ok(Command { id, kind: CommandKind::Subscribe(subscribe) }));
    }
}
