//! What a client of `trestle.v1.proto` may ask for.

use prost::Message;
use serde::de::IgnoredAny;
use trestle_messages::v1::client_message as wire;

use super::super::check;
use super::super::command::{
    Command, CommandError, CommandKind, ID_MAX, Policy, Subscribe, Token, Unsubscribe, token,
};
use super::super::fields::Refusal;
use super::super::publish::Publish;
use super::wire::{Field, Garbled, Known, fields_of, numbered, path};
use crate::ErrorCode;

pub(super) const ID: Known = Known::varint(1, "id");

pub(super) const COMMANDS: [Known; 4] = [
    Known::bytes(2, "subscribe"),
    Known::bytes(3, "unsubscribe"),
    Known::bytes(4, "publish"),
    Known::bytes(5, "authenticate"),
];

pub(super) const SUBSCRIBE: [Known; 6] = [
    Known::list(1, "topics"),
    Known::varint(2, "exact"),
    Known::varint(3, "snapshot"),
    Known::bytes(4, "since"),
    Known::varint(5, "policy"),
    Known::double(6, "max_hz"),
];

pub(super) const UNSUBSCRIBE: [Known; 2] = [Known::list(1, "topics"), Known::varint(2, "exact")];

pub(super) const PUBLISH: [Known; 6] = [
    Known::bytes(1, "topic"),
    Known::bytes(2, "data"),
    Known::bytes(3, "text"),
    Known::bytes(4, "bytes"),
    Known::list(5, "parts"),
    Known::bytes(6, "key"),
];

pub(super) const AUTHENTICATE: [Known; 1] = [Known::bytes(1, "token")];

/// Reads one binary message of a client.
///
/// # Errors
/// What the client is to be told, with the command's id where it has one, even if other fields are wrong.
pub fn parse(payload: &[u8]) -> Result<Command, CommandError> {
    let refused =
        |id| move |Refusal { code, reason }: Refusal| CommandError { id, code, reason, unparsed: false };
    let garbled = |id| {
        move |Garbled| {
            let reason = "the message is no protobuf of a ClientMessage".to_owned();
            CommandError { id, code: ErrorCode::BadRequest, reason, unparsed: true }
        }
    };
    let fields = fields_of(payload).map_err(garbled(None))?;
    let id = id(&fields).map_err(refused(None))?;
    let (command, inside) = command(&fields).map_err(refused(Some(id)))?;
    let inner = fields_of(inside).map_err(garbled(Some(id)))?;
    let kind = match command {
        "subscribe" => subscribe(inside, &inner).map(CommandKind::Subscribe),
        "unsubscribe" => unsubscribe(inside, &inner).map(CommandKind::Unsubscribe),
        "publish" => publish(inside, &inner).map(CommandKind::Publish),
        _ => authenticate(inside, &inner).map(CommandKind::Authenticate),
    };
    Ok(Command { id, kind: kind.map_err(refused(Some(id)))? })
}

fn id(fields: &[Field<'_>]) -> Result<u64, Refusal> {
    let ids: Vec<_> = fields.iter().filter(|field| field.number == ID.number).copied().collect();
    super::wire::check("", &[ID], &ids)?;
    let id = ids.first().ok_or_else(|| Refusal::bad_request("field `id` (1) is missing"))?;
    if id.varint > ID_MAX {
        return Err(Refusal::bad_request("field `id` must be at most 2^53 - 1"));
    }
    Ok(id.varint)
}

/// The name of the only command, and what it says.
fn command<'t>(fields: &[Field<'t>]) -> Result<(&'static str, &'t [u8]), Refusal> {
    let is_command = |field: &&Field<'_>| COMMANDS.iter().any(|known| known.number == field.number);
    let others = fields.iter().filter(|field| field.number != ID.number);
    let (commands, others): (Vec<Field<'_>>, Vec<Field<'_>>) = others.partition(is_command);
    match (&commands[..], &others[..]) {
        ([], []) => Err(Refusal::bad_request(format!("a command is missing: {}", numbered(&COMMANDS)))),
        ([], [other, ..]) => Err(Refusal::new(
            ErrorCode::UnknownCommand,
            format!("unknown command {}; known are {}", other.number, numbered(&COMMANDS)),
        )),
        _ => {
            super::wire::check("", &COMMANDS, &[&commands[..], &others[..]].concat())?;
            let named = |field: &Field<'_>| {
                let known = COMMANDS.iter().find(|known| known.number == field.number);
                known.expect("it is one of them").name
            };
            match &commands[..] {
                [one, other, ..] => Err(Refusal::bad_request(format!(
                    "one message has one command, not both `{}` and `{}`",
                    named(one),
                    named(other)
                ))),
                [one] => Ok((named(one), one.bytes)),
                [] => unreachable!("the list is not empty"),
            }
        }
    }
}

