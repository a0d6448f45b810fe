//! The same message in the other format, by nothing but its definition in `proto/` and the rules that stand there.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, EnumValueDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, ReflectMessage as _, Value as Field,
};
use serde_json::{Map, Value, json};

use super::super::body::Body;

static DEFINITIONS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(trestle_messages::FILE_DESCRIPTOR_SET).expect("it was compiled"));

/// The definition of `ClientMessage`, `ServerMessage` or one inside them.
pub(crate) fn definition(name: &str) -> MessageDescriptor {
    DEFINITIONS.get_message_by_name(&format!("trestle.v1.{name}")).expect("it is defined")
}

/// A server's message as an independent client reads it.
pub(crate) fn read(payload: &[u8]) -> DynamicMessage {
    let message = DynamicMessage::decode(definition("ServerMessage"), payload).expect("a server's message");
    assert_eq!(unknown(&message), None, "what is sent is defined");
    message
}

/// A field that the definition does not have, here or further inside.
fn unknown(message: &DynamicMessage) -> Option<String> {
    let here = message.unknown_fields().next().map(|field| format!("{field:?}"));
    here.or_else(|| message.fields().find_map(|(_, value)| messages(value).find_map(unknown)))
}

/// A field's message, or all of its list.
pub(super) fn messages(value: &Field) -> impl Iterator<Item = &DynamicMessage> {
    let listed = value.as_list().unwrap_or_default();
    value.as_message().into_iter().chain(listed.iter().filter_map(Field::as_message))
}

/// A server's message in JSON.
pub(crate) fn json(payload: &[u8]) -> Value {
    object(&read(payload))
}

fn object(message: &DynamicMessage) -> Value {
    let mut shown = Map::new();
    for field in message.descriptor().fields() {
        if field.name() == "padding" || field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        match (field.name(), &*value) {
            ("topic", Field::Bytes(topic)) => match str::from_utf8(topic) {
                Ok(topic) => insert(&mut shown, "topic", json!(topic)),
                Err(_) => insert(&mut shown, "topic_base64", json!(STANDARD.encode(topic))),
            },
            ("topics", Field::List(topics)) => {
                let topics = topics.iter().map(|topic| topic.as_bytes().expect("bytes"));
                let (texts, others): (Vec<_>, Vec<_>) =
                    topics.partition(|topic| str::from_utf8(topic).is_ok());
                if !texts.is_empty() || others.is_empty() {
                    let texts: Vec<_> = texts.into_iter().map(|text| str::from_utf8(text).unwrap()).collect();
                    insert(&mut shown, "topics", json!(texts));
                }
                if !others.is_empty() {
                    let others: Vec<_> = others.into_iter().map(|other| STANDARD.encode(other)).collect();
                    insert(&mut shown, "topics_base64", json!(others));
                }
            }
            ("parts", Field::List(parts)) => {
                let parts: Vec<_> = parts.iter().map(|part| body(part.as_bytes().expect("bytes"))).collect();
                if !parts.is_empty() {
                    let parts: Vec<_> = parts.into_iter().map(|(name, value)| json!({name: value})).collect();
                    insert(&mut shown, "parts", json!(parts));
                }
            }
            ("ended", Field::List(ended)) => {
                let ended: Vec<_> =
                    ended.iter().map(|one| object(one.as_message().expect("Ended"))).collect();
                if !ended.is_empty() {
                    insert(&mut shown, "ended", json!(ended));
                }
            }
            ("bytes", Field::Bytes(bytes)) => {
                let (name, value) = body(bytes);
                insert(&mut shown, name, value);
            }
            ("data", Field::String(data)) => {
                insert(&mut shown, "data", serde_json::from_str(data).expect("data is JSON"));
            }
            (name, value) => insert(&mut shown, name, plain(&field, value)),
        }
    }
    Value::Object(shown)
}

fn insert(object: &mut Map<String, Value>, name: &str, value: Value) {
    assert_eq!(object.insert(name.to_owned(), value), None, "{name} twice");
}

fn body(bytes: &[u8]) -> (&'static str, Value) {
    match Body::classify(bytes) {
        Body::Data(data) => ("data", serde_json::from_str(data).unwrap_or_else(|_| json!(data))),
        Body::Text(text) => ("text", json!(text)),
        Body::Base64(bytes) => ("base64", json!(STANDARD.encode(bytes))),
    }
}

