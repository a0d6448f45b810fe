//! What a client can do wrong on an open WebSocket.

use super::CloseCode;

/// A broken rule. The connection cannot go on: send [`ReadError::close_code`] in a Close frame, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A reserved bit is set that no negotiated extension gives a meaning (RFC 6455 §5.2, RFC 7692 §6).
    #[error("reserved bit set")]
    ReservedBits,
    /// An opcode that RFC 6455 §5.2 reserves.
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// A client's frame without a mask (RFC 6455 §5.1).
    #[error("unmasked frame")]
    Unmasked,
    /// A control frame with more than 125 bytes (RFC 6455 §5.5).
    #[error("control frame over 125 bytes")]
    ControlTooLong,
    /// A control frame without FIN (RFC 6455 §5.5).
    #[error("fragmented control frame")]
    ControlFragmented,
    /// A length in more bytes than it needs (RFC 6455 §5.2).
    #[error("frame length not in its shortest form")]
    LengthNotMinimal,
    /// A 64-bit length with its highest bit set (RFC 6455 §5.2).
    #[error("frame length over 63 bits")]
    LengthHighBit,
    /// A continuation frame where no message has begun (RFC 6455 §5.4).
    #[error("continuation without a message")]
    UnexpectedContinuation,
    /// A new text or binary frame before the last message ended (RFC 6455 §5.4).
    #[error("new message inside a fragmented one")]
    UnfinishedMessage,
    /// The message is, or announces to be, longer than the reader's limit.
    #[error("message over {message_bytes_max} bytes")]
    TooLarge {
        /// The limit that the reader was given, in bytes.
        message_bytes_max: usize,
    },
    /// A text message or a close reason that is not UTF-8 (RFC 6455 §8.1).
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// A compressed message that is no deflate data, or ends in the midst of them (RFC 7692 §7.2.2).
    #[error("compressed message does not inflate")]
    InvalidDeflate,
    /// A Close frame whose body is one byte (RFC 6455 §5.5.1).
    #[error("close body of one byte")]
    CloseBodyTooShort,
    /// A close code that must not be sent (RFC 6455 §7.4).
    #[error("invalid close code {0}")]
    CloseCodeInvalid(u16),
}

impl ReadError {
    /// The code that tells the client why it is cut off (RFC 6455 §7.4.1).
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::TooLarge { .. } => CloseCode::MessageTooBig,
            Self::InvalidUtf8 | Self::InvalidDeflate => CloseCode::InvalidPayload,
            _ => CloseCode::ProtocolError,
        }
    }
}
