//! What the query of a URL asks for: the topics of a handshake, the subscription of an event stream.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use trestle_messages::{PositionError, topic};

use crate::encode::{HZ_MAX, HZ_MIN, Policy, Since, Subscribe, interval_of};
use crate::{Protocol, Role};

const KNOWN: &str =
    "known are `topic`, which may be repeated, `exact`, `snapshot`, `since`, `policy` and `max_hz`";

/// The bounds of the topics in a URL.
#[derive(Debug, Clone, Copy)]
pub struct TopicBounds {
    /// So many, which are subscriptions.
    pub topics_max: usize,
    /// Of each.
    pub topic_bytes_max: usize,
}

/// The `topic`s of a query. Without any a `rust-websocket` client, which has no other way to ask, gets everything.
///
/// # Errors
/// What is wrong, in words that name it.
pub fn topics(
    query: &str,
    role: Role,
    protocol: Protocol,
    bounds: TopicBounds,
) -> Result<Vec<Vec<u8>>, String> {
    let mut topics = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if role == Role::Publisher {
            return Err(format!("unknown parameter `{name}`; a publisher has none"));
        }
        if protocol == Protocol::ZwsPlain {
            // A message before the end of its handshake would break it.
            return Err(format!("unknown parameter `{name}`; a client of {} has none", protocol.name()));
        }
        if name != "topic" {
            return Err(format!("unknown parameter `{name}`; known is `topic`, which may be repeated"));
        }
        let bytes: Vec<u8> = percent_decode_str(&value.replace('+', " ")).collect();
        topics.push(topic_of(bytes, topics.len(), bounds)?);
    }
    if topics.is_empty() && protocol == Protocol::RustWebsocket {
        topics.push(Vec::new());
    }
    Ok(topics)
}

/// What a request asks for. Without a topic it gets everything. `last_event_id`, which a browser adds when it comes back to
/// the same URL, goes before `since`.
///
/// # Errors
/// What is wrong, in words that name it.
pub fn subscription(
    query: &str,
    last_event_id: Option<&str>,
    bounds: TopicBounds,
) -> Result<Subscribe, String> {
    let mut wanted = Subscribe::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value: Vec<u8> = percent_decode_str(&value.replace('+', " ")).collect();
        match name {
            "topic" => wanted.topics.push(topic_of(value, wanted.topics.len(), bounds)?),
            "exact" => wanted.exact = flag(name, &value)?,
            "snapshot" => wanted.snapshot = flag(name, &value)?,
            "since" => wanted.since = Some(since(&value)?),
            "policy" => wanted.policy = policy(&value)?,
            "max_hz" => wanted.interval_min = Some(interval(&value)?),
            _ => return Err(format!("unknown parameter `{name}`; {KNOWN}")),
        }
    }
    if wanted.topics.is_empty() {
        wanted.topics.push(Vec::new());
    }
    if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
        // A browser would not come back from a refusal; so it hears that this is no position.
        wanted.since = Some(id.parse().map_or(Since::Unknown, Since::Position));
    }
    Ok(wanted)
}

/// A topic as a client may name it.
fn topic_of(bytes: Vec<u8>, n_before: usize, bounds: TopicBounds) -> Result<Vec<u8>, String> {
    let TopicBounds { topics_max, topic_bytes_max } = bounds;
    if bytes.len() > topic_bytes_max {
        return Err(format!("a topic has at most {topic_bytes_max} bytes"));
    }
    if topic::is_reserved(&bytes) {
        return Err("topics that begin with \\0trestle are reserved".to_owned());
    }
    if n_before == topics_max {
        return Err(format!("a connection holds at most {topics_max} subscriptions"));
    }
    Ok(bytes)
}

fn flag(name: &str, value: &[u8]) -> Result<bool, String> {
    match value {
        b"true" | b"1" | b"" => Ok(true),
        b"false" | b"0" => Ok(false),
        _ => Err(format!("`{name}` is true or false")),
    }
}

fn since(value: &[u8]) -> Result<Since, String> {
    let text = str::from_utf8(value).map_err(|_| PositionError::Malformed);
    match text.and_then(str::parse) {
        Ok(position) => Ok(Since::Position(position)),
        Err(PositionError::Format(_)) => Ok(Since::Unknown),
        Err(PositionError::Malformed) => Err("`since` is a position as the server gave it".to_owned()),
    }
}

fn policy(value: &[u8]) -> Result<Policy, String> {
    let policy = str::from_utf8(value).ok().and_then(|name| name.parse().ok());
    policy.ok_or_else(|| format!("`policy` is {}", Policy::EXPECTED))
}

fn interval(value: &[u8]) -> Result<Duration, String> {
    let hz = str::from_utf8(value).ok().and_then(|hz| hz.parse().ok());
    hz.and_then(interval_of).ok_or_else(|| format!("`max_hz` is a number from {HZ_MIN} to {HZ_MAX}"))
}

#[cfg(test)]
mod tests {
    use trestle_messages::Position;

    use super::*;

    fn bounds(topics_max: usize) -> TopicBounds {
        TopicBounds { topics_max, topic_bytes_max: topic::TOPIC_BYTES_MAX }
    }

    #[test]
    fn a_query_names_what_is_wanted() {
        let at = |offset| Position { epoch: 7, offset };
        let query = format!("topic=jobs%2F&topic=a+b&exact=true&snapshot&since={}", at(3));
        let wanted = subscription(&query, None, bounds(9)).unwrap();
        assert_eq!(wanted.topics, [&b"jobs/"[..], b"a b"]);
        assert!(wanted.exact && wanted.snapshot);
        assert_eq!(wanted.since, Some(Since::Position(at(3))));
        let again = subscription(&query, Some(&at(5).to_string()), bounds(9)).unwrap();
        assert_eq!(again.since, Some(Since::Position(at(5))), "where a browser comes back from");
        assert_eq!(subscription("", Some("no position"), bounds(9)).unwrap().since, Some(Since::Unknown));
        assert_eq!(subscription("", None, bounds(9)).unwrap().topics, [b""]);
        let slow = subscription("policy=conflate&max_hz=2.5", None, bounds(9)).unwrap();
        assert_eq!((slow.policy, slow.interval_min), (Policy::Conflate, Some(Duration::from_millis(400))));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, named) in [
            ("topic=a&topics=b", "`topics`"),
            ("exact=maybe", "`exact`"),
            ("since=!", "`since`"),
            ("topic=a&topic=b&topic=c", "at most 2"),
            ("topic=%00trestle", "reserved"),
            ("policy=drop", "`policy`"),
            ("policy=%ff", "\"drop_oldest\""),
            ("max_hz=0", "0.001"),
            ("max_hz=nan", "`max_hz`"),
            ("max_hz=", "`max_hz`"),
        ] {
            let error = subscription(query, None, bounds(2)).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
