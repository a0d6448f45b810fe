//! Publishing to a NATS server, by its text protocol.

use std::io::{self, ErrorKind, Read as _, Write as _};

use trestle_process::exit::Exit;

use super::{Buffered, dial};

/// Longer than any greeting of a server, bytes.
const GREETING_BYTES_MAX: usize = 64 << 10;

/// A NATS client that only publishes.
#[derive(Debug)]
pub struct NatsPublisher {
    out: Buffered,
    place: String,
}

impl NatsPublisher {
    /// Connects and waits for the server's PONG.
    pub fn connect(host: &str, port: u16) -> Result<Self, Exit> {
        let place = format!("nats://{host}:{port}");
        let mut stream = dial(host, port)?;
        let hello = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"trestle-bench\"}\r\nPING\r\n";
        let mut greet = || {
            stream.write_all(hello)?;
            let mut heard = Vec::new();
            while !heard.ends_with(b"PONG\r\n") {
                let mut bytes = [0; 4096];
                let length = stream.read(&mut bytes)?;
                heard.extend_from_slice(&bytes[..length]);
                if length == 0 || heard.len() > GREETING_BYTES_MAX || heard.starts_with(b"-ERR") {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "no NATS server that lets anybody in",
                    ));
                }
            }
            Ok(())
        };
        greet().map_err(|error| Exit::unavailable(format!("cannot publish to {place}: {error}")))?;
        Ok(Self { out: Buffered::new(stream), place })
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn publish(&mut self, topic: &str, body: &[u8]) -> io::Result<()> {
        let out = self.out.room()?;
        write!(out, "PUB {topic} {}\r\n", body.len())?;
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
