//! Publishing by lines over TCP: topic, a space, the body, LF. The least that a server for comparison can take.

use std::io;

use trestle_process::exit::Exit;

use super::{Buffered, dial};

/// A TCP connection that takes lines.
#[derive(Debug)]
pub struct LinePublisher {
    out: Buffered,
    place: String,
}

impl LinePublisher {
    /// Connects.
    pub fn connect(host: &str, port: u16) -> Result<Self, Exit> {
        Ok(Self { out: Buffered::new(dial(host, port)?), place: format!("line://{host}:{port}") })
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn publish(&mut self, topic: &str, body: &[u8]) -> io::Result<()> {
        let out = self.out.room()?;
        out.extend_from_slice(topic.as_bytes());
        out.push(b' ');
        out.extend_from_slice(body);
        out.push(b'\n');
        Ok(())
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
