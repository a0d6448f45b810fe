//! The server's strict reader of client frames (RFC 6455 §5 to §8).

use bytes::Bytes;

use super::ReadError;
use super::close::{self, close_echo};
use super::frame::{ClientHeader, Opcode, server_frame};
use super::mask::unmask;
use super::partial::Partial;

/// What a client sent: a whole message, or a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A message still compressed (RFC 7692), only where the reader was told to allow them. Whoever inflates it bounds
    /// the result and, for text, checks its UTF-8.
    Compressed {
        /// Text, or else binary.
        text: bool,
        /// Deflate blocks, without the last four bytes (RFC 7692 §7.2.1).
        payload: &'a [u8],
    },
    /// Asks for a pong with this payload, 0..=125 bytes.
    Ping(&'a [u8]),
    /// An answer to a ping, or unasked; 0..=125 bytes.
    Pong(&'a [u8]),
    /// The client closes: answer with [`super::close_echo`]. Whatever it sends after this is ignored.
    Close {
        /// The client's close code; none if the frame was empty.
        code: Option<u16>,
        /// The client's reason, 0..=123 bytes.
        reason: &'a str,
    },
}

impl<'a> Incoming<'a> {
    /// The frame that the protocol itself asks for in answer: a pong (RFC 6455 §5.5.3) or the Close frame that ends the
    /// connection (§5.5.1), unless one was sent before. None to anything else.
    pub fn reply(&self) -> Option<Bytes> {
        match *self {
            Self::Ping(payload) => Some(server_frame(Opcode::Pong, payload)),
            Self::Close { code, .. } => Some(close_echo(code)),
            Self::Text(_) | Self::Binary(_) | Self::Compressed { .. } | Self::Pong(_) => None,
        }
    }

    fn new(opcode: Opcode, compressed: bool, payload: &'a [u8]) -> Result<Self, ReadError> {
        Ok(match opcode {
            Opcode::Text | Opcode::Binary if compressed => {
                Self::Compressed { text: opcode == Opcode::Text, payload }
            }
            Opcode::Text => {
                Self::Text(simdutf8::basic::from_utf8(payload).map_err(|_| ReadError::InvalidUtf8)?)
            }
            // Continuations are handed out under their message's opcode.
            Opcode::Binary | Opcode::Continuation => Self::Binary(payload),
            Opcode::Ping => Self::Ping(payload),
            Opcode::Pong => Self::Pong(payload),
            Opcode::Close => {
                let (code, reason) = close::parse(payload)?;
                Self::Close { code, reason }
            }
        })
    }
}

/// Turns the bytes of one connection into messages.
///
/// Lend it each read's bytes and call [`Reader::next`] until it gives `None`. A frame that lies wholly in the read is
/// unmasked in place and borrowed from it: no copy, no allocation. Only an incomplete frame or message is copied, and
/// that memory is given back when it is complete and the next call comes; an idle reader owns none.
#[derive(Debug)]
pub struct Reader {
    message_bytes_max: usize,
    rsv1_allowed: bool,
    /// A Close or an error was handed out.
    ended: bool,
    partial: Option<Box<Partial>>,
}

/// Where a complete frame or message is.
enum Ready<'b> {
    InPlace(ClientHeader, &'b [u8]),
    BufferedControl(Opcode),
    BufferedMessage,
}

impl Reader {
    /// A reader for a connection just upgraded.
    ///
    /// A message, all its fragments together, may have `message_bytes_max` bytes; one more is [`ReadError::TooLarge`],
    /// as soon as a header announces it. `rsv1_allowed` says that permessage-deflate was negotiated; the bound then
    /// holds for the compressed bytes.
    pub fn new(message_bytes_max: usize, rsv1_allowed: bool) -> Self {
        Self { message_bytes_max, rsv1_allowed, ended: false, partial: None }
    }

    /// The next message or control frame; `None` when all of `input` is used and more must be read.
    ///
    /// `input` shrinks from the front by what was used, so that a caller may stop between two messages and go on later
    /// with the rest. After an error or a Close, all input is ignored.
    #[allow(clippy::should_implement_trait, reason = "it takes an argument, and items borrow from it")]
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b mut [u8],
    ) -> Result<Option<Incoming<'a>>, ReadError> {
        self.release();
        if self.ended {
            *input = &mut [];
            return Ok(None);
        }
        let incoming = match self.advance(input) {
            Ok(Some(Ready::InPlace(header, payload))) => {
                Incoming::new(header.opcode, header.compressed, payload)
            }
            Ok(Some(Ready::BufferedControl(opcode))) => {
                Incoming::new(opcode, false, self.partial.as_deref().expect(BUFFERED).control())
            }
            Ok(Some(Ready::BufferedMessage)) => {
                let (opcode, compressed, payload) = self.partial.as_deref().expect(BUFFERED).complete();
                Incoming::new(opcode, compressed, payload)
            }
            Ok(None) => {
                self.release();
                return Ok(None);
            }
            Err(error) => Err(error),
        };
        if matches!(incoming, Err(_) | Ok(Incoming::Close { .. })) {
            self.ended = true;
            *input = &mut [];
        }
        incoming.map(Some)
    }

    /// Whether a Close or an error was handed out: nothing more will come.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Heap memory held for an incomplete frame or message, in bytes: at most `message_bytes_max` and twice what has
    /// arrived of it, beside a small fixed part; 0 when nothing is incomplete.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_deref().map_or(0, |partial| size_of::<Partial>() + partial.heap_bytes())
    }

    /// Gives back memory that the last call's item borrowed, and all of it once the connection has ended.
    fn release(&mut self) {
        let ended = self.ended;
        self.partial.take_if(|partial| ended || !partial.release_complete());
    }

    /// Uses up input until something is complete.
    fn advance<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<Ready<'b>>, ReadError> {
        loop {
            if !self.partial.as_deref().is_some_and(Partial::is_inside_frame) {
                let Some(header) = self.header(input)? else { return Ok(None) };
                let payload_bytes = self.admit(&header)?;
                let is_whole =
                    header.opcode.is_control() || (header.fin && header.opcode != Opcode::Continuation);
                if is_whole && let Some(payload) = input.split_off_mut(..payload_bytes) {
                    unmask(payload, header.mask, 0);
                    return Ok(Some(Ready::InPlace(header, payload)));
                }
                self.partial.get_or_insert_default().begin(header, payload_bytes);
            }
            let partial = self.partial.as_deref_mut().expect(BUFFERED);
            let Some(header) = partial.fill(input)? else { return Ok(None) };
            if header.opcode.is_control() {
                return Ok(Some(Ready::BufferedControl(header.opcode)));
            }
            if header.fin {
                return Ok(Some(Ready::BufferedMessage));
            }
        }
    }

    /// Takes the next frame's header off `input`.
    fn header(&mut self, input: &mut &mut [u8]) -> Result<Option<ClientHeader>, ReadError> {
        if self.partial.is_none() {
            if let Some(header) = ClientHeader::parse(input, self.rsv1_allowed)? {
                input.split_off_mut(..header.header_bytes).expect("it was parsed from the input");
                return Ok(Some(header));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        self.partial.get_or_insert_default().header(input, self.rsv1_allowed)
    }

    /// Checks a frame against the message that it belongs to or begins; the length of its payload if it may come.
    fn admit(&self, header: &ClientHeader) -> Result<usize, ReadError> {
        let so_far = self.partial.as_deref().and_then(Partial::message_bytes);
        let bytes_max = match (header.opcode, so_far) {
            (opcode, _) if opcode.is_control() => super::CONTROL_BYTES_MAX,
            (Opcode::Continuation, None) => return Err(ReadError::UnexpectedContinuation),
            (Opcode::Continuation, Some(so_far)) => self.message_bytes_max - so_far,
            (_, Some(_)) => return Err(ReadError::UnfinishedMessage),
            (_, None) => self.message_bytes_max,
        };
        usize::try_from(header.payload_bytes)
            .ok()
            .filter(|&payload_bytes| payload_bytes <= bytes_max)
            .ok_or(ReadError::TooLarge { message_bytes_max: self.message_bytes_max })
    }
}

const BUFFERED: &str = "a frame that is not whole in the input is kept";
