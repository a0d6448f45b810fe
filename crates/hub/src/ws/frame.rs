//! Frame headers (RFC 6455 §5.2): what the server writes, and what it takes from a client.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::ReadError;

/// A control frame's payload is at most this many bytes (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// A server's frame header is 2 to this many bytes: no mask.
pub const SERVER_HEADER_BYTES_MAX: usize = 10;

/// A client's frame header is 6 to this many bytes, its mask included.
pub(super) const CLIENT_HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// A server's frame header, ready to write.
pub type ServerHeader = SmallVec<[u8; SERVER_HEADER_BYTES_MAX]>;

/// What a frame is for (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// The last frame of a connection.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or unasked says "alive".
    Pong = 0xa,
}

impl Opcode {
    /// The four bits on the wire.
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether this is a close, ping or pong (RFC 6455 §5.5).
    pub const fn is_control(self) -> bool {
        self.value() & 0x8 != 0
    }

    fn from_bits(bits: u8) -> Result<Self, ReadError> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return Err(ReadError::ReservedOpcode(bits)),
        })
    }
}

/// The header of a server's frame with `len` bytes of payload. `rsv1` marks a compressed message (RFC 7692 §6).
///
/// A control frame's `len` must be at most [`CONTROL_BYTES_MAX`].
pub fn server_frame_header(opcode: Opcode, fin: bool, rsv1: bool, len: usize) -> ServerHeader {
    debug_assert!(!opcode.is_control() || (fin && len <= CONTROL_BYTES_MAX), "RFC 6455 §5.5");
    let mut header = ServerHeader::new();
    header.push(u8::from(fin) << 7 | u8::from(rsv1) << 6 | opcode.value());
    write_length(len, 0, |bytes| header.extend_from_slice(bytes));
    header
}

/// A whole unfragmented, uncompressed frame of the server, in one allocation that many connections can share.
///
/// A control frame's payload must be at most [`CONTROL_BYTES_MAX`] long.
pub fn server_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let header = server_frame_header(opcode, true, false, payload.len());
    let mut frame = BytesMut::with_capacity(header.len() + payload.len());
    frame.put_slice(&header);
    frame.put_slice(payload);
    frame.freeze()
}

/// Writes a payload length in its shortest form, `mask_bit` with its first byte.
pub(super) fn write_length(len: usize, mask_bit: u8, mut write: impl FnMut(&[u8])) {
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..=125), _) => write(&[mask_bit | len]),
        (_, Ok(len)) => {
            let [a, b] = len.to_be_bytes();
            write(&[mask_bit | 126, a, b]);
        }
        _ => {
            write(&[mask_bit | 127]);
            write(&(len as u64).to_be_bytes());
        }
    }
}

/// A client's frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientHeader {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    /// RSV1: the message is compressed (RFC 7692 §6). Only on the first frame of a data message.
    pub(super) compressed: bool,
    pub(super) mask: [u8; 4],
    /// Bytes of payload that the header announces.
    pub(super) payload_bytes: u64,
    /// Bytes of the header itself.
    pub(super) header_bytes: usize,
}

impl ClientHeader {
    /// Reads the header at the start of `bytes`; `None` if more are needed.
    ///
    /// Rules are checked in the order of the bytes that break them, and as soon as these are there, so that the
    /// verdict does not depend on how the network cut the stream.
    pub(super) fn parse(bytes: &[u8], rsv1_allowed: bool) -> Result<Option<Self>, ReadError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let (fin, compressed) = (first & FIN != 0, first & RSV1 != 0);
        let opcode = Opcode::from_bits(first & 0x0f)?;
        let starts_message = matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & RSV2_AND_3 != 0 || (compressed && !(rsv1_allowed && starts_message)) {
            return Err(ReadError::ReservedBits);
        }
        if opcode.is_control() && !fin {
            return Err(ReadError::ControlFragmented);
        }

        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        if second & MASKED == 0 {
            return Err(ReadError::Unmasked);
        }
        let short_len = second & !MASKED;
        if opcode.is_control() && usize::from(short_len) > CONTROL_BYTES_MAX {
            return Err(ReadError::ControlTooLong);
        }
        let Some((payload_bytes, rest)) = parse_length(short_len, rest)? else { return Ok(None) };

        let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let header_bytes = bytes.len() - rest.len();
        Ok(Some(Self { opcode, fin, compressed, mask, payload_bytes, header_bytes }))
    }
}