fn subscribe(message: &[u8], fields: &[Field<'_>]) -> Result<Subscribe, Refusal> {
    const NAME: &str = "subscribe";
    let said: wire::Subscribe = decode(NAME, &SUBSCRIBE, message, fields)?;
    let since = said.since.map(|since| check::since(&path(NAME, "since"), &since));
    let interval_min = said.max_hz.map(|hz| check::interval(&path(NAME, "max_hz"), hz));
    Ok(Subscribe {
        topics: topics(NAME, said.topics)?,
        exact: said.exact,
        snapshot: said.snapshot,
        since: since.transpose()?,
        policy: policy(said.policy)?,
        interval_min: interval_min.transpose()?,
    })
}

fn unsubscribe(message: &[u8], fields: &[Field<'_>]) -> Result<Unsubscribe, Refusal> {
    const NAME: &str = "unsubscribe";
    let said: wire::Unsubscribe = decode(NAME, &UNSUBSCRIBE, message, fields)?;
    Ok(Unsubscribe { topics: topics(NAME, said.topics)?, exact: said.exact })
}

fn publish(message: &[u8], fields: &[Field<'_>]) -> Result<Publish, Refusal> {
    const NAME: &str = "publish";
    const BODIES: [&str; 4] = ["data", "text", "bytes", "parts"];
    let said: wire::Publish = decode(NAME, &PUBLISH, message, fields)?;
    let Some(topic) = said.topic else { return Err(check::one_of(NAME, &["topic"], "none")) };
    let mut found: Vec<_> = fields.iter().map(|field| field.number).filter(|n| (2..=5).contains(n)).collect();
    found.dedup();
    match found[..] {
        [_] => {}
        [] => return Err(check::one_of(NAME, &BODIES, "none")),
        _ => return Err(check::one_of(NAME, &BODIES, "several")),
    }
    let body = match said.body {
        Some(wire::publish::Body::Data(data)) if serde_json::from_str::<IgnoredAny>(&data).is_err() => {
            return Err(check::must(&path(NAME, "data"), "be a JSON text"));
        }
        Some(wire::publish::Body::Data(data)) => {
            check::depth(&path(NAME, "data"), &data)?;
            vec![data.into_bytes()]
        }
        Some(wire::publish::Body::Text(text)) => vec![text.into_bytes()],
        Some(wire::publish::Body::Bytes(bytes)) => vec![bytes.into()],
        None => {
            check::parts(&path(NAME, "parts"), said.parts.len())?;
            said.parts.into_iter().map(Vec::from).collect()
        }
    };
    let key = said.key.map(|key| check::key(&path(NAME, "key"), key)).transpose()?;
    Ok(Publish { topic: check::topic(&path(NAME, "topic"), topic.into())?, body, key })
}

fn authenticate(message: &[u8], fields: &[Field<'_>]) -> Result<Token, Refusal> {
    let said: wire::Authenticate = decode("authenticate", &AUTHENTICATE, message, fields)?;
    token(said.token)
}

/// The command called `name`, which has no field that is not `known`.
fn decode<M: Message + Default>(
    name: &str,
    known: &[Known],
    message: &[u8],
    fields: &[Field<'_>],
) -> Result<M, Refusal> {
    super::wire::check(name, known, fields)?;
    // What is left is a text that is not UTF-8; the error names the field.
    M::decode(message).map_err(|error| Refusal::bad_request(format!("`{name}`: {error}")))
}

fn topics(command: &str, topics: Vec<bytes::Bytes>) -> Result<Vec<Vec<u8>>, Refusal> {
    let path = path(command, "topics");
    let topics = topics.into_iter().map(|topic| check::topic(&path, topic.into()));
    let topics = topics.collect::<Result<Vec<_>, _>>()?;
    if topics.is_empty() {
        let reason = format!("`{command}` names no topic in `topics`; the empty one stands for all");
        return Err(Refusal::bad_request(reason));
    }
    Ok(topics)
}

fn policy(number: i32) -> Result<Policy, Refusal> {
    Ok(match wire::Policy::try_from(number) {
        Ok(wire::Policy::Unspecified | wire::Policy::Disconnect) => Policy::Disconnect,
        Ok(wire::Policy::DropOldest) => Policy::DropOldest,
        Ok(wire::Policy::Conflate) => Policy::Conflate,
        Err(_) => {
            let path = path("subscribe", "policy");
            return Err(Refusal::bad_request(format!("field {path} must be a Policy, not {number}")));
        }
    })
}
