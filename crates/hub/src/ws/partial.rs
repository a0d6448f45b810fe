//! What a reader keeps between reads: an incomplete header, frame or message.

use super::ReadError;
use super::frame::{CLIENT_HEADER_BYTES_MAX, ClientHeader, Opcode};
use super::mask::unmask;

/// Lives only while something is incomplete, or until the caller has seen what it completed.
#[derive(Debug, Default)]
pub(super) struct Partial {
    header: [u8; CLIENT_HEADER_BYTES_MAX],
    header_len: usize,
    frame: Option<ArrivingFrame>,
    /// Payload of the arriving control frame, which may come in the midst of a message.
    control: Vec<u8>,
    message: Option<Message>,
}

#[derive(Debug)]
struct ArrivingFrame {
    header: ClientHeader,
    payload_bytes: usize,
    received: usize,
}

#[derive(Debug)]
struct Message {
    opcode: Opcode,
    compressed: bool,
    bytes: Vec<u8>,
    /// So many of `bytes` are whole, valid UTF-8 characters. Unused unless it is uncompressed text.
    utf8_checked: usize,
    complete: bool,
}

impl Partial {
    /// Drops what was complete when the caller last saw it; `false` when nothing incomplete remains.
    pub(super) fn release_complete(&mut self) -> bool {
        if self.frame.is_none() {
            self.control = Vec::new();
        }
        self.message.take_if(|message| message.complete);
        self.header_len > 0 || self.frame.is_some() || self.message.is_some()
    }

    /// Whether a frame's header was read and its payload is still arriving.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.frame.is_some()
    }

    /// Bytes so far of the fragmented message, if one has begun.
    pub(super) fn message_bytes(&self) -> Option<usize> {
        self.message.as_ref().map(|message| message.bytes.len())
    }

    /// Heap memory behind this value, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }

    /// Reads a header that may have begun in an earlier read, and takes its bytes off `input`.
    pub(super) fn header(
        &mut self,
        input: &mut &mut [u8],
        rsv1_allowed: bool,
    ) -> Result<Option<ClientHeader>, ReadError> {
        let known = self.header_len;
        let more = input.len().min(CLIENT_HEADER_BYTES_MAX - known);
        self.header[known..known + more].copy_from_slice(&input[..more]);
        let header = ClientHeader::parse(&self.header[..known + more], rsv1_allowed)?;
        // A header is never longer than its buffer, so an incomplete one has taken all of the input.
        let taken = header.map_or(more, |header| header.header_bytes - known);
        input.split_off_mut(..taken).expect("taken is at most what was copied from the input");
        self.header_len = if header.is_some() { 0 } else { known + taken };
        Ok(header)
    }

    /// Begins a frame whose payload is not, or not only, to be handed out in place.
    pub(super) fn begin(&mut self, header: ClientHeader, payload_bytes: usize) {
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            self.message = Some(Message {
                opcode: header.opcode,
                compressed: header.compressed,
                bytes: Vec::new(),
                utf8_checked: 0,
                complete: false,
            });
        }
        self.frame = Some(ArrivingFrame { header, payload_bytes, received: 0 });
    }

    /// Takes the arriving frame's payload off `input`; its header once it is complete.
    pub(super) fn fill(&mut self, input: &mut &mut [u8]) -> Result<Option<ClientHeader>, ReadError> {
        let frame = self.frame.as_mut().expect("begun before it is filled");
        let missing = frame.payload_bytes - frame.received;
        let here = missing.min(input.len());
        let payload = input.split_off_mut(..here).expect("here is at most the input's length");
        unmask(payload, frame.header.mask, frame.received);
        frame.received += here;
        let (header, complete) = (frame.header, here == missing);
        if header.opcode.is_control() {
            append(&mut self.control, payload, missing);
        } else {
            let message = self.message.as_mut().expect("a data frame belongs to a message");
            append(&mut message.bytes, payload, missing);
            message.complete = complete && header.fin;
            message.check_utf8()?;
        }
        if !complete {
            return Ok(None);
        }
        self.frame = None;
        Ok(Some(header))
    }

    /// What [`Partial::fill`] has completed last: opcode, whether it is compressed, payload.
    pub(super) fn complete(&self) -> (Opcode, bool, &[u8]) {
        let message = self.message.as_ref().expect("complete data frames are in the message");
        (message.opcode, message.compressed, &message.bytes)
    }

    /// The payload of the control frame that [`Partial::fill`] has completed last.
    pub(super) fn control(&self) -> &[u8] {
        &self.control
    }
}

impl Message {
    /// Checks what has arrived since the last check, so that bad text ends the connection at once and each byte is
    /// looked at once (up to three of a cut character again). A character cut by the end of the message is left to the
    /// check of the whole, which makes it a `&str`.
    fn check_utf8(&mut self) -> Result<(), ReadError> {
        if self.opcode != Opcode::Text || self.compressed {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.bytes[self.utf8_checked..]) {
            Ok(text) => self.utf8_checked += text.len(),
            Err(error) if error.error_len().is_some() => return Err(ReadError::InvalidUtf8),
            Err(cut) => self.utf8_checked += cut.valid_up_to(),
        }
        Ok(())
    }
}

/// Appends `more`, of which `missing` bytes in all were announced. The buffer at least doubles when it grows, but never
/// beyond what is announced: a header alone reserves nothing.
fn append(buffer: &mut Vec<u8>, more: &[u8], missing: usize) {
    let len = buffer.len() + more.len();
    if len > buffer.capacity() {
        let capacity = len.max(2 * buffer.capacity()).min(buffer.len() + missing);
        buffer.reserve_exact(capacity - buffer.len());
    }
    buffer.extend_from_slice(more);
}
