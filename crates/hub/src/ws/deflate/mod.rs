//! Compressed messages (RFC 7692, permessage-deflate), each compressed by itself: no context takeover either way.
//!
//! So a frame is compressed once and shared by all whose window is of the same class, and no connection holds any of
//! the compressor's 300 KiB: a shard has one [`Deflater`] and one [`Inflater`].
//!
//! ```
//! use trestle_hub::ws::{DeflateWindow, Deflater, Incoming, Inflater, Opcode};
//!
//! let text = r#"{"topic":"jobs/1","data":{"topic":"jobs/1","data":{"topic":"jobs/1"}}}"#;
//! let frame = Deflater::new().frame(Opcode::Text, text.as_bytes(), DeflateWindow::Full).expect("it repeats itself");
//! assert!(frame.len() < text.len());
//!
//! let mut inflater = Inflater::new(64 * 1024);
//! assert_eq!(inflater.inflate(true, &frame[2..]), Ok(Incoming::Text(text)));
//! ```

mod deflater;
mod inflater;
pub(super) mod offer;

#[cfg(test)]
mod properties;

pub use deflater::Deflater;
pub use inflater::Inflater;
pub use offer::negotiate_deflate;

/// What a flush ends with, and a message on the wire leaves away (RFC 7692 §7.2.1).
const FLUSH_TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Buffers shared by a shard's connections keep this much from one message to the next.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// What was agreed on with one client. Its messages may be compressed, and ours to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deflate {
    /// What our messages to it are compressed with.
    pub window: DeflateWindow,
}

/// How far back a compressed message may refer: the less, the less memory the client needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeflateWindow {
    /// 32 KiB (15 bits): every browser.
    Full,
    /// 512 bytes (9 bits), which serves every client that asked for 9 to 14 bits.
    Small,
}

impl DeflateWindow {
    /// Both, the better first.
    pub const ALL: [Self; 2] = [Self::Full, Self::Small];

    /// The base-2 logarithm of its size in bytes.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Full => 15,
            Self::Small => 9,
        }
    }
}
