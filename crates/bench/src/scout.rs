//! One client that reads what it is told: where in its history a server stands.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use memchr::memmem;
use serde_json::Value;
use trestle_process::exit::Exit;

use crate::frames::client_frame;
use crate::interrupt;
use crate::marker::{self, MARK_BYTES, Mark, Marker};
use crate::target::{ACCEPT, Target};

/// How long one read waits at most, before the clock is looked at.
const TICK: Duration = Duration::from_millis(20);
/// An answer or a message is not longer, bytes.
const BYTES_MAX: usize = 8 << 20;

/// A client in the format `trestle.v1.json`.
#[derive(Debug)]
pub struct Scout {
    stream: TcpStream,
    place: String,
    /// What has come and was not taken.
    bytes: Vec<u8>,
    marker: Marker,
}

/// A message that it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Of this run.
    pub mark: Mark,
    /// Where it stands in the server's history; `None` if that has no place for it.
    pub position: Option<String>,
}

impl Scout {
    /// Connects as client 0 of `target` and subscribes.
    ///
    /// # Errors
    /// An [`Exit`] with code 69.
    pub fn connect(
        target: &Target,
        address: SocketAddr,
        marker: Marker,
        timeout: Duration,
    ) -> Result<Self, Exit> {
        let deadline = Instant::now() + timeout;
        let refuse = |error| Exit::unavailable(format!("{address}: {error}"));
        let stream = TcpStream::connect_timeout(&address, timeout).map_err(refuse)?;
        stream.set_nodelay(true).map_err(refuse)?;
        stream.set_read_timeout(Some(TICK)).map_err(refuse)?;
        stream.set_write_timeout(Some(timeout)).map_err(refuse)?;
        let mut scout = Self { stream, place: address.to_string(), bytes: Vec::new(), marker };
        scout.send(&target.request(0))?;
        let end = loop {
            match memmem::find(&scout.bytes, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if Instant::now() > deadline => return Err(scout.unavailable("does not answer")),
                None => scout.read()?,
            }
        };
        let head: Vec<u8> = scout.bytes.drain(..end).collect();
        let head = String::from_utf8_lossy(&head);
        if !head.starts_with("HTTP/1.1 101") || !head.contains(ACCEPT) {
            let status = head.lines().next().unwrap_or_default();
            return Err(scout.unavailable(&format!("answered {status:?}")));
        }
        scout.send(&target.subscribe(0))?;
        Ok(scout)
    }

    /// The next message of this run; `None` if none comes until `deadline`.
    ///
    /// # Errors
    /// An [`Exit`] with code 69 if the server refuses the subscription or ends the connection.
    pub fn event(&mut self, deadline: Instant) -> Result<Option<Event>, Exit> {
        loop {
            while let Some((opcode, payload)) = self.frame() {
                match opcode {
                    1 => {
                        if let Some(event) = self.understand(&payload)? {
                            return Ok(Some(event));
                        }
                    }
                    8 => return Err(self.unavailable("closed the connection")),
                    9 => self.send(&client_frame(10, &payload))?,
                    _ => {}
                }
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            self.read()?;
        }
    }

    fn understand(&self, payload: &[u8]) -> Result<Option<Event>, Exit> {
        let Ok(message) = serde_json::from_slice::<Value>(payload) else {
            return Err(self.unavailable("sends a text that is no JSON"));
        };
        if let Some(error) = message.pointer("/reply/error") {
            return Err(self.unavailable(&format!("refuses the subscription: {error}")));
        }
        let mark = self.marker.find(payload).and_then(|at| marker::read(payload.get(at..at + MARK_BYTES)?));
        let position = || message.pointer("/event/position")?.as_str().map(str::to_owned);
        Ok(mark.map(|mark| Event { mark, position: position() }))
    }

    /// The next whole frame: its opcode and its payload. RFC 6455 §5.2; servers do not mask.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, second, rest @ ..] = &self.bytes[..] else { return None };
        let (header, length) = match second & 0x7f {
            126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
            length => (2, u64::from(length)),
        };
        let end = header + usize::try_from(length).ok()?;
        let (opcode, payload) = (first & 0x0f, self.bytes.get(header..end)?.to_vec());
        self.bytes.drain(..end);
        Some((opcode, payload))
    }

    /// Takes in what there is, or waits a moment for it.
    fn read(&mut self) -> Result<(), Exit> {
        interrupt::check()?;
        let mut bytes = [0; 64 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(self.unavailable("ended the connection")),
            Ok(length) if self.bytes.len() + length > BYTES_MAX => Err(self.unavailable("sends too much")),
            Ok(length) => {
                self.bytes.extend_from_slice(&bytes[..length]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(self.unavailable(&error.to_string())),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Exit> {
        let sent = self.stream.write_all(bytes);
        sent.map_err(|error| self.unavailable(&error.to_string()))
    }

    fn unavailable(&self, what: &str) -> Exit {
        Exit::unavailable(format!("{} {what}", self.place))
    }
}
