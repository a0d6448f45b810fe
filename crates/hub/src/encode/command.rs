//! What a client may ask for, and how `trestle.v1.json` says it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::value::RawValue;
use trestle_messages::Position;

use super::check;
use super::fields::{Field, Refusal, fields_of, quoted};
use super::publish::{Publish, publish};
use super::reply::ServerMessage;
use super::syntax::SAFE_INTEGER_MAX;
use crate::ErrorCode;

/// A command's id is at most this, so that JavaScript reads back what it wrote.
pub const ID_MAX: u64 = SAFE_INTEGER_MAX;

/// The lowest `max_hz`: one message in 1,000 seconds.
pub const HZ_MIN: f64 = 0.001;

/// The highest `max_hz`: a message each millisecond, which is as fine as the wheel of timers.
pub const HZ_MAX: f64 = 1_000.0;

const COMMANDS: [&str; 4] = ["subscribe", "unsubscribe", "publish", "authenticate"];

/// Padding is welcome and not needed.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A command with the id that its reply echoes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Chosen by the client, at most [`ID_MAX`].
    pub id: u64,
    /// What is asked for.
    pub kind: CommandKind,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// To receive what matches from now on, or to change the options of a subscription that stands.
    Subscribe(Subscribe),
    /// To receive it no longer.
    Unsubscribe(Unsubscribe),
    /// To send a message.
    Publish(Publish),
    /// To take another token.
    Authenticate(Token),
}

/// Subscriptions, one for each topic, with the same options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// At least one, each at most [`TOPIC_BYTES_MAX`](trestle_messages::topic::TOPIC_BYTES_MAX) bytes and not reserved; as given, repeats included. The empty
    /// prefix matches everything.
    pub topics: Vec<Vec<u8>>,
    /// The topics are whole topics, not prefixes.
    pub exact: bool,
    /// The last value of each matching topic is wanted first.
    pub snapshot: bool,
    /// Where to resume.
    pub since: Option<Since>,
    /// What happens when the client reads too slowly.
    pub policy: Policy,
    /// `max_hz` as the least time between two messages of a topic, 1 ms to 1,000 s.
    pub interval_min: Option<Duration>,
}

/// Where a subscription resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Behind this position.
    Position(Position),
    /// A position made by a release with another layout: the subscription stands, and its recovery has failed with
    /// `unknown_position`, so that a client that outlives an update gets an answer that it knows.
    Unknown,
}

/// What happens to a subscription whose client reads too slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The connection is closed with 4008.
    #[default]
    Disconnect,
    /// The oldest messages are dropped and declared lost.
    DropOldest,
    /// Only the latest message of each topic is kept.
    Conflate,
}

impl Policy {
    /// What may be written, for people.
    pub const EXPECTED: &str = "one of \"disconnect\", \"drop_oldest\" and \"conflate\"";
}

impl FromStr for Policy {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Ok(match name {
            "disconnect" => Self::Disconnect,
            "drop_oldest" => Self::DropOldest,
            "conflate" => Self::Conflate,
            _ => return Err(()),
        })
    }
}

/// `max_hz`, messages of a topic in a second, as the least time between two; none outside of [`HZ_MIN`] to [`HZ_MAX`].
pub fn interval_of(hz: f64) -> Option<Duration> {
    (HZ_MIN..=HZ_MAX).contains(&hz).then(|| Duration::from_secs_f64(1.0 / hz))
}

/// Subscriptions to end, keyed as they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsubscribe {
    /// As in [`Subscribe::topics`].
    pub topics: Vec<Vec<u8>>,
    /// As in [`Subscribe::exact`].
    pub exact: bool,
}

/// What a client shows to be let in, as it came. Whoever reads it may do the same, so that it does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub(super) Box<str>);

impl Token {
    /// Not empty in a command.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A command that is refused; the client must be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct CommandError {
    /// The command's id, if it could be read.
    pub id: Option<u64>,
    /// From the closed list.
    pub code: ErrorCode,
    /// For people; it names what was wrong, in a few hundred bytes at most.
    pub reason: String,
    /// The message is no JSON, or no protobuf, at all. Some of these in a row close the connection.
    pub unparsed: bool,
}

impl CommandError {
    /// The reply that tells the client.
    pub fn reply(&self) -> ServerMessage<'_> {
        ServerMessage::error(self.id, self.code, &self.reason)
    }
}

/// Reads one text message of a client.
///
/// # Errors
/// What the client is to be told, with the command's id where it has one, even if other fields are wrong.
pub fn parse(text: &str) -> Result<Command, CommandError> {
    let refused =
        |id, unparsed| move |Refusal { code, reason }: Refusal| CommandError { id, code, reason, unparsed };
    let json: &RawValue = serde_json::from_str(text)
        .map_err(|error| Refusal::bad_request(format!("the message is no JSON: {error}")))
        .map_err(refused(None, true))?;
    let fields = fields_of("", json).map_err(refused(None, false))?;
    let id = id(&fields).map_err(refused(None, false))?;
    let kind = kind(&fields).map_err(refused(Some(id), false))?;
    Ok(Command { id, kind })
}

