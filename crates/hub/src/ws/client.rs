//! Frames as a client sends them, for tools and tests.

use super::frame::{Opcode, write_length};
use super::mask::unmask;

/// One frame of a client, masked with `mask` (RFC 6455 §5.2, §5.3). Nothing is checked: tests send forbidden frames.
pub fn client_frame(opcode: Opcode, fin: bool, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.push(u8::from(fin) << 7 | opcode.value());
    write_length(payload.len(), 0x80, |bytes| frame.extend_from_slice(bytes));
    frame.extend_from_slice(&mask);
    let start = frame.len();
    frame.extend_from_slice(payload);
    unmask(&mut frame[start..], mask, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_5_7_the_example_of_a_masked_hello() {
        assert_eq!(
            client_frame(Opcode::Text, true, [0x37, 0xfa, 0x21, 0x3d], b"Hello"),
            [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        );
    }
}
