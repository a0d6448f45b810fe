//! What a client may publish, and how `trestle.v1.json` says it.

use serde_json::value::RawValue;

use super::check;
use super::command::base64;
use super::fields::{Field, Refusal, fields_of};
use crate::ErrorCode;

/// A key has at most so many bytes: a UUID fits with room to spare.
pub const KEY_BYTES_MAX: usize = 64;

/// A publication has at most so many frames behind its topic.
pub const PARTS_MAX: usize = 64;

/// A message for ØMQ: `[topic][body…]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// At most [`TOPIC_BYTES_MAX`](trestle_messages::topic::TOPIC_BYTES_MAX) bytes and not reserved; may be empty.
    pub topic: Vec<u8>,
    /// The frames behind the topic, 1 to [`PARTS_MAX`]. `data` is the sender's JSON text byte for byte, nested at most
    /// [`JSON_DEPTH_MAX`](super::JSON_DEPTH_MAX) deep.
    pub body: Vec<Vec<u8>>,
    /// What tells a repeat from another message that says the same, 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Option<String>,
}

impl Publish {
    /// Bytes of the topic, the frames and the key.
    pub fn bytes(&self) -> usize {
        let body: usize = self.body.iter().map(Vec::len).sum();
        self.topic.len() + body + self.key.as_ref().map_or(0, String::len)
    }
}

const BODIES: [&str; 4] = ["data", "text", "base64", "parts"];

pub(super) fn publish(json: &RawValue) -> Result<Publish, Refusal> {
    const KNOWN: [&str; 7] = ["topic", "topic_base64", "data", "text", "base64", "parts", "key"];
    let fields = fields_of("publish", json)?;
    let mut publish = Publish::default();
    for field in &fields {
        match field.name.as_str() {
            "topic" => publish.topic = check::topic(&field.path(), field.string("a string")?.into_bytes())?,
            "topic_base64" => publish.topic = check::topic(&field.path(), base64(field)?)?,
            "parts" => publish.body = parts(field)?,
            "key" => publish.key = Some(check::key(&field.path(), field.string("a string")?)?),
            body if BODIES.contains(&body) => publish.body = vec![frame(field)?],
            _ => return Err(field.unknown(&KNOWN)),
        }
    }
    only("publish", &fields, &["topic", "topic_base64"])?;
    only("publish", &fields, &BODIES)?;
    Ok(publish)
}

/// What `data`, `text` or `base64` stands for.
fn frame(field: &Field<'_>) -> Result<Vec<u8>, Refusal> {
    match field.name.as_str() {
        "data" => {
            let json = field.value().get();
            check::depth(&field.path(), json).map(|()| json.as_bytes().to_vec())
        }
        "text" => Ok(field.string("a string")?.into_bytes()),
        _ => base64(field),
    }
}

fn parts(field: &Field<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let items = field.array("an array of objects")?;
    check::parts(&field.path(), items.len())?;
    items.into_iter().map(part).collect()
}

fn part(json: &RawValue) -> Result<Vec<u8>, Refusal> {
    const NAME: &str = "publish.parts";
    const KNOWN: [&str; 3] = ["data", "text", "base64"];
    let fields = fields_of(NAME, json)?;
    if let Some(field) = fields.iter().find(|field| !KNOWN.contains(&field.name.as_str())) {
        return Err(field.unknown(&KNOWN));
    }
    only(NAME, &fields, &KNOWN).and_then(frame)
}

/// The one of `fields` that is among `names`.
fn only<'f, 't>(parent: &str, fields: &'f [Field<'t>], names: &[&str]) -> Result<&'f Field<'t>, Refusal> {
    let found: Vec<_> = fields.iter().filter(|field| names.contains(&field.name.as_str())).collect();
    match &found[..] {
        [one] => Ok(one),
        [] => Err(check::one_of(parent, names, "none")),
        [one, other, ..] => {
            Err(check::one_of(parent, names, &format!("both {} and {}", one.path(), other.path())))
        }
    }
}

impl Refusal {
    pub(super) fn too_large(reason: impl Into<String>) -> Self {
        Self::new(ErrorCode::TooLarge, reason)
    }
}
