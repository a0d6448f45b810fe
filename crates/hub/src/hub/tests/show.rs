//! What a client saw, in a few words a line. Positions are `@offset`, and `@epoch:offset` behind the first epoch.

use serde_json::Value;
use trestle_messages::Position;

use super::client::Seen;
use super::world::EPOCH;
use crate::protocol::Protocol;

pub(super) fn show(protocol: Protocol, seen: &Seen) -> String {
    match seen {
        Seen::Text(text) if protocol != Protocol::RustWebsocket => json(text),
        Seen::Text(text) => format!("text {text}"),
        Seen::Binary(bytes) => format!("binary {bytes:?}"),
        Seen::Ping(payload) => format!("ping {}", String::from_utf8_lossy(payload)),
        Seen::Pong(payload) => format!("pong {}", String::from_utf8_lossy(payload)),
        Seen::Close(Some(code)) => format!("close {code}"),
        Seen::Close(None) => "close".to_owned(),
    }
}

fn json(text: &str) -> String {
    let value: Value = serde_json::from_str(text).expect("the server sends JSON");
    let (name, body) = only(&value);
    if name != "reply" {
        return format!("{name}{}", words(body));
    }
    let id = body["id"].as_u64().map_or(String::new(), |id| format!(" {id}"));
    let fields = body.as_object().expect("a reply is an object");
    let outcome = fields.iter().find(|(key, _)| *key != "id").expect("a reply has an outcome");
    format!("{}{id}{}", outcome.0, words(outcome.1))
}

/// The only field of an object.
fn only(value: &Value) -> (&String, &Value) {
    let fields = value.as_object().expect("an object");
    assert_eq!(fields.len(), 1, "{value}");
    fields.iter().next().expect("one field")
}

/// A message's values, in the order of their keys but the topics first; what is always the same is left out.
fn words(body: &Value) -> String {
    let mut words = String::new();
    let mut add = |word: &str| {
        words.push(' ');
        words.push_str(word);
    };
    let fields = body.as_object().expect("an object");
    let is_first = |key: &str| matches!(key, "id" | "topic" | "topics");
    let (first, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|(key, _)| is_first(key));
    for (key, value) in first.into_iter().chain(rest) {
        match (key.as_str(), value) {
            // A session's name and the time are for people; `retry` follows from the code; a reason is a text of its own.
            ("session" | "time_ms" | "retry", _) => {}
            ("reason", Value::String(reason)) if reason.contains(' ') => {}
            ("position" | "from", Value::String(position)) => add(&offset(position)),
            (_, Value::String(text)) if text.is_empty() => add("''"),
            (_, Value::String(text)) => add(text),
            ("topics", Value::Array(topics)) => {
                let topics: Vec<_> = topics.iter().map(|topic| topic.as_str().expect("a text")).collect();
                add(if topics == [""] { "''".to_owned() } else { topics.join(",") }.as_str());
            }
            ("recovered", value) => add(if value == true { "recovered" } else { "unrecovered" }),
            ("snapshot", _) => add("snapshot"),
            (_, value) => add(&value.to_string()),
        }
    }
    words
}

/// A position's offset behind an `@`.
fn offset(text: &str) -> String {
    let position: Position = text.parse().expect("a position");
    match position.epoch {
        EPOCH => format!("@{}", position.offset),
        epoch => format!("@{epoch}:{}", position.offset),
    }
}
