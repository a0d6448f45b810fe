//! Publishing to a ØMQ forwarder without libzmq: many messages in one write.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use trestle_process::exit::Exit;

use super::{Buffered, PEER_TIMEOUT};
use crate::zmtp;

/// Some publishers at one frontend; messages go through them in turn.
#[derive(Debug)]
pub struct ZmtpPublisher {
    peers: Vec<Peer>,
    place: String,
}

#[derive(Debug)]
struct Peer {
    out: Buffered,
    /// What came and is no whole frame yet.
    unread: Vec<u8>,
    prefixes: HashSet<Vec<u8>>,
}

impl ZmtpPublisher {
    /// Connects and shakes hands.
    pub fn connect(address: SocketAddr, publishers: u32) -> Result<Self, Exit> {
        let place = format!("tcp://{address}");
        let refuse = |error: io::Error| Exit::unavailable(format!("cannot publish to {place}: {error}"));
        let peers =
            (0..publishers).map(|_| Peer::connect(address)).collect::<io::Result<_>>().map_err(refuse)?;
        Ok(Self { peers, place })
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn await_subscriptions(&mut self, topics: &[String], timeout: Duration) -> Result<(), Exit> {
        let deadline = Instant::now() + timeout;
        for peer in &mut self.peers {
            for topic in topics {
                while !(0..=topic.len()).any(|length| peer.prefixes.contains(&topic.as_bytes()[..length])) {
                    let heard =
                        if Instant::now() < deadline { peer.hear() } else { Err(ErrorKind::TimedOut.into()) };
                    heard.map_err(|error| {
                        let place = &self.place;
                        Exit::unavailable(format!(
                            "publisher at {place}: nobody subscribed to {topic}: {error}"
                        ))
                    })?;
                }
            }
        }
        Ok(())
    }

    pub fn publish(&mut self, lane: u32, topic: &str, body: &[u8]) -> io::Result<()> {
        let nth = lane as usize % self.peers.len();
        let out = self.peers[nth].out.room()?;
        zmtp::push_frame(out, topic.as_bytes(), true);
        zmtp::push_frame(out, body, false);
        Ok(())
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.peers.iter_mut().try_for_each(|peer| peer.out.flush())
    }
}

impl Peer {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, PEER_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PEER_TIMEOUT))?;
        stream.set_write_timeout(Some(PEER_TIMEOUT))?;
        stream.write_all(&zmtp::greeting())?;
        let mut greeting = [0; zmtp::GREETING_BYTES];
        stream.read_exact(&mut greeting)?;
        if !zmtp::is_compatible(&greeting) {
            return Err(io::Error::new(ErrorKind::InvalidData, "no ZMTP 3 peer without security"));
        }
        stream.write_all(&zmtp::ready("PUB"))?;
        let mut peer = Self { out: Buffered::new(stream), unread: Vec::new(), prefixes: HashSet::new() };
        while peer.take_frame().is_none() {
            peer.fill()?;
        }
        Ok(peer)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let length = self.out.stream.read(&mut bytes)?;
        if length == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend_from_slice(&bytes[..length]);
        Ok(())
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let (_, body, end) = zmtp::frame(&self.unread)?;
        let body = body.to_vec();
        self.unread.drain(..end);
        Some(body)
    }

    /// Takes in what comes next: to a 3.0 peer subscriptions are messages; newer ones may send commands.
    fn hear(&mut self) -> io::Result<()> {
        self.fill()?;
        while let Some(body) = self.take_frame() {
            match body.split_first() {
                Some((1, prefix)) => drop(self.prefixes.insert(prefix.to_vec())),
                Some((9, command)) if command.starts_with(b"SUBSCRIBE") => {
                    self.prefixes.insert(command[9..].to_vec());
                }
                _ => {}
            }
        }
        Ok(())
    }
}
