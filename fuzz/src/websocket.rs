//! The WebSocket reader: the same messages however the bytes are cut, and memory within its bound.

use trestle_hub::ws::Reader;

/// Small, so that short inputs reach it.
const MESSAGE_BYTES_MAX: usize = 4096;
/// What an incomplete message may cost beside its bytes.
const FIXED_BYTES: usize = 1024;

/// The first byte says whether compression was negotiated and how long the pieces are.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&mode, stream)) = bytes.split_first() else { return };
    let compressed = mode & 0x80 != 0;
    let whole = read(stream, stream.len().max(1), compressed);
    for piece_bytes in [1, 1 + usize::from(mode & 0x7f)] {
        assert_eq!(read(stream, piece_bytes, compressed), whole, "in pieces of {piece_bytes}");
    }
}

/// What a client's stream holds, as text: messages, then perhaps the error.
fn read(stream: &[u8], piece_bytes: usize, compressed: bool) -> Vec<String> {
    let mut reader = Reader::new(MESSAGE_BYTES_MAX, compressed);
    let mut heard = Vec::new();
    for piece in stream.chunks(piece_bytes) {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(incoming)) => heard.push(format!("{incoming:?}")),
                Err(error) => heard.push(format!("{error:?}")),
            }
        }
        assert!(input.is_empty(), "all input is used");
        assert!(
            reader.held_bytes() <= MESSAGE_BYTES_MAX + 2 * stream.len() + FIXED_BYTES,
            "memory is bounded"
        );
        assert!(!reader.is_ended() || reader.held_bytes() == 0, "an ended reader owns nothing");
    }
    heard
}
