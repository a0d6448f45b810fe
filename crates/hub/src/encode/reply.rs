//! What the server says of its own, beside events, and how `trestle.v1.json` has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use trestle_messages::Position;

use super::{Format, proto, sse};
use crate::ErrorCode;
use crate::ws::{Opcode, server_frame};

/// A message of the server, one JSON object under its name. A key whose value is `None` is left out.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant is its struct")]
pub enum ServerMessage<'a> {
    Welcome(Welcome<'a>),
    Reply(Reply<'a>),
    CaughtUp(CaughtUp),
    Heartbeat(Heartbeat),
    Lost(Lost<'a>),
    Goodbye(Goodbye),
}

impl<'a> ServerMessage<'a> {
    /// The refusal of command `id`, if it had one.
    pub fn error(id: Option<u64>, code: ErrorCode, reason: &'a str) -> Self {
        Self::Reply(Reply { id, outcome: Outcome::Error { code, reason, retry: code.retry() } })
    }

    /// As [`frame`](Self::frame), but so that it is seen even where a heartbeat would not be: in a browser's `EventSource`.
    pub(crate) fn notice(&self, format: Format) -> Bytes {
        if format == Format::Sse { sse::notice(self) } else { self.frame(format) }
    }

    /// What goes out in `format`: a complete WebSocket frame, or the bytes of an event.
    pub fn frame(&self, format: Format) -> Bytes {
        match format {
            Format::Sse => sse::server_message(self),
            Format::Proto => server_frame(Opcode::Binary, &proto::server_message(self)),
            Format::Json | Format::Raw | Format::Zws => {
                let json = serde_json::to_vec(self).expect("all keys are strings, and nothing else can fail");
                server_frame(Opcode::Text, &json)
            }
        }
    }
}

impl ServerMessage<'_> {
    /// Its key.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Reply(_) => "reply",
            Self::CaughtUp(_) => "caught_up",
            Self::Heartbeat(_) => "heartbeat",
            Self::Lost(_) => "lost",
            Self::Goodbye(_) => "goodbye",
        }
    }

    /// How far the client has come with it.
    pub(super) fn position(&self) -> Option<Position> {
        match self {
            Self::Reply(Reply { outcome: Outcome::Subscribed(subscribed), .. }) => subscribed.position,
            Self::CaughtUp(caught_up) => caught_up.position,
            Self::Heartbeat(heartbeat) => heartbeat.position,
            Self::Lost(lost) => lost.position,
            Self::Welcome(_) | Self::Reply(_) | Self::Goodbye(_) => None,
        }
    }
}

/// The first message on a connection.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Welcome<'a> {
    /// The session's name in logs and for the operator.
    pub session: &'a str,
    /// The head when the connection opened; `None` while nothing recorded is known.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "position")]
    pub position: Option<Position>,
    /// A client that hears nothing for clearly longer than this many milliseconds may give the connection up.
    pub heartbeat_ms: u64,
    /// When the token ends, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// As in [`Heartbeat::stale`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Reply<'a> {
    /// The command's id; `None` where it had none that could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome<'a>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<'a> {
    /// The subscription stands.
    Subscribed(Subscribed<'a>),
    /// The subscription is gone, or never was.
    Unsubscribed(Unsubscribed<'a>),
    /// The message was sent.
    Published(Published),
    /// The token counts from here on.
    Authenticated(Authenticated<'a>),
    /// The command did nothing.
    Error {
        /// From the closed list.
        #[serde(serialize_with = "error_code")]
        code: ErrorCode,
        /// For people; it names what was wrong.
        reason: &'a str,
        /// Whether the same command may succeed later.
        retry: bool,
    },
}

impl Outcome<'_> {
    /// It alone, as JSON.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("all keys are strings, and nothing else can fail")
    }
}

/// A subscription that stands.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Subscribed<'a> {
    /// As the command named them.
    #[serde(flatten)]
    pub topics: Topics<'a>,
    /// Where it starts; `None` while nothing recorded is known.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "position")]
    pub position: Option<Position>,
    /// How much of it is recorded.
    pub recorded: Recorded,
    /// Only where the command had `since`.
    #[serde(flatten)]
    pub recovery: Option<Recovery>,
}

/// Subscriptions that are gone.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Unsubscribed<'a> {
    /// As the command named them.
    #[serde(flatten)]
    pub topics: Topics<'a>,
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Published {
    /// Its own, of which no other session's or subscription's progress follows; `None` where it is not recorded.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "position")]
    pub position: Option<Position>,
}

/// A token that counts.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Authenticated<'a> {
    /// When it ends, Unix seconds; `None` if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Subscriptions that it does not allow, which have ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Ended<'a>>,
}

