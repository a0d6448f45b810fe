//! MessagePack, straight to JSON. docs/decoders.md has the mapping.
//!
//! Without a tree between them: one byte of an array claims four billion elements, and a body of nils would take forty
//! times its size.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmp::Marker;

use super::Undecoded;
use super::input::Input;
use super::json::{self, Json, Written};

/// The type of a timestamp among extensions.
const TIMESTAMP: i8 = -1;

/// The JSON of a body of exactly one value.
pub(super) fn to_json(body: &[u8], bytes_max: usize) -> Result<String, Undecoded> {
    let (mut input, mut json) = (Input::new(body), Json::new(bytes_max));
    write(&mut input, &mut json)?;
    input.end()?;
    json.finish()
}

/// What a marker and the bytes behind it say. Elements are still to be read.
enum Item<'a> {
    Nil,
    Bool(bool),
    Integer(i128),
    Float(f64),
    /// UTF-8 where its publisher keeps to it.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Array(usize),
    Map(usize),
    Extension(i8, &'a [u8]),
}

fn item<'a>(input: &mut Input<'a>) -> Result<Item<'a>, Undecoded> {
    Ok(match Marker::from_u8(input.byte()?) {
        Marker::Null => Item::Nil,
        Marker::True => Item::Bool(true),
        Marker::False => Item::Bool(false),
        Marker::FixPos(value) => Item::Integer(value.into()),
        Marker::FixNeg(value) => Item::Integer(value.into()),
        Marker::U8 => Item::Integer(input.byte()?.into()),
        Marker::U16 => Item::Integer(u16::from_be_bytes(input.array()?).into()),
        Marker::U32 => Item::Integer(u32::from_be_bytes(input.array()?).into()),
        Marker::U64 => Item::Integer(u64::from_be_bytes(input.array()?).into()),
        Marker::I8 => Item::Integer(i8::from_be_bytes(input.array()?).into()),
        Marker::I16 => Item::Integer(i16::from_be_bytes(input.array()?).into()),
        Marker::I32 => Item::Integer(i32::from_be_bytes(input.array()?).into()),
        Marker::I64 => Item::Integer(i64::from_be_bytes(input.array()?).into()),
        Marker::F32 => Item::Float(f32::from_be_bytes(input.array()?).into()),
        Marker::F64 => Item::Float(f64::from_be_bytes(input.array()?)),
        Marker::FixStr(bytes) => Item::Text(input.take(bytes.into())?),
        Marker::Str8 => length::<1>(input).and_then(|bytes| input.take(bytes)).map(Item::Text)?,
        Marker::Str16 => length::<2>(input).and_then(|bytes| input.take(bytes)).map(Item::Text)?,
        Marker::Str32 => length::<4>(input).and_then(|bytes| input.take(bytes)).map(Item::Text)?,
        Marker::Bin8 => length::<1>(input).and_then(|bytes| input.take(bytes)).map(Item::Bytes)?,
        Marker::Bin16 => length::<2>(input).and_then(|bytes| input.take(bytes)).map(Item::Bytes)?,
        Marker::Bin32 => length::<4>(input).and_then(|bytes| input.take(bytes)).map(Item::Bytes)?,
        Marker::FixArray(n) => Item::Array(n.into()),
        Marker::Array16 => Item::Array(length::<2>(input)?),
        Marker::Array32 => Item::Array(length::<4>(input)?),
        Marker::FixMap(n) => Item::Map(n.into()),
        Marker::Map16 => Item::Map(length::<2>(input)?),
        Marker::Map32 => Item::Map(length::<4>(input)?),
        Marker::FixExt1 => extension(input, 1)?,
        Marker::FixExt2 => extension(input, 2)?,
        Marker::FixExt4 => extension(input, 4)?,
        Marker::FixExt8 => extension(input, 8)?,
        Marker::FixExt16 => extension(input, 16)?,
        Marker::Ext8 => length::<1>(input).and_then(|bytes| extension(input, bytes))?,
        Marker::Ext16 => length::<2>(input).and_then(|bytes| extension(input, bytes))?,
        Marker::Ext32 => length::<4>(input).and_then(|bytes| extension(input, bytes))?,
        Marker::Reserved => {
            return Err(Undecoded::malformed(format!("0xc1 at byte {} says nothing", input.at() - 1)));
        }
    })
}