fn plain(field: &FieldDescriptor, value: &Field) -> Value {
    match value {
        Field::Bool(value) => json!(value),
        Field::U64(value) if *value >> 53 != 0 => json!(value.to_string()),
        Field::U64(value) => json!(value),
        Field::F64(value) => json!(value),
        Field::String(value) => json!(value),
        Field::EnumNumber(number) => {
            let Kind::Enum(words) = field.kind() else { panic!("{field:?}") };
            json!(word(&words, *number))
        }
        Field::Message(message) => object(message),
        Field::Map(entries) => {
            let entry = |(key, value): (&MapKey, &Field)| {
                (key.as_str().expect("a text").to_owned(), json!(value.as_f64().expect("a number")))
            };
            Value::Object(entries.iter().map(entry).collect())
        }
        other => panic!("{field:?}: {other:?}"),
    }
}

/// An enum's value as JSON has it.
pub(crate) fn word(words: &EnumDescriptor, number: i32) -> String {
    let value = words.get_value(number).expect("it is defined");
    assert_ne!(number, 0, "{} is never sent", value.name());
    word_of(words, value.name())
}

/// `POLICY_DROP_OLDEST` of `Policy` is `drop_oldest`.
pub(crate) fn word_of(words: &EnumDescriptor, name: &str) -> String {
    let mut prefix = String::new();
    for char in words.name().chars() {
        if char.is_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.extend(char.to_uppercase());
    }
    let name = name.strip_prefix(&format!("{prefix}_")).expect("values begin with their type's name");
    name.to_lowercase()
}

/// What stands for a field that is not defined: number 200, a varint.
const UNDEFINED: &[u8] = b"\xc0\x0c\x01";

/// What stands for a value that an enum does not have.
const UNDEFINED_VALUE: i32 = 77;

/// A client's command, given in JSON, in protobuf; `None` if that has no such type of value. What the definition does not
/// have is not in its message either.
pub(crate) fn command(json: &Value) -> Option<Vec<u8>> {
    Some(message(&definition("ClientMessage"), json)?.encode_to_vec())
}

/// The message that an object in JSON is.
pub(crate) fn message(definition: &MessageDescriptor, json: &Value) -> Option<DynamicMessage> {
    let mut message = DynamicMessage::new(definition.clone());
    for (name, value) in json.as_object()? {
        let (name, is_base64) = match name.as_str() {
            "base64" => ("bytes", true),
            name => name.strip_suffix("_base64").map_or((name, false), |name| (name, true)),
        };
        let Some(field) = definition.get_field_by_name(name) else {
            message.merge(UNDEFINED).expect("it may be there");
            continue;
        };
        let value = match (name, value) {
            ("topics", Value::Array(topics)) => {
                let topics =
                    topics.iter().map(|topic| Some(Field::Bytes(bytes(topic.as_str()?, is_base64)?)));
                let mut all = message.get_field(&field).as_list()?.to_vec();
                all.extend(topics.collect::<Option<Vec<_>>>()?);
                Field::List(all)
            }
            ("topic" | "bytes", Value::String(text)) => Field::Bytes(bytes(text, is_base64)?),
            ("data", data) => Field::String(data.to_string()),
            ("parts", Value::Array(parts)) => Field::List(parts.iter().map(part).collect::<Option<_>>()?),
            (_, value) => set(&field, value)?,
        };
        message.set_field(&field, value);
    }
    Some(message)
}

fn part(part: &Value) -> Option<Field> {
    let (name, value) = part.as_object()?.iter().next()?;
    Some(Field::Bytes(match name.as_str() {
        "data" => value.to_string().into(),
        "text" => bytes(value.as_str()?, false)?,
        _ => bytes(value.as_str()?, true)?,
    }))
}

fn bytes(text: &str, is_base64: bool) -> Option<Bytes> {
    if is_base64 {
        return STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok().map(Bytes::from);
    }
    Some(text.to_owned().into())
}

fn set(field: &FieldDescriptor, value: &Value) -> Option<Field> {
    Some(match field.kind() {
        Kind::Bool => Field::Bool(value.as_bool()?),
        Kind::Uint64 => Field::U64(value.as_u64()?),
        Kind::Double => Field::F64(value.as_f64()?),
        Kind::String => Field::String(value.as_str()?.to_owned()),
        Kind::Message(inner) => Field::Message(message(&inner, value)?),
        Kind::Enum(words) => {
            let is_it = |word: &EnumValueDescriptor| Some(&*word_of(&words, word.name())) == value.as_str();
            Field::EnumNumber(words.values().find(is_it).map_or(UNDEFINED_VALUE, |word| word.number()))
        }
        other => panic!("{other:?}"),
    })
}
