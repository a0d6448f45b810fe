//! The kinds of bodies, each from its bytes.

use std::borrow::Cow;

use bytes::Bytes;
use prost::{DecodeError, Message as _};
use serde::de::IgnoredAny;
use trestle_messages::v1::Event;

use super::json::too_deep;
use super::{Decoded, Protobuf, Undecoded, cbor, msgpack};
use crate::encode::{JSON_DEPTH_MAX, is_deeper_than};

/// What a body is.
#[derive(Debug, Clone)]
pub enum BodyKind {
    /// JSON of any kind, also a lone number or string; passed on byte for byte.
    Json,
    /// UTF-8, whatever it looks like.
    Text,
    /// Bytes, whatever they look like.
    Binary,
    /// A protobuf `trestle.v1.Event`.
    Event,
    /// A protobuf message of this type.
    Protobuf(Protobuf),
    /// A MessagePack value.
    Msgpack,
    /// A CBOR item (RFC 8949).
    Cbor,
}

impl BodyKind {
    /// All names, by their number.
    pub const NAMES: [&'static str; 7] = ["json", "text", "binary", "event", "protobuf", "msgpack", "cbor"];

    pub(super) fn index(&self) -> usize {
        match self {
            Self::Json => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Event => 3,
            Self::Protobuf(_) => 4,
            Self::Msgpack => 5,
            Self::Cbor => 6,
        }
    }

    /// As the configuration and metrics name it.
    pub fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }

    pub(super) fn decode<'a>(&self, body: Cow<'a, [u8]>, bytes_max: usize) -> Result<Decoded<'a>, Undecoded> {
        match self {
            Self::Json => json(text(body)?).map(Decoded::Data),
            Self::Text => text(body).map(Decoded::Text),
            Self::Binary => Ok(Decoded::Bytes(body)),
            Self::Event => {
                let event = Event::decode(&body[..]).map_err(|error| no_protobuf(&error))?;
                Ok(Decoded::Event(Box::new(event)))
            }
            Self::Protobuf(of) => made(of.to_json(Bytes::from(body.into_owned()), bytes_max)),
            Self::Msgpack => made(msgpack::to_json(&body, bytes_max)),
            Self::Cbor => made(cbor::to_json(&body, bytes_max)),
        }
    }
}

/// JSON that was made of something else.
fn made<'a>(json: Result<String, Undecoded>) -> Result<Decoded<'a>, Undecoded> {
    json.map(|json| Decoded::Data(Cow::Owned(json)))
}

pub(super) fn no_protobuf(error: &DecodeError) -> Undecoded {
    let why = error.to_string();
    Undecoded::malformed(why.trim_start_matches("failed to decode Protobuf message: "))
}

fn text(body: Cow<'_, [u8]>) -> Result<Cow<'_, str>, Undecoded> {
    match body {
        Cow::Borrowed(bytes) => match simdutf8::compat::from_utf8(bytes) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => Err(no_utf8(error.valid_up_to())),
        },
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(error) => Err(no_utf8(error.utf8_error().valid_up_to())),
        },
    }
}

fn no_utf8(at: usize) -> Undecoded {
    Undecoded::malformed(format!("no UTF-8 at byte {at}"))
}

fn json(text: Cow<'_, str>) -> Result<Cow<'_, str>, Undecoded> {
    serde_json::from_str::<IgnoredAny>(&text)
        .map_err(|error| Undecoded::malformed(format!("no JSON: {error}")))?;
    // A client's parser may recurse.
    if is_deeper_than(JSON_DEPTH_MAX, text.as_bytes()) {
        return Err(too_deep());
    }
    Ok(text)
}
