//! The WebSocket protocol (RFC 6455) as pure values: bytes in, messages out, and the other way round.
//!
//! No room here knows a socket: the shell reads into a scratch buffer that all its connections share and lends it to
//! each connection's [`Reader`]; what goes out is built once as shared [`bytes::Bytes`] and written to many sockets.
//! Read [`Reader`] first, then [`Handshake`] and [`CloseCode`], the table of codes that clients see; [`Deflater`] and
//! [`Inflater`] are what a shard needs where messages are compressed.
//!
//! ```
//! use trestle_hub::ws::{Incoming, Opcode, Reader, client_frame, server_frame};
//!
//! let mut reader = Reader::new(64 * 1024, false);
//! let mut read_from_socket = client_frame(Opcode::Text, true, [1, 2, 3, 4], b"hello");
//! let mut input = &mut read_from_socket[..];
//! while let Some(incoming) = reader.next(&mut input)? {
//!     if let Incoming::Text(text) = incoming {
//!         assert_eq!(&server_frame(Opcode::Text, text.as_bytes())[..], b"\x81\x05hello");
//!     }
//! }
//! # Ok::<(), trestle_hub::ws::ReadError>(())
//! ```

mod client;
mod close;
mod close_code;
mod deflate;
mod error;
mod extensions;
mod frame;
mod handshake;
mod mask;
mod partial;
mod reader;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use client::client_frame;
pub use close::{CLOSE_REASON_BYTES_MAX, close_echo, close_frame};
pub use close_code::CloseCode;
pub use deflate::{Deflate, DeflateWindow, Deflater, Inflater, negotiate_deflate};
pub use error::ReadError;
pub use frame::{
    CONTROL_BYTES_MAX, Opcode, SERVER_HEADER_BYTES_MAX, ServerHeader, server_frame, server_frame_header,
};
pub use handshake::{
    Handshake, HandshakeError, HeaderLines, VERSION, accept_key, is_valid_key, list_has_token, list_items,
};
pub use mask::unmask;
pub use reader::{Incoming, Reader};
