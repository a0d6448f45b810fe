//! What bodies are, where the configuration says it: by a topic's prefix, from bytes to JSON, text or an event.
//!
//! Nothing here knows of clients or formats: [`encode`](crate::encode) asks when the first client in the process wants a
//! message in a format that shows decoded bodies, and keeps the answer with the message.

mod cbor;
mod inflate;
mod input;
mod json;
mod kind;
mod msgpack;
mod protobuf;
#[cfg(test)]
mod python;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use trestle_messages::v1::Event;

pub use kind::BodyKind;
pub use protobuf::{NoType, Protobuf};

/// Characters of what a body's own words may take in a reason.
const WHY_CHARS_MAX: usize = 200;

/// What the bodies of some topics are.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Topics begin so. The longest of several decides; the empty one is of all.
    pub prefix: Vec<u8>,
    /// How they are compressed.
    pub decompress: Option<Compression>,
    /// What they are then.
    pub body: BodyKind,
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1950.
    Zlib,
    /// RFC 1952, any number of members.
    Gzip,
}

/// Why a body does not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It does not decompress.
    Compression,
    /// It is no such thing as the configuration says.
    Malformed,
    /// Decompressed, or as JSON, it has more bytes than a body may have.
    TooLarge,
    /// It is nested deeper than [`JSON_DEPTH_MAX`](crate::encode::JSON_DEPTH_MAX).
    TooDeep,
    /// It has more elements and fields than a body may have.
    TooMany,
}

impl Cause {
    /// All, by their number.
    pub const ALL: [Self; 5] =
        [Self::Compression, Self::Malformed, Self::TooLarge, Self::TooDeep, Self::TooMany];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compression => "compression",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::TooMany => "too_many",
        }
    }
}

/// What a body is found to be.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    /// JSON of any kind.
    Data(Cow<'a, str>),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Event(Box<Event>),
}

/// A body that does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undecoded {
    pub(crate) cause: Cause,
    /// For people.
    pub(crate) why: String,
}

impl Undecoded {
    fn new(cause: Cause, why: impl ToString) -> Self {
        let mut why = why.to_string();
        if let Some((end, _)) = why.char_indices().nth(WHY_CHARS_MAX) {
            why.truncate(end);
            why.push('…');
        }
        Self { cause, why }
    }

    fn malformed(why: impl ToString) -> Self {
        Self::new(Cause::Malformed, why)
    }
}

/// Two decoders are for the same prefix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the prefix `{}` has a decoder already", String::from_utf8_lossy(.prefix))]
pub struct SamePrefix {
    /// Of both.
    pub prefix: Vec<u8>,
    /// The place of the second among those given, from 0.
    pub second: usize,
}

/// Bodies of one kind, counted.
#[derive(Debug, Default)]
struct Counts {
    decoded: AtomicU64,
    undecoded: [AtomicU64; Cause::ALL.len()],
}

/// All that are configured, shared by all shards, with what they have counted. The default has none.
#[derive(Debug, Default)]
pub struct Decoders {
    /// By prefix.
    decoders: Box<[Decoder]>,
    /// Of each the one with the longest prefix that its own begins with.
    shorter: Box<[Option<usize>]>,
    bytes_max: usize,
    counts: [Counts; BodyKind::NAMES.len()],
}

impl Decoders {
    /// These; a body may have `bytes_max` bytes when it is decompressed, and so many as JSON.
    ///
    /// # Errors
    /// If two have the same prefix.
    pub fn new(mut decoders: Vec<Decoder>, bytes_max: usize) -> Result<Self, SamePrefix> {
        for (second, decoder) in decoders.iter().enumerate() {
            if decoders[..second].iter().any(|first| first.prefix == decoder.prefix) {
                return Err(SamePrefix { prefix: decoder.prefix.clone(), second });
            }
        }
        decoders.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        let shorter = |nth: usize| {
            decoders[..nth].iter().rposition(|shorter| decoders[nth].prefix.starts_with(&shorter.prefix))
        };
        let shorter = (0..decoders.len()).map(shorter).collect();
        Ok(Self { decoders: decoders.into(), shorter, bytes_max, ..Self::default() })
    }

    /// The decoder for a topic, if there is one.
    pub(crate) fn of(&self, topic: &[u8]) -> Option<&Decoder> {
        // Whatever prefixes of the topic there are, the last one up to it begins with all of them.
        let up_to = self.decoders.partition_point(|decoder| decoder.prefix[..] <= *topic);
        let mut nth = up_to.checked_sub(1)?;
        while !topic.starts_with(&self.decoders[nth].prefix) {
            nth = self.shorter[nth]?;
        }
        Some(&self.decoders[nth])
    }

    /// What `frame` is, which is not empty. Counted each time.
    pub(crate) fn decode<'a>(&self, decoder: &Decoder, frame: &'a [u8]) -> Result<Decoded<'a>, Undecoded> {
        let body = match decoder.decompress {
            None => Ok(Cow::Borrowed(frame)),
            Some(compression) => inflate::inflate(compression, frame, self.bytes_max).map(Cow::Owned),
        };
        let decoded = body.and_then(|body| decoder.body.decode(body, self.bytes_max));
        let counts = &self.counts[decoder.body.index()];
        let count =
            decoded.as_ref().map_or_else(|e| &counts.undecoded[e.cause as usize], |_| &counts.decoded);
        count.fetch_add(1, Ordering::Relaxed);
        decoded
    }

    /// Bodies decoded so far, by [name](BodyKind::NAMES).
    pub fn decoded(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |counts: &Counts| counts.decoded.load(Ordering::Relaxed);
        BodyKind::NAMES.into_iter().zip(self.counts.iter().map(count))
    }

    /// Bodies that did not decode so far, by name and cause.
    pub fn undecoded(&self) -> impl Iterator<Item = (&'static str, Cause, u64)> {
        BodyKind::NAMES.into_iter().zip(&self.counts).flat_map(|(name, counts)| {
            Cause::ALL.map(|cause| (name, cause, counts.undecoded[cause as usize].load(Ordering::Relaxed)))
        })
    }
}
