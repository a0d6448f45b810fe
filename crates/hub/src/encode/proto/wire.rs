//! A walk over a command's protobuf, field by field, that says in words what is wrong with one.
//!
//! Generated types pass over what they do not know, and over all but the last of what comes twice. A client is to hear of
//! both.

use prost::encoding::{WireType, decode_key, decode_varint};

use super::super::fields::{Refusal, quoted};
use crate::ErrorCode;

/// A field as its message is defined.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) wire_type: WireType,
    pub(super) repeated: bool,
}

impl Known {
    /// A number, or true or false.
    pub(super) const fn varint(number: u32, name: &'static str) -> Self {
        Self { number, name, wire_type: WireType::Varint, repeated: false }
    }

    /// A floating-point number.
    pub(super) const fn double(number: u32, name: &'static str) -> Self {
        Self { number, name, wire_type: WireType::SixtyFourBit, repeated: false }
    }

    /// A text, bytes or a message.
    pub(super) const fn bytes(number: u32, name: &'static str) -> Self {
        Self { number, name, wire_type: WireType::LengthDelimited, repeated: false }
    }

    /// Any number of these.
    pub(super) const fn list(number: u32, name: &'static str) -> Self {
        Self { number, name, wire_type: WireType::LengthDelimited, repeated: true }
    }
}

/// A message is no protobuf.
#[derive(Debug)]
pub(super) struct Garbled;

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'t> {
    pub(super) number: u32,
    wire_type: WireType,
    /// What a [`WireType::Varint`] says.
    pub(super) varint: u64,
    /// What stands in any other.
    pub(super) bytes: &'t [u8],
}

/// The fields of `message`, in their order. What is inside them is not looked at.
pub(super) fn fields_of(mut message: &[u8]) -> Result<Vec<Field<'_>>, Garbled> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let (number, wire_type) = decode_key(&mut message).map_err(|_| Garbled)?;
        let (mut varint, mut length) = (0, 0);
        match wire_type {
            WireType::Varint => varint = decode_varint(&mut message).map_err(|_| Garbled)?,
            WireType::SixtyFourBit => length = 8,
            WireType::ThirtyTwoBit => length = 4,
            WireType::LengthDelimited => length = decode_varint(&mut message).map_err(|_| Garbled)?,
            // Groups are of another age; nothing here has one.
            WireType::StartGroup | WireType::EndGroup => return Err(Garbled),
        }
        let length = usize::try_from(length).map_err(|_| Garbled)?;
        let (bytes, rest) = message.split_at_checked(length).ok_or(Garbled)?;
        fields.push(Field { number, wire_type, varint, bytes });
        message = rest;
    }
    Ok(fields)
}

/// Refuses what `parent` does not have, what is of another type, and what may be there once and is there twice.
pub(super) fn check(parent: &str, known: &[Known], fields: &[Field<'_>]) -> Result<(), Refusal> {
    for (nth, field) in fields.iter().enumerate() {
        let Some(is) = known.iter().find(|known| known.number == field.number) else {
            return Err(unknown(parent, known, field.number));
        };
        let path = path(parent, is.name);
        if field.wire_type != is.wire_type {
            let (due, found) = (kind(is.wire_type), kind(field.wire_type));
            return Err(Refusal::bad_request(format!("field {path} must be {due}, not {found}")));
        }
        if !is.repeated && fields[..nth].iter().any(|other| other.number == field.number) {
            return Err(Refusal::bad_request(format!("field {path} is there twice")));
        }
    }
    Ok(())
}

/// The refusal of a field that its message does not have.
fn unknown(parent: &str, known: &[Known], number: u32) -> Refusal {
    let reason = match parent {
        "" => format!("unknown field {number}"),
        _ => format!("unknown field {number} of {}; known are {}", quoted(parent), numbered(known)),
    };
    Refusal::new(ErrorCode::UnknownField, reason)
}

/// Names with their numbers.
pub(super) fn numbered<'k>(known: impl IntoIterator<Item = &'k Known>) -> String {
    let named: Vec<_> = known.into_iter().map(|known| format!("{} ({})", known.name, known.number)).collect();
    named.join(", ")
}

/// A field as the definition names it, for example `subscribe.topics`.
pub(super) fn path(parent: &str, name: &str) -> String {
    if parent.is_empty() { quoted(name) } else { quoted(&format!("{parent}.{name}")) }
}

fn kind(wire_type: WireType) -> &'static str {
    match wire_type {
        WireType::Varint => "a varint",
        WireType::SixtyFourBit => "64 bits",
        WireType::ThirtyTwoBit => "32 bits",
        _ => "length-delimited",
    }
}
