//! JSON made of another format, within bounds that hold whatever the body claims to be.

use std::io::Write as _;

use prost_reflect::prost_types::Timestamp;

use super::{Cause, Undecoded};
use crate::encode::{JSON_DEPTH_MAX, syntax};

/// Elements of arrays and fields of objects that a decoded body may have, all together: more than any list that a page
/// shows, and not so many that telling them apart takes memory.
pub(super) const ENTRIES_MAX: usize = 1 << 17;

/// The largest integer that JavaScript's numbers hold exactly, 2^53 − 1.
const SAFE_INTEGER_MAX: i128 = (1 << 53) - 1;

/// Seconds of the years 1 to 9999, those that RFC 3339 can say.
const RFC_3339_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

const BUFFER: &str = "writing to a buffer does not fail";

pub(super) type Written = Result<(), Undecoded>;

/// JSON that is being written.
#[derive(Debug)]
pub(super) struct Json {
    out: Vec<u8>,
    bytes_max: usize,
    entries: usize,
    depth: usize,
}

impl Json {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { out: Vec::new(), bytes_max, entries: 0, depth: 0 }
    }

    /// The whole text, if it is not too long.
    pub(super) fn finish(self) -> Result<String, Undecoded> {
        self.room_for(0)?;
        Ok(String::from_utf8(self.out).expect("only texts and ASCII are written"))
    }

    fn room_for(&self, bytes: usize) -> Written {
        if self.out.len() + bytes <= self.bytes_max {
            return Ok(());
        }
        Err(Undecoded::new(Cause::TooLarge, format!("more than {} bytes as JSON", self.bytes_max)))
    }

    fn open(&mut self, bracket: u8) -> Written {
        self.depth += 1;
        if self.depth > JSON_DEPTH_MAX {
            return Err(too_deep());
        }
        self.out.push(bracket);
        Ok(())
    }

    fn close(&mut self, bracket: u8) {
        self.depth -= 1;
        self.out.push(bracket);
    }

    /// Writes an array of what `elements` writes, each behind a call of [`element`](Self::element).
    pub(super) fn array(&mut self, elements: impl FnOnce(&mut Self) -> Written) -> Written {
        self.open(b'[')?;
        elements(self)?;
        self.close(b']');
        Ok(())
    }

    /// Writes an object of what `fields` writes, each behind a call of [`key`](Self::key).
    pub(super) fn object(&mut self, fields: impl FnOnce(&mut Self) -> Written) -> Written {
        self.open(b'{')?;
        fields(self)?;
        self.close(b'}');
        Ok(())
    }

    /// One more element; its value must follow.
    pub(super) fn element(&mut self) -> Written {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(too_many());
        }
        self.room_for(0)?;
        // No value ends in an opening bracket.
        if !matches!(self.out.last(), Some(b'[' | b'{')) {
            self.out.push(b',');
        }
        Ok(())
    }

    /// One more field; its value must follow.
    pub(super) fn key(&mut self, key: &str) -> Written {
        self.element()?;
        self.string(key)?;
        self.out.push(b':');
        Ok(())
    }

    pub(super) fn null(&mut self) {
        self.out.extend_from_slice(b"null");
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// A number, or a string where JavaScript would round.
    pub(super) fn integer(&mut self, value: i128) {
        let quote = if value.unsigned_abs() > SAFE_INTEGER_MAX.unsigned_abs() { "\"" } else { "" };
        write!(self.out, "{quote}{value}{quote}").expect(BUFFER);
    }

    /// A number, or of what JSON lacks a string, as protobuf has it.
    pub(super) fn double(&mut self, value: f64) {
        match non_finite(value) {
            Some(name) => write!(self.out, "\"{name}\"").expect(BUFFER),
            None => syntax::float(value, &mut self.out),
        }
    }

    /// The same, with as many digits as 32 bits have.
    pub(super) fn float(&mut self, value: f32) {
        match non_finite(value.into()) {
            Some(name) => write!(self.out, "\"{name}\"").expect(BUFFER),
            None => serde_json::to_writer(&mut self.out, &value).expect(BUFFER),
        }
    }

    pub(super) fn string(&mut self, text: &str) -> Written {
        self.room_for(text.len())?;
        syntax::string(text, &mut self.out);
        Ok(())
    }

    pub(super) fn base64(&mut self, bytes: &[u8]) -> Written {
        self.room_for(bytes.len())?;
        syntax::base64(bytes, &mut self.out);
        Ok(())
    }
}

/// The text of a float as an object's key.
pub(super) fn double_key(value: f64) -> String {
    match non_finite(value) {
        Some(name) => name.to_owned(),
        None => serde_json::to_string(&value).expect(BUFFER),
    }
}

fn non_finite(value: f64) -> Option<&'static str> {
    match value {
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ if value.is_nan() => Some("NaN"),
        _ => None,
    }
}

/// A time as RFC 3339 has it, with 0, 3, 6 or 9 digits behind the second; `None` if it cannot.
pub(super) fn time(seconds: i64, nanos: u32) -> Option<String> {
    let nanos = i32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    RFC_3339_SECONDS.contains(&seconds).then(|| Timestamp { seconds, nanos }.to_string())
}

pub(super) fn too_deep() -> Undecoded {
    Undecoded::new(Cause::TooDeep, format!("nested more than {JSON_DEPTH_MAX} deep"))
}

pub(super) fn too_many() -> Undecoded {
    Undecoded::new(Cause::TooMany, format!("more than {ENTRIES_MAX} elements and fields"))
}
