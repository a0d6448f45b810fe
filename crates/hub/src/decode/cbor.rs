//! CBOR (RFC 8949), straight to JSON. docs/decoders.md has the mapping.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium_ll::{Decoder, Error, Header};

use super::Undecoded;
use super::input::breaks_off;
use super::json::{self, Json, Written};

/// Tags with a meaning here.
mod tag {
    /// A time as RFC 3339 has it, which is a text already.
    pub(super) const TIME_TEXT: u64 = 0;
    /// Seconds since 1970.
    pub(super) const TIME: u64 = 1;
    pub(super) const BIG_POSITIVE: u64 = 2;
    pub(super) const BIG_NEGATIVE: u64 = 3;
    /// "This is CBOR."
    pub(super) const SELF_DESCRIBED: u64 = 55_799;
}

/// Tags one in the other, where the outer ones leave nothing in JSON.
const TAGS_MAX: usize = 16;

/// The JSON of a body of exactly one item.
pub(super) fn to_json(body: &[u8], bytes_max: usize) -> Result<String, Undecoded> {
    let mut input = Input { decoder: Decoder::from(body), begun_at: 0, body, tags: 0 };
    let mut json = Json::new(bytes_max);
    let header = input.header()?;
    input.write(header, &mut json)?;
    match body.len() - input.at() {
        0 => json.finish(),
        behind => Err(Undecoded::malformed(format!("{behind} bytes behind its end"))),
    }
}

struct Input<'a> {
    decoder: Decoder<&'a [u8]>,
    /// In the body, where that one began.
    begun_at: usize,
    body: &'a [u8],
    /// Of those that say that it is CBOR: how many stand around the next item.
    tags: usize,
}

impl<'a> Input<'a> {
    /// Where the next byte is in the body.
    fn at(&mut self) -> usize {
        self.begun_at + self.decoder.offset()
    }

    fn header(&mut self) -> Result<Header, Undecoded> {
        self.decoder.pull().map_err(|error| match error {
            Error::Io(_) => breaks_off(),
            Error::Syntax(at) => Undecoded::malformed(format!("no CBOR at byte {}", self.begun_at + at)),
        })
    }

    /// A whole item, but for its header. Recurses as deep as [`Json`] lets arrays and objects nest.
    fn write(&mut self, header: Header, json: &mut Json) -> Written {
        match header {
            Header::Positive(value) => json.integer(value.into()),
            Header::Negative(value) => json.integer(negative(value)),
            Header::Float(value) => json.double(value),
            Header::Simple(20) => json.bool(false),
            Header::Simple(21) => json.bool(true),
            // The second is `undefined`.
            Header::Simple(22 | 23) => json.null(),
            Header::Simple(value) => json.object(|json| {
                json.key("simple")?;
                json.integer(value.into());
                Ok(())
            })?,
            Header::Bytes(length) => json.base64(&self.bytes(length)?)?,
            Header::Text(length) => json.string(&self.text(length)?)?,
            Header::Array(n) => json.array(|json| {
                self.each(n, |input, header| {
                    json.element()?;
                    input.write(header, json)
                })
            })?,
            Header::Map(n) => json.object(|json| {
                self.each(n, |input, header| {
                    json.key(&input.key(header)?)?;
                    let header = input.header()?;
                    input.write(header, json)
                })
            })?,
            Header::Tag(number) => self.tagged(number, json)?,
            Header::Break => return Err(self.malformed("a break where nothing is open")),
        }
        Ok(())
    }

    /// `n` times, or until a break.
    fn each(&mut self, n: Option<usize>, mut item: impl FnMut(&mut Self, Header) -> Written) -> Written {
        let mut left = n;
        while left != Some(0) {
            let header = self.header()?;
            if n.is_none() && header == Header::Break {
                break;
            }
            item(self, header)?;
            left = left.map(|left| left - 1);
        }
        Ok(())
    }

    fn tagged(&mut self, number: u64, json: &mut Json) -> Written {
        let header = self.header()?;
        match (number, header) {
            (tag::SELF_DESCRIBED, _) => {
                self.tags += 1;
                if self.tags > TAGS_MAX {
                    return Err(json::too_deep());
                }
                self.write(header, json)?;
                self.tags -= 1;
                Ok(())
            }
            (tag::TIME_TEXT, Header::Text(length)) => json.string(&self.text(length)?),
            (tag::TIME, Header::Positive(_) | Header::Negative(_) | Header::Float(_)) => match time(header) {
                Some(time) => json.string(&time),
                None => self.any_tagged(number, header, json),
            },
            (tag::BIG_POSITIVE | tag::BIG_NEGATIVE, Header::Bytes(length)) => {
                let bytes = self.bytes(length)?;
                match big(&bytes) {
                    Some(value) if number == tag::BIG_POSITIVE => json.integer(value),
                    Some(value) => json.integer(-1 - value),
                    None => return tag_object(number, json, |json| json.base64(&bytes)),
                }
                Ok(())
            }
            _ => self.any_tagged(number, header, json),
        }
    }