fn id(fields: &[Field<'_>]) -> Result<u64, Refusal> {
    let Some(field) = fields.iter().find(|field| field.name == "id") else {
        return Err(Refusal::bad_request("field `id` is missing"));
    };
    let id = field.value().get().parse().ok().filter(|id| *id <= ID_MAX);
    id.ok_or_else(|| field.must("be an integer from 0 to 2^53 - 1"))
}

fn kind(fields: &[Field<'_>]) -> Result<CommandKind, Refusal> {
    let (commands, others): (Vec<_>, Vec<_>) = fields
        .iter()
        .filter(|field| field.name != "id")
        .partition(|field| COMMANDS.contains(&field.name.as_str()));
    match (&commands[..], &others[..]) {
        ([], []) => Err(Refusal::bad_request(format!("a command is missing: {}", COMMANDS.join(", ")))),
        ([], [other, ..]) => Err(Refusal::new(
            ErrorCode::UnknownCommand,
            format!("unknown command {}; known are {}", other.path(), COMMANDS.join(", ")),
        )),
        ([_, ..], [other, ..]) => {
            Err(Refusal::new(ErrorCode::UnknownField, format!("unknown field {}", other.path())))
        }
        ([one, other, ..], []) => Err(Refusal::bad_request(format!(
            "one message has one command, not both {} and {}",
            one.path(),
            other.path()
        ))),
        ([command], []) => match command.name.as_str() {
            "subscribe" => subscribe(command.value()).map(CommandKind::Subscribe),
            "unsubscribe" => unsubscribe(command.value()).map(CommandKind::Unsubscribe),
            "publish" => publish(command.value()).map(CommandKind::Publish),
            _ => authenticate(command.value()).map(CommandKind::Authenticate),
        },
    }
}

fn subscribe(json: &RawValue) -> Result<Subscribe, Refusal> {
    const KNOWN: [&str; 7] = ["topics", "topics_base64", "exact", "snapshot", "since", "policy", "max_hz"];
    let mut subscribe = Subscribe::default();
    for field in fields_of("subscribe", json)? {
        match field.name.as_str() {
            "topics" => subscribe.topics.extend(topics(&field)?),
            "topics_base64" => subscribe.topics.extend(topics_base64(&field)?),
            "exact" => subscribe.exact = field.bool()?,
            "snapshot" => subscribe.snapshot = field.bool()?,
            "since" => subscribe.since = Some(since(&field)?),
            "policy" => subscribe.policy = policy(&field)?,
            "max_hz" => subscribe.interval_min = Some(interval(&field)?),
            _ => return Err(field.unknown(&KNOWN)),
        }
    }
    some_topic("subscribe", &subscribe.topics)?;
    Ok(subscribe)
}

fn unsubscribe(json: &RawValue) -> Result<Unsubscribe, Refusal> {
    let mut unsubscribe = Unsubscribe::default();
    for field in fields_of("unsubscribe", json)? {
        match field.name.as_str() {
            "topics" => unsubscribe.topics.extend(topics(&field)?),
            "topics_base64" => unsubscribe.topics.extend(topics_base64(&field)?),
            "exact" => unsubscribe.exact = field.bool()?,
            _ => return Err(field.unknown(&["topics", "topics_base64", "exact"])),
        }
    }
    some_topic("unsubscribe", &unsubscribe.topics)?;
    Ok(unsubscribe)
}

fn authenticate(json: &RawValue) -> Result<Token, Refusal> {
    let mut said = String::new();
    for field in fields_of("authenticate", json)? {
        match field.name.as_str() {
            "token" => said = field.string("a string")?,
            _ => return Err(field.unknown(&["token"])),
        }
    }
    token(said)
}

/// The token of an `authenticate`, in any format.
pub(super) fn token(said: String) -> Result<Token, Refusal> {
    match said.is_empty() {
        true => Err(Refusal::bad_request("`authenticate` has no `token`")),
        false => Ok(Token(said.into())),
    }
}

fn some_topic(command: &str, topics: &[Vec<u8>]) -> Result<(), Refusal> {
    if topics.is_empty() {
        let reason =
            format!("`{command}` names no topic in `topics` or `topics_base64`; \"\" stands for all");
        return Err(Refusal::bad_request(reason));
    }
    Ok(())
}

fn topics(field: &Field<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    field.strings()?.into_iter().map(|topic| check::topic(&field.path(), topic.into_bytes())).collect()
}

fn topics_base64(field: &Field<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let decoded = |text: String| decoded(field, &text);
    field.strings()?.into_iter().map(|text| check::topic(&field.path(), decoded(text)?)).collect()
}

/// The bytes of a field that is base64.
pub(super) fn base64(field: &Field<'_>) -> Result<Vec<u8>, Refusal> {
    decoded(field, &field.string("base64")?)
}

fn decoded(field: &Field<'_>, text: &str) -> Result<Vec<u8>, Refusal> {
    BASE64.decode(text).map_err(|_| field.must(&format!("hold base64, not {}", quoted(text))))
}

fn since(field: &Field<'_>) -> Result<Since, Refusal> {
    check::since(&field.path(), &field.string(check::A_POSITION)?)
}

fn policy(field: &Field<'_>) -> Result<Policy, Refusal> {
    let word = field.string(Policy::EXPECTED)?;
    word.parse().map_err(|()| field.must(&format!("be {}, not {}", Policy::EXPECTED, quoted(&word))))
}

fn interval(field: &Field<'_>) -> Result<Duration, Refusal> {
    check::interval(&field.path(), field.number(&check::a_rate())?)
}
