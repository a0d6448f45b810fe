//! Where messages come from: one way in for each kind of server.

mod http;
mod lines;
mod nats;
pub mod pace;
mod zmq;
mod zmtp;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use trestle_process::exit::Exit;
use trestle_process::source::Endpoint;
use trestle_process::zmq::Listen;

use crate::flags::Source;
use crate::target::resolve;

/// How long a publisher's peer may take to answer or to take bytes.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that are put together before they are written.
const BUFFER_BYTES: usize = 64 << 10;

/// How messages reach the server, as the flags say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A ØMQ XPUB that connects.
    Connect(Endpoint),
    /// A ØMQ XPUB that listens.
    Bind(Listen),
    /// A client of a NATS server.
    Nats {
        /// HOST and port.
        host: String,
        /// Of the server.
        port: u16,
    },
    /// An HTTP POST for each message.
    Http(http::Place),
    /// Lines over TCP.
    Lines {
        /// HOST and port.
        host: String,
        /// Of the server.
        port: u16,
    },
    /// Raw ZMTP publishers that connect to a forwarder's frontend.
    Zmtp {
        /// The frontend.
        address: SocketAddr,
        /// How many.
        publishers: u32,
    },
}

impl Way {
    /// What the flags say; `None` if they say nothing.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag.
    pub fn of(flags: &Source) -> Result<Option<Self>, Exit> {
        if let Some(listen) = &flags.publish_bind {
            let listen =
                listen.parse().map_err(|error| Exit::usage(format!("--publish-bind {listen}: {error}")))?;
            return Ok(Some(Self::Bind(listen)));
        }
        let Some(url) = &flags.publish else { return Ok(None) };
        let wrong = |reason: &str| Exit::usage(format!("--publish {url}: {reason}"));
        let way = match url.split_once("://") {
            Some(("tcp" | "ipc", _)) => {
                Self::Connect(url.parse().map_err(|error| wrong(&format!("{error}")))?)
            }
            Some(("nats", rest)) => {
                let (host, port) = host_and_port(rest).map_err(wrong)?;
                Self::Nats { host, port }
            }
            Some(("line", rest)) => {
                let (host, port) = host_and_port(rest).map_err(wrong)?;
                Self::Lines { host, port }
            }
            Some(("http", rest)) => Self::Http(http::Place::new(rest, flags).map_err(wrong)?),
            _ => return Err(wrong("write tcp://, ipc://, nats://, http:// or line:// and HOST:PORT")),
        };
        Ok(Some(way))
    }
}

impl Way {
    /// Connections that messages go through in turn; what goes through different ones has no order.
    pub fn lanes(&self) -> u32 {
        match self {
            Self::Http(place) => place.connections(),
            Self::Zmtp { publishers, .. } => *publishers,
            Self::Connect(_) | Self::Bind(_) | Self::Nats { .. } | Self::Lines { .. } => 1,
        }
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = text.trim_end_matches('/').rsplit_once(':').ok_or("write HOST:PORT")?;
    let port = port.parse().ok().filter(|&port| port != 0).ok_or("its port must be 1 to 65535")?;
    if host.is_empty() { Err("write HOST:PORT") } else { Ok((host.to_owned(), port)) }
}

/// Who publishes.
#[derive(Debug)]
pub enum Publisher {
    /// Over ØMQ.
    Zmq(zmq::ZmqPublisher),
    /// To a NATS server.
    Nats(nats::NatsPublisher),
    /// By POST.
    Http(http::HttpPublisher),
    /// By lines.
    Lines(lines::LinePublisher),
    /// Over ZMTP, without libzmq.
    Zmtp(zmtp::ZmtpPublisher),
}

impl Publisher {
    /// Connects or listens.
    ///
    /// # Errors
    /// An [`Exit`] with code 69 if nobody is there, 71 if an address cannot be bound.
    pub fn open(way: &Way) -> Result<Self, Exit> {
        match way {
            Way::Connect(endpoint) => zmq::ZmqPublisher::connect(endpoint).map(Self::Zmq),
            Way::Bind(listen) => zmq::ZmqPublisher::bind(listen).map(Self::Zmq),
            Way::Nats { host, port } => nats::NatsPublisher::connect(host, *port).map(Self::Nats),
            Way::Http(place) => http::HttpPublisher::connect(place).map(Self::Http),
            Way::Lines { host, port } => lines::LinePublisher::connect(host, *port).map(Self::Lines),
            Way::Zmtp { address, publishers } => {
                zmtp::ZmtpPublisher::connect(*address, *publishers).map(Self::Zmtp)
            }
        }
    }

    /// Where it publishes, or where it listens with the port that it got.
    pub fn place(&self) -> &str {
        match self {
            Self::Zmq(publisher) => publisher.endpoint(),
            Self::Nats(publisher) => publisher.place(),
            Self::Http(publisher) => publisher.place(),
            Self::Lines(publisher) => publisher.place(),
            Self::Zmtp(publisher) => publisher.place(),
        }
    }