/// Subscriptions that have ended, as `unsubscribe` names them.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Ended<'a> {
    /// Their topics.
    #[serde(flatten)]
    pub topics: Topics<'a>,
    /// These are whole topics, not prefixes.
    pub exact: bool,
}

/// How much of what a subscription matches is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Recorded {
    All,
    Some,
    None,
}

/// Whether what a client missed could be replayed: `"recovered":true`, or `"recovered":false` with a `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// All of the recorded part is on its way.
    Recovered,
    /// Nothing is replayed.
    Failed(Unrecovered),
}

impl Serialize for Recovery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Recovery", 2)?;
        object.serialize_field("recovered", &(*self == Self::Recovered))?;
        if let Self::Failed(reason) = self {
            object.serialize_field("reason", reason)?;
        }
        object.end()
    }
}

/// Why nothing is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unrecovered {
    /// Part of what is missing is no longer kept.
    HistoryTruncated,
    /// The sequence was begun anew.
    EpochChanged,
    /// No topic of the subscription is recorded.
    NotRecorded,
    /// The position is not of this installation, or of a release that lays them out otherwise.
    /// Or it is ahead of this edge, and the forwarder could not be asked.
    UnknownPosition,
}

/// A subscription has sent what it had to catch up with.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CaughtUp {
    /// Of the command that subscribed.
    pub id: u64,
    /// Everything up to here was sent.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "position")]
    pub position: Option<Position>,
    /// Messages replayed.
    pub replayed: u64,
}

/// The connection lives, and everything up to `position` was sent on it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Heartbeat {
    /// `None` while nothing recorded is known.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "position")]
    pub position: Option<Position>,
    /// The edge hears nothing from upstream: what there is, it serves, and what it does not know of may be missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// Everything matching `topics` in (`from`, `position`] was not sent.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Lost<'a> {
    /// Of the subscriptions that lost something.
    #[serde(flatten)]
    pub topics: Topics<'a>,
    /// The last position before the gap.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "position")]
    pub from: Option<Position>,
    /// The last position in the gap.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "position")]
    pub position: Option<Position>,
    /// Why.
    pub cause: LostCause,
    /// How much; `None` where nobody can know (`epoch_changed`).
    #[serde(flatten)]
    pub count: Option<LostCount>,
}

/// Why messages were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LostCause {
    /// The client reads slower than its subscriptions produce.
    SlowConsumer,
    /// The forwarder sent them, and they did not arrive here.
    LinkHole,
    /// The sequence was begun anew.
    EpochChanged,
    /// This shard fell off the log.
    ShardOverrun,
}

impl LostCause {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::SlowConsumer, Self::LinkHole, Self::EpochChanged, Self::ShardOverrun];
}

/// How many messages were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LostCount {
    /// Exactly so many.
    Count(u64),
    /// So many or fewer: not all of them need have matched.
    AtMost(u64),
}

/// The server is about to close the connection.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Goodbye {
    /// Why.
    pub reason: GoodbyeReason,
    /// When to come back, counted from this message; `None`: at once, or not at all, as the close code says. Until the
    /// connection is closed, which is about then, everything goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnect_after_ms: Option<u64>,
}

/// Why the server closes a connection that did nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GoodbyeReason {
    /// The edge stops and starts again.
    Restarting,
    /// The edge hands its clients to others.
    Draining,
    /// The token ran out.
    TokenExpired,
    /// The operator ended this session.
    Disconnected,
}

/// Topics or prefixes: `"topics"`, and `"topics_base64"` for those that are not UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics<'a>(pub Vec<&'a [u8]>);

impl<'a> FromIterator<&'a [u8]> for Topics<'a> {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(topics: I) -> Self {
        Self(topics.into_iter().collect())
    }
}

impl Serialize for Topics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<_> = self.0.iter().filter_map(|topic| std::str::from_utf8(topic).ok()).collect();
        let others = self.0.iter().filter(|topic| std::str::from_utf8(topic).is_err());
        let others: Vec<_> = others.map(|topic| STANDARD.encode(topic)).collect();
        let mut object = serializer.serialize_struct("Topics", 2)?;
        if !texts.is_empty() || others.is_empty() {
            object.serialize_field("topics", &texts)?;
        }
        if !others.is_empty() {
            object.serialize_field("topics_base64", &others)?;
        }
        object.end()
    }
}

fn position<S: Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    match position {
        Some(position) => serializer.collect_str(position),
        None => serializer.serialize_none(),
    }
}

fn error_code<S: Serializer>(code: &ErrorCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}
