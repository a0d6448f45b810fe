//! The words that Trestle's processes say to each other: protobuf messages, topics, positions, stamps.
//!
//! This crate knows bytes and nothing else: no socket, no clock, no runtime. Read [`v1`] for the protobuf
//! types, [`Position`] for what a client gives back to resume, [`stamp`] for the last frame of the link.
//!
//! ```
//! use trestle_messages::Position;
//! let position = Position { epoch: 7, offset: 42 };
//! let opaque = position.to_string();
//! assert_eq!(opaque.parse::<Position>(), Ok(position));
//! ```

#![forbid(unsafe_code)]

mod position;
pub mod stamp;
pub mod topic;

pub use position::{Position, PositionError};

/// The protobuf types of `proto/trestle/v1`.
#[expect(missing_docs, reason = "generated; prost passes on no comment for enum helpers and service modules")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/trestle.v1.rs"));
}

/// Frame 1 of a typed event: `[topic]["trestle.v1.Event"][protobuf Event]`.
pub const EVENT_MARKER: &[u8] = b"trestle.v1.Event";

/// Frame 1 of a beat: `["\0trestle"]["trestle.v1.Beat"][protobuf Beat]`.
pub const BEAT_MARKER: &[u8] = b"trestle.v1.Beat";

/// The encoded `FileDescriptorSet` of `proto/`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