/// A length of `N` bytes, big-endian.
fn length<const N: usize>(input: &mut Input<'_>) -> Result<usize, Undecoded> {
    Ok(input.array::<N>()?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
}

fn extension<'a>(input: &mut Input<'a>, bytes: usize) -> Result<Item<'a>, Undecoded> {
    let kind = i8::from_be_bytes(input.array()?);
    Ok(Item::Extension(kind, input.take(bytes)?))
}

/// Recurses as deep as [`Json`] lets arrays and objects nest.
fn write(input: &mut Input<'_>, json: &mut Json) -> Written {
    match item(input)? {
        Item::Nil => json.null(),
        Item::Bool(value) => json.bool(value),
        Item::Integer(value) => json.integer(value),
        Item::Float(value) => json.double(value),
        Item::Text(text) => match str::from_utf8(text) {
            Ok(text) => json.string(text)?,
            // Before there was a type for bytes, texts were used for them.
            Err(_) => json.base64(text)?,
        },
        Item::Bytes(bytes) => json.base64(bytes)?,
        Item::Array(n) => json.array(|json| {
            (0..n).try_for_each(|_| {
                json.element()?;
                write(input, json)
            })
        })?,
        Item::Map(n) => json.object(|json| {
            (0..n).try_for_each(|_| {
                json.key(&key(input)?)?;
                write(input, json)
            })
        })?,
        Item::Extension(kind, bytes) => match (kind == TIMESTAMP).then(|| timestamp(bytes)).flatten() {
            Some(time) => json.string(&time)?,
            None => json.object(|json| {
                json.key("ext")?;
                json.integer(kind.into());
                json.key("base64")?;
                json.base64(bytes)
            })?,
        },
    }
    Ok(())
}

/// What may be a key in JSON, as text.
fn key<'a>(input: &mut Input<'a>) -> Result<Cow<'a, str>, Undecoded> {
    let at = input.at();
    let what = match item(input)? {
        Item::Nil => return Ok("null".into()),
        Item::Bool(value) => return Ok(value.to_string().into()),
        Item::Integer(value) => return Ok(value.to_string().into()),
        Item::Float(value) => return Ok(json::double_key(value).into()),
        Item::Text(text) => {
            return Ok(str::from_utf8(text).map_or_else(|_| STANDARD.encode(text).into(), Cow::Borrowed));
        }
        Item::Bytes(bytes) => return Ok(STANDARD.encode(bytes).into()),
        Item::Extension(TIMESTAMP, bytes) => match timestamp(bytes) {
            Some(time) => return Ok(time.into()),
            None => "an extension",
        },
        Item::Extension(..) => "an extension",
        Item::Array(_) => "an array",
        Item::Map(_) => "a map",
    };
    Err(Undecoded::malformed(format!("{what} at byte {at} is a key, which JSON cannot have")))
}

/// The three forms of a timestamp: 32 bits of seconds; 30 of nanoseconds and 34 of seconds; 32 and 64.
fn timestamp(bytes: &[u8]) -> Option<String> {
    if let Ok(seconds) = bytes.try_into().map(u32::from_be_bytes) {
        return json::time(seconds.into(), 0);
    }
    if let Ok(both) = bytes.try_into().map(u64::from_be_bytes) {
        let (nanos, seconds) = (both >> 34, both & ((1 << 34) - 1));
        return json::time(seconds.cast_signed(), u32::try_from(nanos).ok()?);
    }
    let (nanos, seconds) = bytes.split_first_chunk::<4>()?;
    json::time(i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(*nanos))
}