/// The payload length, given its seven short bits and what follows them, and what follows the length.
fn parse_length(short_len: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, ReadError> {
    let (len, rest, least) = match short_len {
        126 => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*len)), rest, 126)
        }
        127 => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*len), rest, 1 << 16)
        }
        len => (u64::from(len), rest, 0),
    };
    if len >> 63 != 0 {
        return Err(ReadError::LengthHighBit);
    }
    if len < least {
        return Err(ReadError::LengthNotMinimal);
    }
    Ok(Some((len, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// Parses `head` with a mask behind it, RSV1 not negotiated.
    fn parse(head: &[u8]) -> Result<Option<ClientHeader>, ReadError> {
        ClientHeader::parse(&[head, &MASK].concat(), false)
    }

    #[test]
    fn section_5_2_lengths_are_written_in_their_shortest_form() {
        for (len, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(&server_frame_header(Opcode::Binary, true, false, len)[..], expected);
        }
    }

    #[test]
    fn section_5_2_flags_of_a_server_frame() {
        assert_eq!(&server_frame_header(Opcode::Text, false, true, 3)[..], [0x41, 3]);
        assert_eq!(&server_frame_header(Opcode::Continuation, true, false, 3)[..], [0x80, 3]);
    }

    #[test]
    fn section_5_7_examples_of_server_frames() {
        assert_eq!(&server_frame(Opcode::Text, b"Hello")[..], b"\x81\x05Hello");
        assert_eq!(&server_frame(Opcode::Ping, b"Hello")[..], b"\x89\x05Hello");
        let binary = server_frame(Opcode::Binary, &[7; 256]);
        assert_eq!(&binary[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(binary.len(), 4 + 256);
    }

    #[test]
    fn a_header_is_complete_with_its_last_byte() {
        for head in [&[0x81, 0x85][..], &[0x82, 0xfe, 0, 200], &[0x02, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]] {
            let bytes = [head, &MASK, b"payload"].concat();
            let header_bytes = head.len() + 4;
            for cut in 0..header_bytes {
                assert_eq!(ClientHeader::parse(&bytes[..cut], false), Ok(None));
            }
            let header = ClientHeader::parse(&bytes, false).unwrap().unwrap();
            assert_eq!((header.header_bytes, header.mask), (header_bytes, MASK));
            assert_eq!(header.fin, head[0] & 0x80 != 0);
        }
    }

    #[test]
    fn section_5_1_a_client_masks() {
        assert_eq!(parse(&[0x81, 0x05]), Err(ReadError::Unmasked));
    }

    #[test]
    fn section_5_2_reserved_bits() {
        for bits in [0x10, 0x20, 0x30, 0x40, 0x70] {
            assert_eq!(parse(&[0x81 | bits, 0x80]), Err(ReadError::ReservedBits));
        }
    }

    #[test]
    fn rfc_7692_section_6_rsv1_only_on_a_messages_first_frame() {
        let parse = |first: u8| ClientHeader::parse(&[first, 0x80, 0, 0, 0, 0], true);
        assert!(parse(0xc1).unwrap().unwrap().compressed);
        assert!(parse(0x42).unwrap().unwrap().compressed);
        assert!(!parse(0x81).unwrap().unwrap().compressed);
        for first in [0xc0, 0xc8, 0xc9, 0xca, 0xe1, 0xd1] {
            assert_eq!(parse(first), Err(ReadError::ReservedBits));
        }
    }

    #[test]
    fn section_5_2_reserved_opcodes() {
        for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            assert_eq!(parse(&[0x80 | opcode, 0x80]), Err(ReadError::ReservedOpcode(opcode)));
        }
    }

    #[test]
    fn section_5_2_lengths_are_minimal() {
        for head in
            [&[0x82, 0xfe, 0, 0][..], &[0x82, 0xfe, 0, 125], &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 255, 255]]
        {
            assert_eq!(parse(head), Err(ReadError::LengthNotMinimal));
        }
        assert_eq!(parse(&[0x82, 0xfe, 0, 126]).unwrap().unwrap().payload_bytes, 126);
        assert_eq!(parse(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap().unwrap().payload_bytes, 65_536);
    }

    #[test]
    fn section_5_2_the_highest_bit_of_a_length_is_zero() {
        assert_eq!(parse(&[0x82, 0xff, 128, 0, 0, 0, 0, 0, 0, 1]), Err(ReadError::LengthHighBit));
        let largest = parse(&[0x82, 0xff, 127, 255, 255, 255, 255, 255, 255, 255]).unwrap().unwrap();
        assert_eq!(largest.payload_bytes, i64::MAX as u64);
    }

    #[test]
    fn section_5_5_control_frames_are_short_and_whole() {
        for opcode in [8, 9, 0xa] {
            assert_eq!(parse(&[0x80 | opcode, 0xfe, 0, 126]), Err(ReadError::ControlTooLong));
            assert_eq!(parse(&[opcode, 0x80]), Err(ReadError::ControlFragmented));
            assert_eq!(parse(&[0x80 | opcode, 0xfd]).unwrap().unwrap().payload_bytes, 125);
        }
    }
}
