//! How messages and the rings' beginnings are written into the store.
//!
//! A batch is its [`FORMAT`] and then, for each recorded message: the length of its stamp (one byte), the stamp as on the
//! link, the number of its frames and the length of each (four bytes, little-endian), the frames.

use prost::Message as _;
use trestle_messages::stamp;
use trestle_messages::v1::Stamp;
use trestle_recorder::RingStarts;

/// The first byte of a batch. A later layout takes another, so that old ones are refused, not misread.
const FORMAT: u8 = 1;

/// What is written is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a batch of unknown format")]
    Format,
    #[error("a batch that ends too soon")]
    Short,
    #[error("a message without a stamp")]
    Stamp,
}

/// Messages on their way into the store.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    offsets: Option<(u64, u64)>,
}

impl Batch {
    /// Adds a recorded message; offsets rise.
    pub(super) fn push<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]> + Clone, stamp: &Stamp) {
        if self.bytes.is_empty() {
            self.bytes.push(FORMAT);
        }
        let (encoded, len) = stamp::encode(stamp);
        self.bytes.push(u8::try_from(len).expect("a stamp is 35 bytes at most"));
        self.bytes.extend_from_slice(&encoded[..len]);
        self.bytes.extend_from_slice(&word(frames.clone().count()));
        for frame in frames.clone() {
            self.bytes.extend_from_slice(&word(frame.len()));
        }
        for frame in frames {
            self.bytes.extend_from_slice(frame);
        }
        let first = self.offsets.map_or(stamp.offset, |(first, _)| first);
        self.offsets = Some((first, stamp.offset));
    }

    /// The first and the last offset; `None` if nothing was added.
    pub(super) fn offsets(&self) -> Option<(u64, u64)> {
        self.offsets
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.offsets = None;
    }
}

fn word(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("frames are far below 4 GiB").to_le_bytes()
}

/// A message of a written batch.
#[derive(Debug, PartialEq)]
pub(super) struct Kept<'a> {
    pub(super) stamp: Stamp,
    pub(super) frames: Vec<&'a [u8]>,
}

/// The messages of a batch.
pub(super) fn messages(bytes: &[u8]) -> Result<Vec<Kept<'_>>, Malformed> {
    let (&format, mut rest) = bytes.split_first().ok_or(Malformed::Short)?;
    if format != FORMAT {
        return Err(Malformed::Format);
    }
    let mut messages = Vec::new();
    while !rest.is_empty() {
        messages.push(message(&mut rest)?);
    }
    Ok(messages)
}

fn message<'a>(rest: &mut &'a [u8]) -> Result<Kept<'a>, Malformed> {
    let stamp_len = take(rest, 1)?[0].into();
    let stamp = Stamp::decode(take(rest, stamp_len)?).map_err(|_| Malformed::Stamp)?;
    let n_frames = take_word(rest)?;
    let mut lens = take(rest, n_frames.checked_mul(4).ok_or(Malformed::Short)?)?;
    let frames = (0..n_frames).map(|_| {
        let len = take_word(&mut lens)?;
        take(rest, len)
    });
    let frames = frames.collect::<Result<Vec<_>, _>>()?;
    if stamp.offset == 0 || frames.is_empty() { Err(Malformed::Stamp) } else { Ok(Kept { stamp, frames }) }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(n).ok_or(Malformed::Short)?;
    *rest = left;
    Ok(taken)
}

fn take_word(rest: &mut &[u8]) -> Result<usize, Malformed> {
    let bytes = take(rest, 4)?.try_into().expect("four were taken");
    usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| Malformed::Short)
}

/// What the store knows beside the messages.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sequence {
    #[prost(fixed64, tag = "1")]
    pub(super) epoch: u64,
    /// Each record rule's prefix, and the offset behind which its ring has every message.
    #[prost(message, repeated, tag = "2")]
    rings: Vec<RingStart>,
    /// All last values are behind this offset.
    #[prost(uint64, tag = "3")]
    last_values_after: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RingStart {
    #[prost(bytes = "vec", tag = "1")]
    prefix: Vec<u8>,
    #[prost(uint64, tag = "2")]
    after: u64,
}

impl Sequence {
    pub(super) fn new(epoch: u64, starts: RingStarts) -> Self {
        let ring = |(prefix, after)| RingStart { prefix, after };
        let rings = starts.rings.into_iter().map(ring).collect();
        Self { epoch, rings, last_values_after: starts.last_values_after }
    }

    pub(super) fn starts(self) -> RingStarts {
        let rings = self.rings.into_iter().map(|RingStart { prefix, after }| (prefix, after)).collect();
        RingStarts { rings, last_values_after: self.last_values_after }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Given = Vec<(Vec<Vec<u8>>, bool, u32)>;

    fn given() -> impl Strategy<Value = Given> {
        vec((vec(vec(any::<u8>(), 0..40), 1..5), any::<bool>(), any::<u32>()), 1..20)
    }

    fn batch(given: &Given) -> Batch {
        let mut batch = Batch::default();
        for (offset, (frames, original_frames, body_start)) in (5..).zip(given) {
            let stamp = Stamp {
                epoch: 3,
                offset,
                time_unix_ns: 9,
                original_frames: *original_frames,
                body_start: *body_start,
            };
            batch.push(frames.iter().map(Vec::as_slice), &stamp);
        }
        batch
    }

    proptest! {
        #[test]
        fn messages_come_back_as_they_went_in(given in given()) {
            let batch = batch(&given);
            let messages = messages(batch.bytes()).unwrap();
            let frames: Vec<_> = messages.iter().map(|message| &message.frames).collect();
            let expected: Vec<_> = given.iter().map(|(frames, _, _)| frames).collect();
            prop_assert_eq!(frames, expected);
            for ((offset, message), (_, original_frames, body_start)) in (5..).zip(&messages).zip(&given) {
                let Stamp { epoch, time_unix_ns, .. } = message.stamp;
                prop_assert_eq!((epoch, message.stamp.offset, time_unix_ns), (3, offset, 9));
                prop_assert_eq!(message.stamp.original_frames, *original_frames);
                prop_assert_eq!(message.stamp.body_start, *body_start);
            }
            prop_assert_eq!(batch.offsets(), Some((5, 4 + given.len() as u64)));
        }

        #[test]
        fn what_is_cut_short_gives_no_more_than_it_had(given in given(), cut: prop::sample::Index) {
            let batch = batch(&given);
            let bytes = &batch.bytes()[..cut.index(batch.bytes().len())];
            if let Ok(messages) = messages(bytes) {
                prop_assert!(messages.len() < given.len(), "cut where a message ended");
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = messages(&bytes);
        }
    }

    #[test]
    fn another_format_is_refused() {
        assert_eq!(messages(&[2, 0]), Err(Malformed::Format));
        assert_eq!(messages(&[]), Err(Malformed::Short));
    }

    #[test]
    fn ring_starts_come_back() {
        let rings = vec![(b"jobs/".to_vec(), 7), (Vec::new(), 0)];
        let starts = RingStarts { rings, last_values_after: 3 };
        let bytes = Sequence::new(9, starts.clone()).encode_to_vec();
        let back = Sequence::decode(&bytes[..]).unwrap();
        assert_eq!((back.epoch, back.starts()), (9, starts));
    }
}
