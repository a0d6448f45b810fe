//! A client in memory: a socket with room for so many bytes, and a reader that takes only what RFC 6455 lets a server
//! send.

use std::io::{self, ErrorKind, IoSlice};

use crate::encode::proto::twin;
use crate::hub::SessionId;
use crate::protocol::Protocol;
use crate::ws::{Opcode, client_frame};

/// What a client saw on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

impl Seen {
    /// A message of `trestle.v1.proto` as `trestle.v1.json` has it: what is said is the same.
    fn translate(&mut self) {
        match self {
            Self::Binary(payload) => *self = Self::Text(twin::json(payload).to_string()),
            Self::Text(text) => panic!("trestle.v1.proto has no text frames: {text}"),
            _ => {}
        }
    }
}

/// The kernel's side of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    /// Bytes it takes before the client reads some.
    pub(super) room: usize,
    /// What the client did not read yet.
    buffer: Vec<u8>,
    /// Bytes it ever took.
    pub(super) taken: usize,
    /// Every call of `write`.
    pub(super) writes: usize,
}

impl Socket {
    /// `writev(2)` on a socket that does not block.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writes += 1;
        let mut room = self.room.saturating_sub(self.buffer.len());
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let before = self.buffer.len();
        for slice in slices {
            let now = room.min(slice.len());
            self.buffer.extend_from_slice(&slice[..now]);
            room -= now;
        }
        let written = self.buffer.len() - before;
        self.taken += written;
        Ok(written)
    }
}

/// Parses a server's frames as strictly as RFC 6455 has it.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    is_closed: bool,
}

impl Frames {
    fn push(&mut self, bytes: &[u8]) -> Vec<Seen> {
        self.bytes.extend_from_slice(bytes);
        let mut at = 0;
        let mut seen = Vec::new();
        while let Some((frame, len)) = parse(&self.bytes[at..]) {
            assert!(!self.is_closed, "§5.5.1: {frame:?} behind the Close frame");
            self.is_closed = matches!(frame, Seen::Close(_));
            seen.push(frame);
            at += len;
        }
        self.bytes.drain(..at);
        seen
    }
}

/// The first frame of `bytes`, if it is whole, and its length.
fn parse(bytes: &[u8]) -> Option<(Seen, usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    assert_eq!(first & 0xf0, 0x80, "§5.2: whole messages, no reserved bits");
    assert_eq!(second & 0x80, 0, "§5.1: a server does not mask");
    let (len, header) = match second {
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).unwrap(), 10),
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        len => (usize::from(*len), 2),
    };
    let shortest = [(0, 2), (126, 4), (65_536, 10)].iter().rev().find(|(from, _)| len >= *from).unwrap().1;
    assert_eq!(header, shortest, "§5.2: the length in its shortest form");
    let payload = bytes.get(header..header + len)?.to_vec();
    let seen = match first & 0x0f {
        0x1 => Seen::Text(String::from_utf8(payload).expect("§8.1: a text is UTF-8")),
        0x2 => Seen::Binary(payload),
        0x8 => {
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            assert!(code.is_some() || payload.is_empty(), "§5.5.1: a code or nothing");
            Seen::Close(code)
        }
        0x9 => Seen::Ping(payload),
        0xa => Seen::Pong(payload),
        opcode => panic!("§5.2: opcode {opcode}"),
    };
    Some((seen, header + len))
}

/// One client, from its handshake on.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) protocol: Protocol,
    /// `None` once the connection is gone.
    pub(super) session: Option<SessionId>,
    pub(super) socket: Socket,
    /// It reads and answers pings, as a browser does by itself.
    pub(super) reads: bool,
    pub(super) pongs: bool,
    /// The last visit could not write everything.
    pub(super) is_blocked: bool,
    frames: Frames,
    /// All it saw.
    pub(super) seen: Vec<Seen>,
}

impl Client {
    pub(super) fn new(protocol: Protocol, session: SessionId) -> Self {
        let socket = Socket { room: usize::MAX, buffer: Vec::new(), taken: 0, writes: 0 };
        Self {
            protocol,
            session: Some(session),
            socket,
            reads: true,
            pongs: true,
            is_blocked: false,
            frames: Frames::default(),
            seen: Vec::new(),
        }
    }

    /// Takes what the socket holds. Returns the pongs that are due for it.
    pub(super) fn read(&mut self) -> Vec<u8> {
        let mut new = self.frames.push(&std::mem::take(&mut self.socket.buffer));
        if self.protocol == Protocol::Proto {
            new.iter_mut().for_each(Seen::translate);
        }
        let pings = new.iter().filter_map(|seen| match seen {
            Seen::Ping(payload) if self.pongs => Some(payload),
            _ => None,
        });
        let pongs = pings.flat_map(|payload| masked(Opcode::Pong, payload)).collect();
        self.seen.extend(new);
        pongs
    }

    /// Whether something waits in its socket.
    pub(super) fn has_unread(&self) -> bool {
        !self.socket.buffer.is_empty()
    }
}

/// A whole frame of a client.
pub(super) fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    client_frame(opcode, true, [0x11, 0x22, 0x33, 0x44], payload)
}

/// A command, given in JSON, as a client of `protocol` sends it. What is no command goes out as it is.
pub(super) fn said(protocol: Protocol, text: &str) -> Vec<u8> {
    if protocol != Protocol::Proto {
        return masked(Opcode::Text, text.as_bytes());
    }
    let command = serde_json::from_str(text).ok().and_then(|json| twin::command(&json));
    masked(Opcode::Binary, &command.unwrap_or_else(|| text.as_bytes().to_vec()))
}
