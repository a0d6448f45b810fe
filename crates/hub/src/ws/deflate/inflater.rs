//! Clients' compressed messages made plain again, within a bound.

use flate2::{Decompress, FlushDecompress, Status};

use super::{FLUSH_TAIL, KEPT_BYTES_MAX};
use crate::ws::{Incoming, ReadError};

/// What is put behind a message: the flush's tail that was left away (RFC 7692 §7.2.2), then an empty last block. Only
/// data that end with a whole block make that block one, and with it the end of the stream.
const END: [u8; 9] = {
    let [a, b, c, d] = FLUSH_TAIL;
    [a, b, c, d, 0x01, a, b, c, d]
};

/// The first guess of a message's length, as a multiple of its compressed one.
const TYPICAL_RATIO: usize = 4;

/// The buffer grows by no less than this.
const GROWTH_BYTES_MIN: usize = 1 << 10;

/// The decompressor of a shard: about 50 KiB and the longest message of late.
#[derive(Debug)]
pub struct Inflater {
    message_bytes_max: usize,
    decompress: Decompress,
    message: Vec<u8>,
}

/// Whether the data so far were a whole stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Wants,
    Ended,
}

impl Inflater {
    /// A message may have `message_bytes_max` bytes when it is inflated; one more is [`ReadError::TooLarge`].
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, decompress: Decompress::new(false), message: Vec::new() }
    }

    /// Inflates what [`Incoming::Compressed`] holds: [`Incoming::Text`] or [`Incoming::Binary`], nothing else.
    ///
    /// It stops at the bound, so that a few bytes that would inflate to gigabytes cost no more than an honest message.
    pub fn inflate(&mut self, text: bool, payload: &[u8]) -> Result<Incoming<'_>, ReadError> {
        self.message.clear();
        self.message.shrink_to(KEPT_BYTES_MAX);
        self.reserve(payload.len().saturating_mul(TYPICAL_RATIO));
        self.decompress.reset(false);
        self.feed(payload)?;
        if self.feed(&END)? != Progress::Ended {
            return Err(ReadError::InvalidDeflate);
        }
        if !text {
            return Ok(Incoming::Binary(&self.message));
        }
        simdutf8::basic::from_utf8(&self.message).map(Incoming::Text).map_err(|_| ReadError::InvalidUtf8)
    }

    /// Memory held for the last message, in bytes: never more than the bound and one.
    pub fn held_bytes(&self) -> usize {
        self.message.capacity()
    }

    fn feed(&mut self, mut input: &[u8]) -> Result<Progress, ReadError> {
        let mut progress = Progress::Wants;
        loop {
            if self.message.len() == self.message.capacity() {
                self.reserve(self.message.len());
            }
            let (used, len) = (self.decompress.total_in(), self.message.len());
            let status = self
                .decompress
                .decompress_vec(input, &mut self.message, FlushDecompress::None)
                .map_err(|_| ReadError::InvalidDeflate)?;
            if self.message.len() > self.message_bytes_max {
                return Err(ReadError::TooLarge { message_bytes_max: self.message_bytes_max });
            }
            let used = (self.decompress.total_in() - used) as usize;
            input = &input[used..];
            if status == Status::StreamEnd {
                // A client may end a block as the last one; what follows is a new stream (RFC 7692 §7.2.3.4).
                self.decompress.reset(false);
                progress = Progress::Ended;
            } else if used > 0 {
                progress = Progress::Wants;
            }
            let is_full = self.message.len() == self.message.capacity();
            if input.is_empty() && !is_full {
                return Ok(progress);
            }
            if used == 0 && self.message.len() == len && !is_full {
                return Err(ReadError::InvalidDeflate);
            }
        }
    }

    /// Makes room for `more` bytes, or at least for one, but never for many beyond the bound.
    fn reserve(&mut self, more: usize) {
        // One beyond the bound shows that it is exceeded.
        let room = self.message_bytes_max.saturating_add(1).saturating_sub(self.message.len());
        self.message.reserve_exact(more.max(GROWTH_BYTES_MIN).min(room).max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: Result<Incoming<'static>, ReadError> = Ok(Incoming::Text("Hello"));

    #[test]
    fn rfc_7692_section_7_2_3_the_examples() {
        let mut inflater = Inflater::new(100);
        let one_block = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let no_compression = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        let last_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        let two_blocks = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        for data in [&one_block[..], &no_compression, &last_block, &two_blocks] {
            assert_eq!(inflater.inflate(true, data), HELLO, "{data:x?}");
        }
        assert_eq!(inflater.inflate(true, &[0]), Ok(Incoming::Text("")));
    }

    #[test]
    fn section_7_2_2_data_end_with_a_block() {
        let mut inflater = Inflater::new(100);
        for data in [
            &b""[..],
            b"\xf2\x48\xcd\xc9\xc9\x07",     // without the empty block's first byte
            b"\xf3\x48\xcd\xc9\xc9\x07\x00", // the same, behind a last block
            b"\xf2\x48\xcd",
            b"\x00\x05\x00\xfa\xffHel",
            b"\xff\xff",
        ] {
            assert_eq!(inflater.inflate(true, data), Err(ReadError::InvalidDeflate), "{data:x?}");
        }
    }

    #[test]
    fn a_message_must_not_refer_to_the_one_before() {
        let mut inflater = Inflater::new(100);
        let again = [0xf2, 0x00, 0x11, 0x00, 0x00]; // the second "Hello" of RFC 7692 §7.2.3.2
        assert_eq!(inflater.inflate(true, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), HELLO);
        assert_eq!(inflater.inflate(true, &again), Err(ReadError::InvalidDeflate));
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_bound() {
        const LIMIT: usize = 64 << 10;
        let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
        let mut bomb = Vec::with_capacity(LIMIT);
        compress.compress_vec(&vec![0; 32 << 20], &mut bomb, flate2::FlushCompress::Sync).unwrap();
        let bomb = bomb.strip_suffix(&FLUSH_TAIL).unwrap();
        assert!(bomb.len() < LIMIT, "{} bytes would be refused as they come", bomb.len());
        let mut inflater = Inflater::new(LIMIT);
        let error = ReadError::TooLarge { message_bytes_max: LIMIT };
        assert_eq!(inflater.inflate(false, bomb), Err(error));
        assert_eq!(error.close_code().value(), 1009);
        assert_eq!(inflater.held_bytes(), LIMIT + 1);
    }

    #[test]
    fn a_long_message_leaves_no_long_buffer() {
        let mut inflater = Inflater::new(10 << 20);
        let stored = [&[0x00, 0xff, 0xff, 0x00, 0x00][..], &[b'x'; 0xffff]].concat();
        let long = [&stored.repeat(16)[..], &[0]].concat();
        assert_eq!(inflater.inflate(false, &long), Ok(Incoming::Binary(&[b'x'; 16 * 0xffff])));
        assert!(inflater.held_bytes() >= 16 * 0xffff);
        assert_eq!(inflater.inflate(true, &[0]), Ok(Incoming::Text("")));
        assert!(inflater.held_bytes() <= KEPT_BYTES_MAX);
    }
}
