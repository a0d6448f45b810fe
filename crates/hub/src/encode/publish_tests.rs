//! Publications, sentence by sentence of the protocol's description.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::ErrorCode::{self, BadRequest, InvalidTopic, TooLarge, UnknownField};

fn parsed(publish: &str) -> Result<Publish, CommandError> {
    match parse(&format!(r#"{{"id":1,"publish":{publish}}}"#))?.kind {
        CommandKind::Publish(publish) => Ok(publish),
        other => panic!("{other:?}"),
    }
}

fn published(topic: &[u8], body: &[&[u8]], key: Option<&str>) -> Publish {
    let body = body.iter().map(|frame| frame.to_vec()).collect();
    Publish { topic: topic.to_vec(), body, key: key.map(str::to_owned) }
}

#[test]
fn each_kind_of_body() {
    for (json, expected) in [
        (r#"{"topic":"chat/7","text":"héllo\n"}"#, published(b"chat/7", &["héllo\n".as_bytes()], None)),
        (r#"{"topic":"","text":""}"#, published(b"", &[b""], None)),
        (r#"{"topic_base64":"/wA","base64":"AAEC"}"#, published(b"\xff\0", &[b"\0\x01\x02"], None)),
        (
            r#"{"key":"k","topic":"a","parts":[{"text":"a"},{"data": [1, 2] },{"base64":""}]}"#,
            published(b"a", &[b"a", b"[1, 2]", b""], Some("k")),
        ),
        // The sender's text, with its white space, numbers and escapes.
        (
            r#"{"topic":"a","data": {"a" : 1.50e400, "b":"\u00e9"} }"#,
            published(b"a", &[br#"{"a" : 1.50e400, "b":"\u00e9"}"#], None),
        ),
        (r#"{"topic":"a","data":null}"#, published(b"a", &[b"null"], None)),
    ] {
        assert_eq!(parsed(json), Ok(expected), "{json}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let refused: [(&str, ErrorCode, &str); 17] = [
        (r#"{"topic":"a"}"#, BadRequest, "exactly one of data, text, base64, parts, not none"),
        (r#"{"text":"a"}"#, BadRequest, "exactly one of topic, topic_base64, not none"),
        (r#"{"topic":"a","text":"","data":1}"#, BadRequest, "not both `publish.text` and `publish.data`"),
        (r#"{"topic":"a","topic_base64":"","text":""}"#, BadRequest, "not both `publish.topic` and"),
        (r#"{"topic":1,"text":""}"#, BadRequest, "`publish.topic` must be a string, not a number"),
        (r#"{"topic":"a","text":{}}"#, BadRequest, "`publish.text` must be a string, not an object"),
        (r#"{"topic":"a","text":"\ud800"}"#, BadRequest, "no Unicode text"),
        (r#"{"topic":"a","base64":"a b"}"#, BadRequest, "`publish.base64` must hold base64"),
        (r#"{"topic":"a","parts":"a"}"#, BadRequest, "`publish.parts` must be an array of objects"),
        (r#"{"topic":"a","parts":[]}"#, BadRequest, "`publish.parts` must have a part"),
        (r#"{"topic":"a","parts":["a"]}"#, BadRequest, "`publish.parts` must be an object, not a string"),
        (r#"{"topic":"a","parts":[{}]}"#, BadRequest, "`publish.parts` has exactly one of"),
        (r#"{"topic":"a","parts":[{"text":"a","mime":"b"}]}"#, UnknownField, "`publish.parts.mime`"),
        (r#"{"topic":"a","text":"","qos":1}"#, UnknownField, "`publish.qos`; known are topic,"),
        (r#"{"topic":"a","text":"","key":""}"#, BadRequest, "`publish.key` must have 1 to 64 bytes, not 0"),
        (r#"{"topic":"a","text":"","key":null}"#, BadRequest, "`publish.key` must be a string"),
        (r#"{"topic":"\u0000trestle/x","text":""}"#, InvalidTopic, "reserved"),
    ];
    let many = json!({"topic": "a", "parts": vec![json!({"text": ""}); PARTS_MAX + 1]}).to_string();
    let long_topic = json!({"topic": "x".repeat(256), "text": ""}).to_string();
    let long_key = json!({"topic": "x", "text": "", "key": "é".repeat(33)}).to_string();
    let bounds = [
        (&many[..], TooLarge, "65 parts, at most 64"),
        (&long_topic, InvalidTopic, "256 bytes"),
        (&long_key, BadRequest, "not 66"),
    ];
    for (json, code, named) in refused.into_iter().chain(bounds) {
        let error = parsed(json).expect_err(json);
        assert_eq!((error.id, error.code, error.unparsed), (Some(1), code, false), "{json}: {error}");
        assert!(error.reason.contains(named), "{json}: {} does not name {named}", error.reason);
        assert!(error.reason.len() <= 400);
    }
}

/// serde_json skips values of any depth without recursion; those who are to read them may recurse.
#[test]
fn data_is_as_deep_as_events_may_have_it() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for publish in [r#"{"topic":"a","data":DATA}"#, r#"{"topic":"a","parts":[{"text":""},{"data":DATA}]}"#] {
        let parsed = |levels: usize| parsed(&publish.replace("DATA", &nested(levels)));
        assert_eq!(parsed(128).unwrap().body.last(), Some(&nested(128).into_bytes()));
        for levels in [129, 30_000] {
            let error = parsed(levels).unwrap_err();
            assert_eq!((error.code, error.unparsed), (BadRequest, false));
            assert!(error.reason.ends_with(".data` must be nested at most 128 deep"), "{error}");
        }
    }
}

proptest! {
    /// What a client writes with an ordinary JSON library arrives as it was meant, and `data` byte for byte.
    #[test]
    fn publications_arrive_as_written(topic in ".{0,40}", text: String, bytes: Vec<u8>, key in "\\PC{1,16}") {
        prop_assume!(!topic.starts_with("\0trestle") && topic.len() <= 255);
        let base64 = STANDARD.encode(&bytes);
        let data = json!({ &text: [&text, 1, null] }).to_string();
        let head = json!(topic).to_string();
        let of = |body: String| parsed(&format!(r#"{{"topic":{head},{body}}}"#)).unwrap();
        let expect = |body: &[&[u8]]| published(topic.as_bytes(), body, None);
        prop_assert_eq!(of(format!(r#""text":{}"#, json!(text))), expect(&[text.as_bytes()]));
        prop_assert_eq!(of(format!(r#""base64":"{base64}""#)), expect(&[&bytes]));
        prop_assert_eq!(of(format!(r#""data":{data}"#)), expect(&[data.as_bytes()]));
        let parts = format!(r#""parts":[{{"data":{data}}},{{"base64":"{base64}"}}]"#);
        prop_assert_eq!(of(parts), expect(&[data.as_bytes(), &bytes]));
        let keyed = of(format!(r#""text":"","key":{}"#, json!(key)));
        prop_assert_eq!(keyed.bytes(), topic.len() + key.len());
        prop_assert_eq!(keyed.key, Some(key));
    }
}
