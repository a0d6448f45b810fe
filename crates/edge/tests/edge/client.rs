//! A WebSocket client that does nothing by itself: no pong, no answer to a close, no reading ahead of a test.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use trestle_hub::ws::{Incoming, Inflater, Opcode, client_frame};

use crate::fixture::{DEADLINE, TestEdge};
use crate::http::{Answer, Request, connect};

pub(crate) const RAW: &str = "rust-websocket";
pub(crate) const JSON: &str = "trestle.v1.json";

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// The connection ended.
    End,
}

impl Said {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    /// Read and not yet looked at, from `at` on.
    bytes: Vec<u8>,
    at: usize,
    /// Of a client that agreed to permessage-deflate.
    inflater: Option<Inflater>,
    /// Messages that came compressed.
    pub(crate) n_compressed: usize,
    /// The first message of a JSON client.
    pub(crate) welcome: Value,
}

impl Client {
    /// A client of `rust-websocket`.
    pub(crate) fn raw(edge: &TestEdge, target: &str) -> Self {
        Self::open(edge, &Request::websocket(target, RAW))
    }

    /// A client of `trestle.v1.json` that has been welcomed.
    pub(crate) fn json(edge: &TestEdge, target: &str) -> Self {
        Self::open(edge, &Request::websocket(target, JSON)).welcomed()
    }

    /// The same where only the address is known.
    pub(crate) fn at(address: SocketAddr, target: &str) -> Self {
        Self::upgrade(connect(address), &Request::websocket(target, JSON).bytes()).welcomed()
    }

    pub(crate) fn open(edge: &TestEdge, request: &Request) -> Self {
        Self::upgrade(connect(edge.address()), &request.bytes())
    }

    /// A client with next to no room in its kernel: what it does not read stays at the edge.
    pub(crate) fn with_small_buffer(edge: &TestEdge, target: &str, protocol: &str) -> Self {
        let stream = Self::small_buffer(edge.address());
        let client = Self::upgrade(stream, &Request::websocket(target, protocol).bytes());
        if protocol == JSON { client.welcomed() } else { client }
    }

    /// A connection for such a client.
    pub(crate) fn small_buffer(address: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        socket.connect(&address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends `bytes`, of which a request for a WebSocket is the first part.
    pub(crate) fn upgrade(mut stream: TcpStream, bytes: &[u8]) -> Self {
        stream.write_all(bytes).unwrap();
        let answer = Answer::read(&mut stream);
        assert_eq!(answer.status, 101, "{}{}", answer.head, String::from_utf8_lossy(&answer.body));
        Self::of(stream, answer)
    }

    /// A client whose handshake has been answered.
    pub(crate) fn of(stream: TcpStream, answer: Answer) -> Self {
        let inflater = answer.header("sec-websocket-extensions").map(|_| Inflater::new(64 << 20));
        Self { stream, bytes: answer.rest, at: 0, inflater, n_compressed: 0, welcome: Value::Null }
    }

    pub(crate) fn welcomed(mut self) -> Self {
        self.welcome = self.json_message()["welcome"].take();
        assert!(self.welcome.is_object(), "a welcome comes first");
        self
    }

    /// What the server says next.
    pub(crate) fn next(&mut self) -> Said {
        let Some(header) = self.peek(2) else { return Said::End };
        let (first, short) = (header[0], header[1]);
        let is_compressed = self.inflater.is_some() && first & 0x40 != 0;
        assert_eq!(
            first & 0xf0,
            0x80 | u8::from(is_compressed) << 6,
            "whole frames, only what was agreed to"
        );
        let (header_bytes, length) = match short {
            126 => (4, self.peek(4).map(|head| usize::from(u16::from_be_bytes([head[2], head[3]])))),
            127 => (10, self.peek(10).map(|head| u64::from_be_bytes(head[2..].try_into().unwrap()) as usize)),
            short => (2, Some(usize::from(short))),
        };
        let Some(length) = length else { return Said::End };
        let Some(frame) = self.peek(header_bytes + length) else { return Said::End };
        let mut payload = frame[header_bytes..].to_vec();
        self.at += header_bytes + length;
        if is_compressed {
            self.n_compressed += 1;
            let inflated = self.inflater.as_mut().map(|inflater| inflater.inflate(false, &payload));
            let Some(Ok(Incoming::Binary(message))) = inflated else { panic!("{inflated:?}") };
            payload = message.to_vec();
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        match first & 0x0f {
            0x1 => Said::Text(text(&payload)),
            0x2 => Said::Binary(payload),
            0x8 => match payload.split_first_chunk() {
                Some((code, reason)) => Said::Close(Some(u16::from_be_bytes(*code)), text(reason)),
                None => Said::Close(None, String::new()),
            },
            0x9 => Said::Ping(payload),
            0xa => Said::Pong(payload),
            other => panic!("opcode {other:#x}"),
        }
    }

    /// The next message or end; pings are answered.
    pub(crate) fn message(&mut self) -> Said {
        loop {
            match self.next() {
                Said::Ping(payload) => self.send(Opcode::Pong, &payload),
                said => return said,
            }
        }
    }

    /// The next `n` text messages.
    pub(crate) fn texts(&mut self, n: usize) -> Vec<String> {
        let text = |said| match said {
            Said::Text(text) => text,
            other => panic!("no text: {other:?}"),
        };
        (0..n).map(|_| text(self.message())).collect()
    }

    /// The next message, which is JSON.
    pub(crate) fn json_message(&mut self) -> Value {
        match self.message() {
            Said::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("no JSON: {other:?}"),
        }
    }

    /// The next message called `name`; heartbeats before it are skipped.
    pub(crate) fn named(&mut self, name: &str) -> Value {
        loop {
            let mut message = self.json_message();
            if let Some(found) = message.get_mut(name) {
                return found.take();
            }
            assert!(message.get("heartbeat").is_some(), "no {name}: {message}");
        }
    }

    pub(crate) fn event(&mut self) -> Value {
        self.named("event")
    }

    /// Sends a command and gives its reply.
    pub(crate) fn command(&mut self, command: &Value) -> Value {
        self.say(command);
        self.named("reply")
    }

    /// Subscribes and gives what the reply says of it.
    pub(crate) fn subscribe(&mut self, topics: &[&str]) -> Value {
        let mut reply = self.command(&json!({"id": 1, "subscribe": {"topics": topics}}));
        let caught_up = self.named("caught_up");
        assert_eq!(caught_up["id"], 1);
        reply["subscribed"].take()
    }

    pub(crate) fn say(&mut self, command: &Value) {
        self.send(Opcode::Text, command.to_string().as_bytes());
    }

    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        self.send_bytes(&client_frame(opcode, true, [1, 2, 3, 4], payload));
    }

    /// A connection that the server ended takes no more; a test sees that by what it reads.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.try_send_bytes(bytes);
    }

    /// Whether the connection took them.
    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Its socket.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Ends the connection without a word.
    pub(crate) fn hang_up(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }

    /// The next `n` bytes without taking them; `None` if the connection ended before.
    fn peek(&mut self, n: usize) -> Option<&[u8]> {
        let mut chunk = [0; 64 << 10];
        while self.bytes.len() - self.at < n {
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Ok(read) => {
                    self.bytes.drain(..std::mem::take(&mut self.at));
                    self.bytes.extend_from_slice(&chunk[..read]);
                }
                Err(error) => panic!("nothing came before the deadline: {error}"),
            }
        }
        Some(&self.bytes[self.at..self.at + n])
    }
}
