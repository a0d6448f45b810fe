//! What a protobuf body will take in memory, before it takes it: a byte of a packed list is sixty when decoded.

use prost_reflect::prost::DecodeError;
use prost_reflect::prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{Kind, MessageDescriptor};

use crate::decode::input::breaks_off;
use crate::decode::json::{ENTRIES_MAX, too_deep, too_many};
use crate::decode::{Undecoded, kind};

/// Messages in messages; the decoder itself goes no deeper.
const DEPTH_MAX: usize = 100;

/// Refuses a body of more than [`ENTRIES_MAX`] fields and elements.
pub(super) fn check(message: &MessageDescriptor, body: &[u8]) -> Result<(), Undecoded> {
    // Each takes a byte at least; so most bodies need no look.
    if body.len() <= ENTRIES_MAX {
        return Ok(());
    }
    Scale { entries: 0 }.message(message, &mut { body }, None, DEPTH_MAX)
}

struct Scale {
    entries: usize,
}

impl Scale {
    /// The fields of a message, up to its end, or to that of the `group`.
    fn message(
        &mut self,
        message: &MessageDescriptor,
        body: &mut &[u8],
        group: Option<u32>,
        depth_left: usize,
    ) -> Result<(), Undecoded> {
        let depth_left = depth_left.checked_sub(1).ok_or_else(too_deep)?;
        while !body.is_empty() {
            let (number, wire_type) = decode_key(body).map_err(malformed)?;
            self.add(1)?;
            let field = message.get_field(number);
            match wire_type {
                WireType::Varint => drop(decode_varint(body).map_err(malformed)?),
                WireType::SixtyFourBit => drop(take(body, 8)?),
                WireType::ThirtyTwoBit => drop(take(body, 4)?),
                WireType::StartGroup => {
                    let inner = field.and_then(|field| field.kind().as_message().cloned());
                    // What is unknown is kept, too.
                    self.message(inner.as_ref().unwrap_or(message), body, Some(number), depth_left)?;
                }
                WireType::EndGroup if group == Some(number) => return Ok(()),
                WireType::EndGroup => return Err(breaks_off()),
                WireType::LengthDelimited => {
                    let length = decode_varint(body).map_err(malformed)?;
                    let inner = take(body, usize::try_from(length).unwrap_or(usize::MAX))?;
                    let Some(field) = field else { continue };
                    match field.kind() {
                        Kind::Message(of) => self.message(&of, &mut { inner }, None, depth_left)?,
                        kind if field.is_list() => self.add(packed(&kind, inner))?,
                        _ => {}
                    }
                }
            }
        }
        if group.is_some() { Err(breaks_off()) } else { Ok(()) }
    }

    fn add(&mut self, entries: usize) -> Result<(), Undecoded> {
        self.entries += entries;
        if self.entries > ENTRIES_MAX { Err(too_many()) } else { Ok(()) }
    }
}

/// Elements of a list in one piece.
fn packed(kind: &Kind, bytes: &[u8]) -> usize {
    match kind {
        Kind::String | Kind::Bytes | Kind::Message(_) => 0,
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => bytes.len() / 8,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => bytes.len() / 4,
        _ => bytes.iter().filter(|byte| **byte < 0x80).count(),
    }
}

fn take<'a>(body: &mut &'a [u8], n: usize) -> Result<&'a [u8], Undecoded> {
    let (taken, rest) = body.split_at_checked(n).ok_or_else(breaks_off)?;
    *body = rest;
    Ok(taken)
}

fn malformed(error: DecodeError) -> Undecoded {
    kind::no_protobuf(&error)
}
