//! Compressed frames for clients, each made once and shared.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, FlushCompress};

use super::{DeflateWindow, FLUSH_TAIL, KEPT_BYTES_MAX};
use crate::ws::frame::{Opcode, server_frame_header};

/// The fastest: on JSON of 1 KiB it takes 8 µs for 40 % of the bytes, level 2 takes 25 µs for 31 %, level 6 no less.
const LEVEL: u32 = 1;

/// Noise costs twenty times as much as text does, so a message longer than twice this is not begun before so many bytes
/// of it got shorter.
const SAMPLE_BYTES: usize = 16 << 10;

/// Beside nine bits for each byte, the longest code at this level, an output has at most so many bytes of blocks' ends.
const BLOCKS_BYTES_MAX: usize = 64;

/// The compressor of a shard: about 300 KiB for each window that is in use.
#[derive(Debug, Default)]
pub struct Deflater {
    full: Option<Compress>,
    small: Option<Compress>,
    compressed: Vec<u8>,
}

impl Deflater {
    /// Makes no compressor yet: the first message of each window does.
    pub fn new() -> Self {
        Self::default()
    }

    /// A whole server frame with the text or binary message `payload` in it, compressed by itself (RFC 7692 §7.2.1),
    /// which every client that negotiated this `window` understands. `None` where that would save nothing; of a long
    /// message its beginning decides.
    ///
    /// Costs some microseconds plus a few for each KiB, so it is for messages that many share.
    pub fn frame(&mut self, opcode: Opcode, payload: &[u8], window: DeflateWindow) -> Option<Bytes> {
        debug_assert!(matches!(opcode, Opcode::Text | Opcode::Binary), "RFC 7692 §6.1: whole data messages");
        if payload.len() > 2 * SAMPLE_BYTES {
            self.compress(&payload[..SAMPLE_BYTES], window)?;
        }
        self.compress(payload, window).map(|compressed| frame(opcode, compressed))
    }

    /// `payload` compressed, without the flush's tail; `None` if that is no shorter.
    fn compress(&mut self, payload: &[u8], window: DeflateWindow) -> Option<&[u8]> {
        self.compressed.clear();
        self.compressed.shrink_to(KEPT_BYTES_MAX);
        self.compressed.reserve(payload.len() + payload.len() / 8 + BLOCKS_BYTES_MAX);
        let slot = match window {
            DeflateWindow::Full => &mut self.full,
            DeflateWindow::Small => &mut self.small,
        };
        let mut compress = slot
            .take()
            .unwrap_or_else(|| Compress::new_with_window_bits(Compression::new(LEVEL), false, window.bits()));
        compress.compress_vec(payload, &mut self.compressed, FlushCompress::Sync).ok()?;
        // A full output may not be all of it; and zlib-rs 0.6.8, reset with output pending, panics some messages later.
        if self.compressed.len() == self.compressed.capacity() {
            return None;
        }
        compress.reset();
        *slot = Some(compress);
        self.compressed.strip_suffix(&FLUSH_TAIL).filter(|compressed| compressed.len() < payload.len())
    }
}

fn frame(opcode: Opcode, compressed: &[u8]) -> Bytes {
    let header = server_frame_header(opcode, true, true, compressed.len());
    let mut frame = BytesMut::with_capacity(header.len() + compressed.len());
    frame.put_slice(&header);
    frame.put_slice(compressed);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::deflate::properties::noise;

    #[test]
    fn section_7_2_3_frames_are_marked_and_without_the_tail() {
        for window in DeflateWindow::ALL {
            let frame = Deflater::new().frame(Opcode::Text, &[b'a'; 300], window).unwrap();
            assert_eq!((frame[0], usize::from(frame[1])), (0xc1, frame.len() - 2), "{window:?}");
            assert!(frame.len() < 20 && !frame.ends_with(&FLUSH_TAIL), "{window:?}: {frame:x?}");
        }
        let long = Deflater::new().frame(Opcode::Binary, &[0; 1 << 20], DeflateWindow::Full).unwrap();
        assert_eq!(long[..2], [0xc2, 126]);
    }

    #[test]
    fn what_does_not_get_smaller_is_not_compressed() {
        let mut deflater = Deflater::new();
        let mut noise = noise(1, 200_000);
        for window in DeflateWindow::ALL {
            for payload in [&b""[..], b"a", b"Hello", &noise] {
                assert_eq!(deflater.frame(Opcode::Binary, payload, window), None);
            }
        }
        // Some of it would get smaller, but not what is looked at.
        noise.extend([b'a'; 200_000]);
        assert_eq!(deflater.frame(Opcode::Binary, &noise, DeflateWindow::Full), None);
        noise.reverse();
        assert!(deflater.frame(Opcode::Binary, &noise, DeflateWindow::Full).is_some());
    }

    /// Nine bits each: the longest output there is comes whole, so that the compressor can be used again.
    #[test]
    fn there_is_room_for_the_worst() {
        let worst: Vec<u8> = noise(7, 2 * SAMPLE_BYTES).iter().map(|byte| byte % 112 + 144).collect();
        let mut deflater = Deflater::new();
        for window in DeflateWindow::ALL {
            assert_eq!(deflater.frame(Opcode::Binary, &worst, window), None);
        }
        assert!(deflater.full.is_some() && deflater.small.is_some());
    }

    #[test]
    fn a_message_leaves_nothing_behind_for_the_next() {
        let mut deflater = Deflater::new();
        let [first, second] =
            [(); 2].map(|()| deflater.frame(Opcode::Text, &[b'a'; 300], DeflateWindow::Full));
        assert_eq!(first, second);
        deflater.frame(Opcode::Binary, &vec![7; 10 * KEPT_BYTES_MAX], DeflateWindow::Full).unwrap();
        assert_eq!(deflater.frame(Opcode::Text, &[b'a'; 300], DeflateWindow::Full), first);
        assert!(deflater.compressed.capacity() <= KEPT_BYTES_MAX);
    }
}
