//! The typed envelope: `[topic]["trestle.v1.Event"][protobuf Event]`.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;
use trestle_messages::v1::Event;
use trestle_messages::v1::event::Body;

/// Writes this publisher's events: numbers them and says who sent them.
#[derive(Debug)]
pub(crate) struct Envelope {
    source: String,
    /// In front of each id, so that a restart does not repeat one.
    run: String,
    n_events: u64,
}

impl Envelope {
    /// `source` names this host or program; `started_ns` is Unix time in nanoseconds.
    pub(crate) fn new(source: String, started_ns: u64) -> Self {
        Self { source, run: format!("{started_ns:x}"), n_events: 0 }
    }

    /// The encoded event. Its id, at most 37 bytes, is unique.
    pub(crate) fn seal(&mut self, body: Body, time_unix_ns: u64) -> Vec<u8> {
        self.n_events += 1;
        let id = format!("{}-{}", self.run, self.n_events);
        Event { id, time_unix_ns, source: self.source.clone(), body: Some(body) }.encode_to_vec()
    }
}

/// Now, Unix nanoseconds; 0 before 1970.
pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// How this host calls itself, at most 64 bytes that fit into one level of a topic.
pub(crate) fn host_name() -> String {
    topic_level(&sysinfo::System::host_name().unwrap_or_default())
}

/// `name` as one level of a topic: `/` and controls are `-`, at most 64 bytes, never empty.
pub(crate) fn topic_level(name: &str) -> String {
    let level: String = name.chars().map(|c| if c == '/' || c.is_control() { '-' } else { c }).collect();
    let level = &level[..level.floor_char_boundary(64)];
    if level.is_empty() { "localhost".to_owned() } else { level.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_short() {
        let mut envelope = Envelope::new("host".to_owned(), u64::MAX);
        let [first, second] = [1, 2].map(|time| {
            let bytes = envelope.seal(Body::Text("x".to_owned()), time);
            Event::decode(&bytes[..]).unwrap()
        });
        assert_eq!((first.time_unix_ns, second.time_unix_ns), (1, 2));
        assert_eq!((first.source.as_str(), &first.body), ("host", &Some(Body::Text("x".to_owned()))));
        assert!(first.id != second.id && first.id.len() <= 64, "{} {}", first.id, second.id);
    }

    #[test]
    fn a_host_name_is_one_topic_level() {
        assert_eq!(topic_level("a/b\n"), "a-b-");
        assert_eq!(topic_level(""), "localhost");
        assert_eq!(topic_level(&"ä".repeat(100)).len(), 64);
    }
}