    /// Waits until somebody has subscribed to each of `topics`, where the protocol tells.
    ///
    /// # Errors
    /// An [`Exit`] with code 69 that names a topic that nobody wants.
    pub fn await_subscriptions(&mut self, topics: &[String], timeout: Duration) -> Result<(), Exit> {
        match self {
            Self::Zmq(publisher) => publisher.await_subscriptions(topics, timeout),
            Self::Zmtp(publisher) => publisher.await_subscriptions(topics, timeout),
            Self::Nats(_) | Self::Http(_) | Self::Lines(_) => Ok(()),
        }
    }

    /// Hands a message over; some kinds keep it until [`flush`](Self::flush). Messages of the same `lane`, modulo
    /// [`Way::lanes`], go the same way.
    ///
    /// # Errors
    /// An [`Exit`] with code 69 if the peer has gone.
    pub fn publish(&mut self, lane: u32, topic: &str, body: &[u8]) -> Result<(), Exit> {
        let sent = match self {
            Self::Zmq(publisher) => publisher.publish(topic, body),
            Self::Nats(publisher) => publisher.publish(topic, body),
            Self::Http(publisher) => publisher.publish(lane, topic, body),
            Self::Lines(publisher) => publisher.publish(topic, body),
            Self::Zmtp(publisher) => publisher.publish(lane, topic, body),
        };
        sent.map_err(|error| self.broken(&error))
    }

    /// Nothing stays behind.
    ///
    /// # Errors
    /// An [`Exit`] with code 69 if the peer has gone.
    pub fn flush(&mut self) -> Result<(), Exit> {
        let flushed = match self {
            Self::Zmq(_) | Self::Http(_) => Ok(()),
            Self::Nats(publisher) => publisher.flush(),
            Self::Lines(publisher) => publisher.flush(),
            Self::Zmtp(publisher) => publisher.flush(),
        };
        flushed.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &io::Error) -> Exit {
        Exit::unavailable(format!("publishing to {}: {error}", self.place()))
    }
}

/// A TCP connection to the publisher's peer, with timeouts.
fn dial(host: &str, port: u16) -> Result<TcpStream, Exit> {
    let address = resolve(host, port)?;
    let refuse = |error: io::Error| Exit::unavailable(format!("cannot publish to {host}:{port}: {error}"));
    let stream = TcpStream::connect_timeout(&address, PEER_TIMEOUT).map_err(refuse)?;
    stream.set_nodelay(true).map_err(refuse)?;
    stream.set_read_timeout(Some(PEER_TIMEOUT)).map_err(refuse)?;
    stream.set_write_timeout(Some(PEER_TIMEOUT)).map_err(refuse)?;
    Ok(stream)
}

/// Bytes for one peer, put together.
#[derive(Debug)]
struct Buffered {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Buffered {
    fn new(stream: TcpStream) -> Self {
        Self { stream, bytes: Vec::with_capacity(BUFFER_BYTES) }
    }

    /// Where to put the next message.
    fn room(&mut self) -> io::Result<&mut Vec<u8>> {
        if self.bytes.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(&mut self.bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.bytes.is_empty() {
            self.stream.write_all(&self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        source: Source,
    }

    fn way(flags: &[&str]) -> Result<Option<Way>, String> {
        Way::of(&Flags::parse_from([&["bench"], flags].concat()).source).map_err(|exit| {
            assert_eq!(exit.code, trestle_process::exit::USAGE);
            exit.reason
        })
    }

    #[test]
    fn each_scheme_has_its_publisher() {
        assert_eq!(way(&[]), Ok(None));
        assert_eq!(
            way(&["--publish", "tcp://h:5555"]),
            Ok(Some(Way::Connect("tcp://h:5555".parse().unwrap())))
        );
        assert_eq!(
            way(&["--publish-bind", "127.0.0.1:0"]),
            Ok(Some(Way::Bind("127.0.0.1:0".parse().unwrap())))
        );
        assert_eq!(
            way(&["--publish", "nats://h:4222"]),
            Ok(Some(Way::Nats { host: "h".to_owned(), port: 4222 }))
        );
        assert_eq!(way(&["--publish", "line://h:1"]), Ok(Some(Way::Lines { host: "h".to_owned(), port: 1 })));
        assert!(matches!(way(&["--publish", "http://h:80/pub?id={t}"]), Ok(Some(Way::Http(_)))));
        for (flags, named) in [
            (["--publish", "h:1"], "--publish h:1: write tcp://"),
            (["--publish", "nats://h"], "--publish nats://h: write HOST:PORT"),
            (["--publish", "line://h:0"], "--publish line://h:0: its port"),
            (["--publish", "tcp://*:1"], "--publish tcp://*:1: write tcp://"),
            (["--publish-bind", "x"], "--publish-bind x: neither"),
        ] {
            let reason = way(&flags).unwrap_err();
            assert!(reason.starts_with(named), "{reason}");
        }
    }
}
