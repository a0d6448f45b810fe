//! Publishing by HTTP: a POST for each message, over a few connections that are kept.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use memchr::memmem;
use trestle_process::exit::Exit;

use super::{dial, host_and_port};
use crate::flags::Source;
use crate::pattern::Pattern;

/// A longer answer to a POST is none, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where to POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    host: String,
    port: u16,
    path: Pattern,
    text: String,
    headers: Vec<String>,
    connections: u64,
}

impl Place {
    /// `rest` is what stands behind `http://`.
    pub fn new(rest: &str, flags: &Source) -> Result<Self, &'static str> {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = host_and_port(authority)?;
        if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err("its path must be plain ASCII");
        }
        Ok(Self {
            host,
            port,
            path: Pattern::new(if path.is_empty() { "/" } else { path }),
            text: format!("http://{rest}"),
            headers: flags.publish_header.clone(),
            connections: flags.publish_connections,
        })
    }
}

impl Place {
    pub fn connections(&self) -> u32 {
        u32::try_from(self.connections).expect("bounded by its flag")
    }
}

/// Connections with a request under way each.
#[derive(Debug)]
pub struct HttpPublisher {
    place: Place,
    connections: Vec<Connection>,
    request: Vec<u8>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    is_waiting: bool,
    answer: Vec<u8>,
}

impl HttpPublisher {
    /// Connects.
    pub fn connect(place: &Place) -> Result<Self, Exit> {
        let connection = |_| {
            let stream = dial(&place.host, place.port)?;
            Ok(Connection { stream, is_waiting: false, answer: Vec::new() })
        };
        let connections = (0..place.connections).map(connection).collect::<Result<_, Exit>>()?;
        Ok(Self { place: place.clone(), connections, request: Vec::new() })
    }

    pub fn place(&self) -> &str {
        &self.place.text
    }

    pub fn publish(&mut self, lane: u32, topic: &str, body: &[u8]) -> io::Result<()> {
        let Place { host, port, path, headers, .. } = &self.place;
        self.request.clear();
        write!(self.request, "POST {} HTTP/1.1\r\nHost: {host}:{port}\r\n", path.fill(0, topic))?;
        for header in headers {
            write!(self.request, "{header}\r\n")?;
        }
        write!(self.request, "Content-Length: {}\r\n\r\n", body.len())?;
        self.request.extend_from_slice(body);
        let nth = lane as usize % self.connections.len();
        let connection = &mut self.connections[nth];
        connection.finish()?;
        connection.stream.write_all(&self.request)?;
        connection.is_waiting = true;
        Ok(())
    }
}

impl Connection {
    /// Waits for the answer to the request that is under way, if one is.
    fn finish(&mut self) -> io::Result<()> {
        if !self.is_waiting {
            return Ok(());
        }
        self.answer.clear();
        loop {
            let mut bytes = [0; 4096];
            let length = self.stream.read(&mut bytes)?;
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.answer.extend_from_slice(&bytes[..length]);
            if is_whole(&self.answer)? {
                self.is_waiting = false;
                return Ok(());
            }
        }
    }
}

/// Whether `answer` is a whole response; an error unless its status is 2xx.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let Some(end) = memmem::find(answer, b"\r\n\r\n") else {
        let is_short = answer.len() <= ANSWER_BYTES_MAX;
        return if is_short { Ok(false) } else { Err(io::Error::other("an endless answer")) };
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1).is_none_or(|code| !code.starts_with('2')) {
        return Err(io::Error::other(format!("the server answered {status:?}")));
    }
    let body = &answer[end + 4..];
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if value("transfer-encoding:").is_some_and(|coding| coding.contains("chunked")) {
        return Ok(body.ends_with(b"0\r\n\r\n"));
    }
    let length = value("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
    Ok(body.len() >= length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_end_and_not_before() {
        for answer in [
            "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ] {
            for length in 0..answer.len() {
                assert!(!is_whole(&answer.as_bytes()[..length]).unwrap(), "{length} of {answer}");
            }
            assert!(is_whole(answer.as_bytes()).unwrap(), "{answer}");
        }
        assert!(is_whole(b"HTTP/1.1 403 No\r\n\r\n").unwrap_err().to_string().contains("403"));
    }
}
