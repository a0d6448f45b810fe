//! What an edge says in `trestle.v1.json`, as far as this client reads it. Fields that it does not know are passed over: they
//! come from a newer edge.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The subprotocol.
pub(super) const SUBPROTOCOL: &str = "trestle.v1.json";

/// One message; an edge fills exactly one field.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Message<'a> {
    pub(super) welcome: Option<Welcome>,
    pub(super) reply: Option<Reply>,
    pub(super) caught_up: Option<CaughtUp>,
    #[serde(borrow)]
    pub(super) event: Option<&'a RawValue>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) lost: Option<&'a RawValue>,
    pub(super) goodbye: Option<Goodbye>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Welcome {
    /// Something arrives at least this often.
    #[serde(default)]
    pub(super) heartbeat_ms: u64,
    #[serde(default)]
    pub(super) stale: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    pub(super) id: Option<u64>,
    pub(super) subscribed: Option<Subscribed>,
    pub(super) error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Subscribed {
    pub(super) position: Option<String>,
    pub(super) recovered: Option<bool>,
    pub(super) reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) code: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) retry: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct CaughtUp {
    pub(super) id: u64,
    pub(super) position: Option<String>,
    #[serde(default)]
    pub(super) replayed: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Heartbeat {
    pub(super) position: Option<String>,
    #[serde(default)]
    pub(super) stale: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Lost {
    #[serde(default)]
    pub(super) topics: Vec<String>,
    #[serde(default)]
    pub(super) topics_base64: Vec<String>,
    pub(super) position: Option<String>,
    pub(super) cause: String,
    pub(super) count: Option<u64>,
    pub(super) at_most: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Goodbye {
    pub(super) reason: String,
    pub(super) reconnect_after_ms: Option<u64>,
}

/// A message of a topic, or one of its parts. Of the body at most one field is there.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Event<'a> {
    pub(super) topic: Option<String>,
    pub(super) topic_base64: Option<String>,
    pub(super) position: Option<String>,
    #[serde(default)]
    pub(super) snapshot: bool,
    /// `null` is data, too.
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) data: Option<&'a RawValue>,
    pub(super) text: Option<String>,
    pub(super) base64: Option<String>,
    #[serde(borrow)]
    pub(super) parts: Option<Vec<Event<'a>>>,
    pub(super) progress: Option<Progress>,
    #[serde(borrow)]
    pub(super) status: Option<Status<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Progress {
    pub(super) job: String,
    /// A string where JavaScript could not hold it.
    pub(super) done: serde_json::Value,
    pub(super) total: serde_json::Value,
    pub(super) unit: String,
    pub(super) state: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Status<'a> {
    /// In the edge's order.
    #[serde(borrow)]
    pub(super) gauges: &'a RawValue,
}

impl Event<'_> {
    /// What subscriptions match. A single ØMQ frame has no topic of its own: it *is* its topic, so its body is taken, of
    /// JSON the very bytes that came.
    pub(super) fn matched(&self) -> Vec<u8> {
        let text = self.topic.as_ref().map(String::as_bytes);
        let text = text.or_else(|| match (&self.topic_base64, &self.text, self.data) {
            (Some(_), ..) => None,
            (None, Some(text), _) => Some(text.as_bytes()),
            (None, None, data) => data.map(|data| data.get().as_bytes()),
        });
        let base64 = self.topic_base64.as_ref().or(self.base64.as_ref());
        text.map(<[u8]>::to_vec).or_else(|| STANDARD.decode(base64?).ok()).unwrap_or_default()
    }
}

impl Lost {
    /// Of the subscriptions that lost something.
    pub(super) fn topics(&self) -> Vec<Vec<u8>> {
        let base64 = self.topics_base64.iter().filter_map(|topic| STANDARD.decode(topic).ok());
        self.topics.iter().map(|topic| topic.as_bytes().to_vec()).chain(base64).collect()
    }
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}