    /// A tag that says nothing here, beside what it is for.
    fn any_tagged(&mut self, number: u64, header: Header, json: &mut Json) -> Written {
        tag_object(number, json, |json| self.write(header, json))
    }

    /// What may be a key in JSON, as text.
    fn key(&mut self, header: Header) -> Result<Cow<'a, str>, Undecoded> {
        let what = match header {
            Header::Positive(value) => return Ok(value.to_string().into()),
            Header::Negative(value) => return Ok(negative(value).to_string().into()),
            Header::Float(value) => return Ok(json::double_key(value).into()),
            Header::Simple(20) => return Ok("false".into()),
            Header::Simple(21) => return Ok("true".into()),
            Header::Simple(22 | 23) => return Ok("null".into()),
            Header::Bytes(length) => return Ok(STANDARD.encode(self.bytes(length)?).into()),
            Header::Text(length) => return self.text(length),
            Header::Simple(_) => "a simple value",
            Header::Array(_) => "an array",
            Header::Map(_) => "a map",
            Header::Tag(_) => "a tag",
            Header::Break => "a break",
        };
        Err(self.malformed(&format!("{what} is a key, which JSON cannot have")))
    }

    fn text(&mut self, length: Option<usize>) -> Result<Cow<'a, str>, Undecoded> {
        let at = self.at();
        let text = match self.string(length, |header| match header {
            Header::Text(length) => Some(length),
            _ => None,
        })? {
            Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        text.ok_or_else(|| Undecoded::malformed(format!("a text at byte {at} is no UTF-8")))
    }

    fn bytes(&mut self, length: Option<usize>) -> Result<Cow<'a, [u8]>, Undecoded> {
        self.string(length, |header| match header {
            Header::Bytes(length) => Some(length),
            _ => None,
        })
    }

    /// A string in one piece, or in pieces of known length up to a break.
    fn string(
        &mut self,
        length: Option<usize>,
        piece: impl Fn(Header) -> Option<Option<usize>>,
    ) -> Result<Cow<'a, [u8]>, Undecoded> {
        if let Some(length) = length {
            return self.take(length).map(Cow::Borrowed);
        }
        let mut whole = Vec::new();
        loop {
            let header = self.header()?;
            match piece(header) {
                Some(Some(length)) => whole.extend_from_slice(self.take(length)?),
                _ if header == Header::Break => return Ok(whole.into()),
                _ => return Err(self.malformed("a string of pieces that are none")),
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Undecoded> {
        let at = self.at();
        let rest = &self.body[at.min(self.body.len())..];
        let (taken, rest) = rest.split_at_checked(length).ok_or_else(breaks_off)?;
        (self.decoder, self.begun_at) = (Decoder::from(rest), at + length);
        Ok(taken)
    }

    fn malformed(&mut self, what: &str) -> Undecoded {
        let at = self.at();
        Undecoded::malformed(format!("{what}, before byte {at}"))
    }
}

fn tag_object(number: u64, json: &mut Json, value: impl FnOnce(&mut Json) -> Written) -> Written {
    json.object(|json| {
        json.key("tag")?;
        json.integer(number.into());
        json.key("value")?;
        value(json)
    })
}

/// All bits of a negative integer's header are the other way round.
fn negative(value: u64) -> i128 {
    -1 - i128::from(value)
}

/// The text of a time in seconds, to a microsecond where it has a fraction.
fn time(seconds: Header) -> Option<String> {
    match seconds {
        Header::Positive(seconds) => json::time(seconds.try_into().ok()?, 0),
        Header::Negative(seconds) => json::time(negative(seconds).try_into().ok()?, 0),
        Header::Float(seconds) if seconds.is_finite() => {
            let whole = seconds.floor();
            let micros = ((seconds - whole) * 1e6).round_ties_even() as u32;
            let (whole, micros) = if micros == 1_000_000 { (whole + 1.0, 0) } else { (whole, micros) };
            json::time(whole as i64, micros * 1_000)
        }
        _ => None,
    }
}

/// An integer of up to 15 bytes.
fn big(bytes: &[u8]) -> Option<i128> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = &bytes[zeros..];
    (bytes.len() < size_of::<i128>())
        .then(|| bytes.iter().fold(0, |value, byte| value << 8 | i128::from(*byte)))
}
