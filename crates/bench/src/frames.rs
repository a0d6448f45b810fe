//! Where frames begin and end in a stream of bytes, as cheaply as that can be known.
//!
//! Marks are found without this. It is here for what a client owes its server and its user: pings are answered, the
//! server's reason to close is told, frames are counted. Payloads are skipped, not looked at; one frame costs some
//! nanoseconds.

/// A control frame's payload is at most this long (RFC 6455 §5.5); ØMQ's PING is shorter.
const CONTROL_BYTES_MAX: u64 = 125;

/// How frames stand in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// RFC 6455, from a server.
    WebSocket,
    /// ZMTP 3 (ZeroMQ RFC 23), after the greeting.
    Zmtp,
}

/// What needs an answer or an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// A WebSocket ping, or the context of a ZMTP PING: to be sent back.
    Ping(&'a [u8]),
    /// The server's Close: its code, 1005 if there was none (RFC 6455 §7.1.5).
    Close(u16),
    /// Not a frame that a server may send; the rest of the stream means nothing.
    Broken,
}

/// Follows the frames of one connection.
#[derive(Debug, Clone)]
pub struct Frames {
    framing: Framing,
    /// Bytes of the current payload that are still to come.
    skip: u64,
    /// The beginning of a header or control frame that was cut off by the end of a read.
    cut: Vec<u8>,
    /// Frames so far.
    pub count: u64,
}

struct Header {
    bytes: usize,
    payload: u64,
    is_control: bool,
}

impl Frames {
    /// A stream that begins with a frame.
    pub fn new(framing: Framing) -> Self {
        Self { framing, skip: 0, cut: Vec::new(), count: 0 }
    }

    /// Goes through the next bytes and tells of control frames.
    pub fn walk(&mut self, mut bytes: &[u8], mut control: impl FnMut(Control<'_>)) {
        while !self.cut.is_empty() && !bytes.is_empty() {
            // A header, or a small frame: byte by byte until it is whole.
            self.cut.push(bytes[0]);
            bytes = &bytes[1..];
            let cut = std::mem::take(&mut self.cut);
            let used = self.one(&cut, &mut control);
            if used == 0 {
                self.cut = cut;
            }
        }
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len() as u64);
                self.skip -= skipped;
                bytes = &bytes[usize::try_from(skipped).expect("at most the slice's length")..];
                continue;
            }
            let used = self.one(bytes, &mut control);
            if used == 0 {
                self.cut = bytes.to_vec();
                return;
            }
            bytes = &bytes[used..];
        }
    }

    /// The header, or whole control frame, that `bytes` begin with: how long it is, 0 if there is more to come.
    #[inline]
    fn one(&mut self, bytes: &[u8], control: &mut impl FnMut(Control<'_>)) -> usize {
        let header = match self.framing {
            Framing::WebSocket => web_socket(bytes),
            Framing::Zmtp => zmtp(bytes),
        };
        let Ok(header) = header else {
            control(Control::Broken);
            self.skip = u64::MAX;
            return bytes.len();
        };
        let Some(header) = header else { return 0 };
        if !header.is_control {
            self.count += 1;
            self.skip = header.payload;
            return header.bytes;
        }
        let end = header.bytes + usize::try_from(header.payload).expect("at most 125");
        let Some(payload) = bytes.get(header.bytes..end) else { return 0 };
        self.count += 1;
        match (self.framing, bytes[0] & 0x0f) {
            (Framing::WebSocket, 8) => control(Control::Close(match payload {
                [high, low, ..] => u16::from_be_bytes([*high, *low]),
                _ => 1005,
            })),
            (Framing::WebSocket, 9) => control(Control::Ping(payload)),
            (Framing::WebSocket, _) => {}
            (Framing::Zmtp, _) => {
                // ZMTP 3.1: name PING, a time to live of two bytes, a context.
                if let Some(context) = payload.strip_prefix(b"\x04PING").and_then(|ping| ping.get(2..)) {
                    control(Control::Ping(context));
                }
            }
        }
        end
    }
}

/// RFC 6455 §5.2. `Err` for what a server may not send at all: a masked frame, a long control frame.
fn web_socket(bytes: &[u8]) -> Result<Option<Header>, ()> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let is_control = first & 0x08 != 0;
    let (bytes, payload) = match second & 0x7f {
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
    if second & 0x80 != 0 || (is_control && payload > CONTROL_BYTES_MAX) {
        return Err(());
    }
    Ok(Some(Header { bytes, payload, is_control }))
}

