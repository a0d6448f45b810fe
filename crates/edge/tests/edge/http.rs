//! Requests as they are on the wire, so that a test can break any line of them.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::fixture::DEADLINE;

/// The key of RFC 6455 §1.3, whose answer is [`ACCEPT`].
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            line: format!("{method} {target} HTTP/1.1"),
            headers: vec![("Host".into(), "edge".into())],
            body: Vec::new(),
        }
    }

    /// A request with a body.
    pub(crate) fn post(target: &str, body: &[u8]) -> Self {
        let request = Self::new("POST", target).with("Content-Length", &body.len().to_string());
        Self { body: body.to_vec(), ..request }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// The request of a browser for a WebSocket.
    pub(crate) fn websocket(target: &str, protocol: &str) -> Self {
        Self::get(target)
            .with("Upgrade", "websocket")
            .with("Connection", "Upgrade")
            .with("Sec-WebSocket-Key", KEY)
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Protocol", protocol)
    }

    /// One more header line.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn replacing(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    pub(crate) fn by_http_1_0(mut self) -> Self {
        self.line = self.line.replace("HTTP/1.1", "HTTP/1.0");
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }

    /// Sends it on a connection of its own and reads the answer.
    pub(crate) fn to(&self, address: SocketAddr) -> Answer {
        let mut stream = connect(address);
        stream.write_all(&self.bytes()).unwrap();
        Answer::read(&mut stream)
    }
}

/// A connection on which nothing waits longer than the deadline.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// What came behind the answer.
    pub(crate) rest: Vec<u8>,
}

impl Answer {
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let head_bytes = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(read_more(stream, &mut bytes), "no whole head: {}", String::from_utf8_lossy(&bytes));
        };
        let body = bytes.split_off(head_bytes);
        let mut answer = Self { body, ..Self::of_head(&bytes) };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while answer.body.len() < length {
            assert!(read_more(stream, &mut answer.body), "no whole body");
        }
        answer.rest = answer.body.split_off(length);
        answer
    }

    /// The head alone, with whatever follows.
    pub(crate) fn of_head(bytes: &[u8]) -> Self {
        let head = String::from_utf8(bytes.to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: Vec::new(), rest: Vec::new() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find_map(|(other, value)| other.eq_ignore_ascii_case(name).then_some(value))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Reads once; false at the end of the stream.
pub(crate) fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 << 10];
    let n = stream.read(&mut chunk).expect("bytes, or the end, before the deadline");
    bytes.extend_from_slice(&chunk[..n]);
    n > 0
}
