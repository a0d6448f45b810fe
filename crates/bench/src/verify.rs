//! `--verify`: every frame to the letter of RFC 6455, every body byte for byte.

use std::sync::Arc;

use crate::body::Body;

/// A longer message is not collected, bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Checks what one connection receives.
#[derive(Debug, Clone)]
pub struct Verifier {
    body: Arc<Body>,
    /// Bytes that are no whole frame yet.
    pending: Vec<u8>,
    /// The message whose last fragment is still to come.
    fragments: Option<Message>,
    is_lost: bool,
}

#[derive(Debug, Clone)]
struct Message {
    is_text: bool,
    payload: Vec<u8>,
}

/// One frame: what its header says, and where its payload is.
struct Frame {
    is_final: bool,
    opcode: u8,
    header: usize,
    end: usize,
}

impl Verifier {
    /// For a stream that begins with a frame, of bodies like `body`.
    pub fn new(body: Arc<Body>) -> Self {
        Self { body, pending: Vec::new(), fragments: None, is_lost: false }
    }

    /// Looks at the next bytes; tells what is wrong. After a frame that is against the rules nothing more can be said.
    pub fn feed(&mut self, bytes: &[u8], wrong: &mut impl FnMut(&'static str)) {
        if self.is_lost {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut from = 0;
        loop {
            match frame(&pending[from..]) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let payload = &pending[from + frame.header..from + frame.end];
                    if let Err(reason) = self.one(&frame, payload) {
                        wrong(reason);
                    }
                    from += frame.end;
                }
                Err(reason) => {
                    self.is_lost = true;
                    wrong(reason);
                    return;
                }
            }
        }
        pending.drain(..from);
        self.pending = pending;
    }

    fn one(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), &'static str> {
        match (frame.opcode, &mut self.fragments) {
            (8.., _) => return control(frame.opcode, payload),
            (0, None) => return Err("a continuation of nothing"),
            (0, Some(message)) => message.payload.extend_from_slice(payload),
            (_, Some(_)) => return Err("a new message before the last fragment"),
            (opcode, none) => *none = Some(Message { is_text: opcode == 1, payload: payload.to_vec() }),
        }
        if !frame.is_final {
            return Ok(());
        }
        let message = self.fragments.take().expect("set above");
        if message.is_text && std::str::from_utf8(&message.payload).is_err() {
            return Err("text that is not UTF-8");
        }
        match self.body.marker().find(&message.payload) {
            Some(at) if !self.body.is_in(&message.payload, at) => Err("a body that differs"),
            _ => Ok(()),
        }
    }
}

fn control(opcode: u8, payload: &[u8]) -> Result<(), &'static str> {
    match (opcode, payload) {
        (8, []) => Ok(()),
        (8, [_]) => Err("a Close with half a code"),
        (8, [high, low, reason @ ..]) => {
            let is_known =
                matches!(u16::from_be_bytes([*high, *low]), 1000..=1003 | 1007..=1014 | 3000..=4999);
            let is_text = std::str::from_utf8(reason).is_ok();
            if is_known && is_text { Ok(()) } else { Err("a Close that RFC 6455 forbids") }
        }
        _ => Ok(()),
    }
}

/// The frame that `bytes` begin with.
fn frame(bytes: &[u8]) -> Result<Option<Frame>, &'static str> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
    if first & 0x70 != 0 {
        return Err("a reserved bit, though no extension was agreed on");
    }
    if !matches!(opcode, 0..=2 | 8..=10) {
        return Err("a reserved opcode");
    }
    if second & 0x80 != 0 {
        return Err("a masked frame from a server");
    }
    let (header, length) = match second & 0x7f {
        126 => match rest.first_chunk() {
            Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        length => (2, u64::from(length)),
    };
    if (header == 4 && length < 126) || (header == 10 && length <= u64::from(u16::MAX)) {
        return Err("a length in more bytes than it needs");
    }
    if opcode >= 8 && (!is_final || length > 125) {
        return Err("a fragmented or long control frame");
    }
    let length = usize::try_from(length).ok().filter(|&length| length <= MESSAGE_BYTES_MAX);
    let length = length.ok_or("a frame of more than 16 MiB")?;
    let end = header + length;
    Ok((bytes.len() >= end).then_some(Frame { is_final, opcode, header, end }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{Mark, Marker};

    fn complaints(stream: &[u8]) -> Vec<&'static str> {
        let whole = feed(stream, stream.len());
        assert_eq!(feed(stream, 1), whole, "the same byte by byte");
        whole
    }

    fn feed(stream: &[u8], step: usize) -> Vec<&'static str> {
        let mut verifier = Verifier::new(Arc::new(Body::new(60, Marker::new(1))));
        let mut all = Vec::new();
        for bytes in stream.chunks(step.max(1)) {
            verifier.feed(bytes, &mut |reason| all.push(reason));
        }
        all
    }

    #[test]
    fn good_streams_pass() {
        let body = Body::new(60, Marker::new(1)).stamped(Mark { seq: 3, time_ns: 4 }).to_vec();
        let mut stream = vec![0x81, 60];
        stream.extend_from_slice(&body);
        stream.extend_from_slice(&[0x01, 30]);
        stream.extend_from_slice(&body[..30]);
        stream.extend_from_slice(b"\x89\x02hi\x80\x1e");
        stream.extend_from_slice(&body[30..]);
        stream.extend_from_slice(b"\x82\x02\xff\xfe\x8a\x00\x88\x02\x03\xe8");
        assert_eq!(complaints(&stream), Vec::<&str>::new());
    }

    #[test]
    fn each_rule_has_its_complaint() {
        let mut other = Body::new(60, Marker::new(1)).stamped(Mark { seq: 3, time_ns: 4 }).to_vec();
        other[55] = b'X';
        let differs = [&[0x81, 60][..], &other].concat();
        let cases: [(&[u8], &str); 11] = [
            (b"\xc1\x00", "a reserved bit, though no extension was agreed on"),
            (b"\x83\x00", "a reserved opcode"),
            (b"\x81\x80\0\0\0\0", "a masked frame from a server"),
            (b"\x81\x7e\x00\x05hello", "a length in more bytes than it needs"),
            (b"\x09\x00", "a fragmented or long control frame"),
            (b"\x80\x00", "a continuation of nothing"),
            (b"\x01\x00\x81\x00", "a new message before the last fragment"),
            (b"\x81\x01\xff", "text that is not UTF-8"),
            (b"\x88\x01\x03", "a Close with half a code"),
            (b"\x88\x02\x03\xed", "a Close that RFC 6455 forbids"),
            (&differs, "a body that differs"),
        ];
        for (stream, complaint) in cases {
            assert_eq!(complaints(stream), [complaint]);
        }
    }
}