/// ZeroMQ RFC 23: flags more 1, long 2, command 4.
fn zmtp(bytes: &[u8]) -> Result<Option<Header>, ()> {
    let [flags, rest @ ..] = bytes else { return Ok(None) };
    let (bytes, payload) = match (flags & 2 != 0, rest) {
        (false, [length, ..]) => (2, u64::from(*length)),
        (true, rest) => match rest.first_chunk() {
            Some(length) => (9, u64::from_be_bytes(*length)),
            None => return Ok(None),
        },
        (false, []) => return Ok(None),
    };
    if flags & !7 != 0 {
        return Err(());
    }
    // A long command is none that we answer: it is skipped like data.
    Ok(Some(Header { bytes, payload, is_control: flags & 4 != 0 && payload <= CONTROL_BYTES_MAX }))
}

/// A frame from a client: masked, as it must be (RFC 6455 §5.3). The mask is a fixed one: it protects proxies from
/// scripts in browsers, and there is neither here.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).expect("below 126")),
        long => match u16::try_from(long) {
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        },
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A ZMTP command that answers a PING.
pub fn zmtp_pong(context: &[u8]) -> Vec<u8> {
    let body = [b"\x04PONG", context].concat();
    let mut frame = vec![4, u8::try_from(body.len()).expect("a context is shorter than a PING")];
    frame.extend_from_slice(&body);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A server's frame: as a client's without mask.
    pub(crate) fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = client_frame(opcode, payload);
        let header = frame.len() - payload.len() - 4;
        frame.drain(header..);
        frame[1] &= 0x7f;
        frame.extend_from_slice(payload);
        frame
    }

    fn zmtp_frame(flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = match u8::try_from(payload.len()) {
            Ok(length) => vec![flags, length],
            Err(_) => [&[flags | 2][..], &(payload.len() as u64).to_be_bytes()].concat(),
        };
        frame.extend_from_slice(payload);
        frame
    }

    fn walk_in_reads(framing: Framing, stream: &[u8], mut cuts: Vec<usize>) -> (u64, Vec<String>) {
        cuts.iter_mut().for_each(|cut| *cut %= stream.len() + 1);
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let (mut frames, mut told) = (Frames::new(framing), Vec::new());
        for ends in cuts.windows(2) {
            frames.walk(&stream[ends[0]..ends[1]], |control| told.push(format!("{control:?}")));
        }
        (frames.count, told)
    }

    proptest! {
        #[test]
        fn web_socket_frames_are_followed_however_the_stream_is_cut(
            items in prop::collection::vec((prop::sample::select(vec![1u8, 2, 0, 8, 9, 10]), 0..400usize, any::<u8>()), 0..12),
            huge in 65_530..65_540usize, cuts in prop::collection::vec(any::<usize>(), 0..60),
        ) {
            let (mut stream, mut expected) = (server_frame(2, &vec![0x89; huge]), Vec::new());
            for &(opcode, length, byte) in &items {
                let payload = vec![byte; if opcode < 8 { length } else { length % 126 }];
                stream.extend(server_frame(opcode, &payload));
                match opcode {
                    8 => expected.push(format!("{:?}", Control::Close(if payload.len() < 2 { 1005 } else { u16::from_be_bytes([byte, byte]) }))),
                    9 => expected.push(format!("{:?}", Control::Ping(&payload))),
                    _ => {}
                }
            }
            let (count, told) = walk_in_reads(Framing::WebSocket, &stream, cuts);
            prop_assert_eq!(count, items.len() as u64 + 1);
            prop_assert_eq!(told, expected);
        }

        #[test]
        fn zmtp_frames_are_followed_however_the_stream_is_cut(
            items in prop::collection::vec((any::<bool>(), 0..600usize), 0..12),
            cuts in prop::collection::vec(any::<usize>(), 0..60),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for &(is_ping, length) in &items {
                if is_ping {
                    let context = vec![7; length % 17];
                    stream.extend(zmtp_frame(4, &[b"\x04PING\x00\x96", &context[..]].concat()));
                    expected.push(format!("{:?}", Control::Ping(&context)));
                } else {
                    stream.extend(zmtp_frame(1, &vec![4; length]));
                }
            }
            let (count, told) = walk_in_reads(Framing::Zmtp, &stream, cuts);
            prop_assert_eq!(count, items.len() as u64);
            prop_assert_eq!(told, expected);
        }
    }

    #[test]
    fn what_no_server_may_send_ends_the_stream() {
        for broken in [client_frame(1, b"masked"), vec![0x89, 126, 1, 0]] {
            let (count, told) = walk_in_reads(
                Framing::WebSocket,
                &[server_frame(1, b"x"), broken, vec![0x89, 0]].concat(),
                vec![],
            );
            assert_eq!((count, told), (1, vec!["Broken".to_owned()]));
        }
    }

    #[test]
    fn a_pong_is_the_answer_that_libzmq_expects() {
        assert_eq!(zmtp_pong(b"ab"), b"\x04\x07\x04PONGab");
    }
}
