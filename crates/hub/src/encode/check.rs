//! What a command's values must be in any format.

use std::time::Duration;

use trestle_messages::PositionError;
use trestle_messages::topic::{TOPIC_BYTES_MAX, is_reserved};

use super::body::{JSON_DEPTH_MAX, is_deeper_than};
use super::command::{HZ_MAX, HZ_MIN, Since, interval_of};
use super::fields::Refusal;
use super::publish::{KEY_BYTES_MAX, PARTS_MAX};
use crate::ErrorCode;

/// What a position is called where a client should have given one.
pub(super) const A_POSITION: &str = "a position as the server gave it";

/// A topic or prefix that may be named. `path` is its field's, quoted.
pub(super) fn topic(path: &str, topic: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    let wrong = if topic.len() > TOPIC_BYTES_MAX {
        format!("a topic of {} bytes, at most {TOPIC_BYTES_MAX} are allowed", topic.len())
    } else if is_reserved(&topic) {
        "topics that begin with \\0trestle are reserved".to_owned()
    } else {
        return Ok(topic);
    };
    Err(Refusal::new(ErrorCode::InvalidTopic, format!("field {path}: {wrong}")))
}

/// Where a subscription resumes.
pub(super) fn since(path: &str, text: &str) -> Result<Since, Refusal> {
    match text.parse() {
        Ok(position) => Ok(Since::Position(position)),
        Err(PositionError::Format(_)) => Ok(Since::Unknown),
        Err(PositionError::Malformed) => Err(must(path, &format!("be {A_POSITION}"))),
    }
}

/// What `max_hz` is called.
pub(super) fn a_rate() -> String {
    format!("a number from {HZ_MIN} to {HZ_MAX}")
}

/// `max_hz` as the least time between two messages.
pub(super) fn interval(path: &str, hz: f64) -> Result<Duration, Refusal> {
    interval_of(hz).ok_or_else(|| must(path, &format!("be {}", a_rate())))
}

/// A refusal of the right field with a wrong value.
pub(super) fn must(path: &str, condition: &str) -> Refusal {
    Refusal::bad_request(format!("field {path} must {condition}"))
}

/// A publication's key.
pub(super) fn key(path: &str, key: String) -> Result<String, Refusal> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(key);
    }
    Err(must(path, &format!("have 1 to {KEY_BYTES_MAX} bytes, not {}", key.len())))
}

/// A publication's `data`, which is valid JSON. As deep as events may have it: what is published as `data` arrives so.
pub(super) fn depth(path: &str, json: &str) -> Result<(), Refusal> {
    if is_deeper_than(JSON_DEPTH_MAX, json.as_bytes()) {
        return Err(must(path, &format!("be nested at most {JSON_DEPTH_MAX} deep")));
    }
    Ok(())
}

/// How many frames a publication has behind its topic.
pub(super) fn parts(path: &str, n: usize) -> Result<(), Refusal> {
    match n {
        0 => Err(must(path, "have a part")),
        1..=PARTS_MAX => Ok(()),
        n => Err(Refusal::too_large(format!("field {path} has {n} parts, at most {PARTS_MAX} are allowed"))),
    }
}

/// A refusal of a command that has not exactly one of these fields.
pub(super) fn one_of(command: &str, names: &[&str], found: &str) -> Refusal {
    Refusal::bad_request(format!("`{command}` has exactly one of {}, not {found}", names.join(", ")))
}
