//! The stamp's bytes, written without prost: it is made once for every message that the forwarder passes on.

use crate::v1::Stamp;

/// The longest encoded stamp: three tagged fixed64, a tagged bool, a tagged 5-byte varint.
pub const STAMP_BYTES_MAX: usize = 3 * 9 + 2 + 6;

/// The encoding of `stamp`, byte for byte what prost writes, in the front of an array, and its length
/// (27 bytes without alias or split).
pub fn encode(stamp: &Stamp) -> ([u8; STAMP_BYTES_MAX], usize) {
    let mut bytes = [0; STAMP_BYTES_MAX];
    let mut n = 0;
    for (tag, value) in [(0x09, stamp.epoch), (0x11, stamp.offset), (0x19, stamp.time_unix_ns)] {
        if value != 0 {
            bytes[n] = tag;
            bytes[n + 1..n + 9].copy_from_slice(&value.to_le_bytes());
            n += 9;
        }
    }
    if stamp.original_frames {
        bytes[n..n + 2].copy_from_slice(&[0x20, 1]);
        n += 2;
    }
    let mut rest = stamp.body_start;
    if rest != 0 {
        bytes[n] = 0x28;
        n += 1;
        while rest >= 0x80 {
            bytes[n] = rest as u8 | 0x80;
            rest >>= 7;
            n += 1;
        }
        bytes[n] = rest as u8;
        n += 1;
    }
    (bytes, n)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn equals_the_protobuf_encoding(
            epoch: u64, offset in prop_oneof![Just(0), any::<u64>()], time_unix_ns: u64,
            original_frames: bool, body_start in prop_oneof![Just(0u32), any::<u32>()],
        ) {
            let stamp = Stamp { epoch, offset, time_unix_ns, original_frames, body_start };
            let (bytes, n) = encode(&stamp);
            prop_assert_eq!(&bytes[..n], &stamp.encode_to_vec()[..]);
        }
    }

    #[test]
    fn a_plain_stamp_is_27_bytes() {
        let stamp = Stamp { epoch: 1, offset: 2, time_unix_ns: 3, ..Stamp::default() };
        assert_eq!(encode(&stamp).1, 27);
    }
}
