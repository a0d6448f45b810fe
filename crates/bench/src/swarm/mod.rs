//! All clients in one thread: edge-triggered readiness, one buffer, a search for marks in the raw bytes.
//!
//! A client is a socket, some forty bytes of a mark that a read cut off, and how far into a frame its stream is. Reading
//! costs one system call, one reading of the clock and some nanoseconds a message; that is what lets one core follow a
//! server that fills another.

mod connect;
mod shake;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::body::Body;
use crate::clock::Clock;
use crate::frames::{Control, Frames, Framing, client_frame, zmtp_pong};
use crate::marker::{Found, MARK_BYTES, Mark, Marker};
use crate::tally::histogram;
use crate::target::Target;
use crate::verify::Verifier;
use shake::Shake;

pub use connect::Connected;
pub use shake::Role;

/// Bytes of one read at most. Small enough for a core's own cache.
const READ_BYTES_MAX: usize = 256 << 10;
/// Room in front of each read for what the one before left.
const HEADROOM: usize = 64;
/// Readiness events of one wait. Few, so that a closed loop goes on while the rest is read.
const EVENTS_MAX: usize = 128;

/// Who hears of what the clients receive.
pub trait Sink {
    /// A mark has reached `client` at `now_ns`.
    fn mark(&mut self, client: u32, mark: Mark, now_ns: u64);
    /// Something came that no server should send.
    fn broken(&mut self);
}

/// Nobody listens.
#[derive(Debug)]
pub struct Deaf;

impl Sink for Deaf {
    fn mark(&mut self, _: u32, _: Mark, _: u64) {}
    fn broken(&mut self) {}
}

/// Counts since the swarm was made.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Bytes received.
    pub bytes: u64,
    /// System calls that brought some.
    pub reads: u64,
    /// Frames begun.
    pub frames: u64,
    /// Pings answered.
    pub pings: u64,
    /// Clients that the server disconnected after they were ready.
    pub disconnected: u64,
    /// How it ended with them: a close code, `end` (FIN without a Close frame), `reset` or `broken`.
    pub closes: BTreeMap<String, u64>,
}

/// What all clients have in common.
#[derive(Debug, Clone)]
pub struct Options {
    /// What they are.
    pub role: Role,
    /// The server.
    pub address: SocketAddr,
    /// How many there are.
    pub clients: u32,
    /// Beside them: those that never read once they are ready.
    pub stalled: u32,
    /// Handshakes under way at a time.
    pub in_progress: u32,
    /// Without any progress for this long the rest has failed.
    pub connect_timeout: Duration,
    /// The run's clock.
    pub clock: Clock,
    /// The run's marks.
    pub marker: Marker,
    /// The bodies, to check each frame and body.
    pub verify: Option<Arc<Body>>,
}

/// The clients.
#[derive(Debug)]
pub struct Swarm {
    options: Options,
    poll: Poll,
    events: Events,
    /// [`HEADROOM`] and [`READ_BYTES_MAX`].
    buffer: Vec<u8>,
    connections: Vec<Connection>,
    counts: Counts,
    handshakes: Histogram<u64>,
    ready: u32,
    failed: u32,
    first_failure: Option<String>,
}

#[derive(Debug)]
struct Connection {
    /// `None` once it is closed.
    stream: Option<TcpStream>,
    state: State,
    /// Bytes of `carry` in use.
    carried: u8,
    /// The end of the last read, where a mark may have been cut off.
    carry: [u8; MARK_BYTES - 1],
    frames: Frames,
    close_code: Option<u16>,
    verifier: Option<Box<Verifier>>,
}

#[derive(Debug)]
enum State {
    /// Since when, and where it stands.
    Shaking(u64, Box<Shake>),
    Ready,
    Gone,
}

impl Swarm {
    /// Nobody is connected yet.
    ///
    /// # Errors
    /// What the system says about one more file.
    pub fn new(options: Options) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            buffer: vec![0; HEADROOM + READ_BYTES_MAX],
            connections: Vec::new(),
            counts: Counts::default(),
            handshakes: histogram(),
            ready: 0,
            failed: 0,
            first_failure: None,
            options,
        })
    }

    /// What WebSocket clients say, and to whom; `None` where clients are others.
    pub fn target(&self) -> Option<(Arc<Target>, SocketAddr)> {
        match &self.options.role {
            Role::WebSocket(target) => Some((Arc::clone(target), self.options.address)),
            Role::Subscriber(_) => None,
        }
    }

    /// Who connects from now on says this.
    pub fn aim(&mut self, target: Target) {
        self.options.role = Role::WebSocket(Arc::new(target));
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        let frames = self.connections.iter().map(|connection| connection.frames.count).sum();
        Counts { frames, ..self.counts.clone() }
    }

    /// Clients that the server has disconnected so far.
    pub fn disconnected(&self) -> u64 {
        self.counts.disconnected
    }

    /// Everybody leaves at once, by reset: no port stays in TIME_WAIT.
    pub fn leave(&mut self) {
        self.connections.clear();
    }

    /// Waits for readiness and reads all that is there. Gives back how many sockets were ready.
    ///
    /// # Errors
    /// What the system says about waiting.
    pub fn turn(&mut self, timeout: Option<Duration>, sink: &mut impl Sink) -> io::Result<usize> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let waited = match self.poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            other => other,
        };
        let mut count = 0;
        if waited.is_ok() {
            for event in &events {
                count += 1;
                self.attend(event, sink);
            }
        }
        self.events = events;
        waited.map(|()| count)
    }

    fn attend(&mut self, event: &Event, sink: &mut impl Sink) {
        let nth = event.token().0;
        if let State::Shaking(..) = self.connections[nth].state
            && event.is_writable()
        {
            self.speak_first(nth);
        }
        // Edge triggered: until a read comes back short, more may be there, and behind that the end, if the event told of
        // it. Nothing tells of it again.
        while self.read(nth, sink) || (event.is_read_closed() && self.connections[nth].stream.is_some()) {}
    }

    /// Reads once. Gives back whether there may be more.
    fn read(&mut self, nth: usize, sink: &mut impl Sink) -> bool {
        let connection = &mut self.connections[nth];
        let Some(stream) = &mut connection.stream else { return false };
        let length = match stream.read(&mut self.buffer[HEADROOM..]) {
            Ok(0) => return self.gone(nth, "end"),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(_) => return self.gone(nth, "reset"),
        };
        self.counts.reads += 1;
        self.counts.bytes += length as u64;
        let is_stalled = match connection.state {
            State::Ready => {
                self.stream(nth, length, sink);
                false
            }
            State::Shaking(..) => self.shake(nth, length, sink),
            State::Gone => false,
        };
        !is_stalled && length == READ_BYTES_MAX
    }

    /// The next `length` bytes of a framed stream are in the buffer.
    fn stream(&mut self, nth: usize, length: usize, sink: &mut impl Sink) {
        let now_ns = self.options.clock.now_ns();
        let connection = &mut self.connections[nth];
        let client = u32::try_from(nth).expect("clients are counted in 32 bits");
        let fresh = &self.buffer[HEADROOM..HEADROOM + length];
        let (counts, framing) = (&mut self.counts, self.options.role.framing());
        let Connection { frames, stream, close_code, .. } = connection;
        frames.walk(fresh, |control| match control {
            Control::Ping(payload) => counts.pings += u64::from(answer(stream.as_mut(), framing, payload)),
            Control::Close(code) => *close_code = Some(code),
            Control::Broken => sink.broken(),
        });
        if let Some(verifier) = &mut connection.verifier {
            verifier.feed(fresh, &mut |reason| {
                tracing::warn!("client {nth}: {reason}");
                sink.broken();
            });
        }
        let carried = usize::from(connection.carried);
        let start = HEADROOM - carried;
        self.buffer[start..HEADROOM].copy_from_slice(&connection.carry[..carried]);
        let window = &self.buffer[start..HEADROOM + length];
        let rest = self.options.marker.scan(window, |found| match found {
            Found::Mark(mark) => sink.mark(client, mark, now_ns),
            Found::Broken => sink.broken(),
        });
        let rest = &window[rest..];
        connection.carry[..rest.len()].copy_from_slice(rest);
        connection.carried = u8::try_from(rest.len()).expect("less than a mark");
    }

    /// The server has ended it.
    fn gone(&mut self, nth: usize, how: &str) -> bool {
        let connection = &mut self.connections[nth];
        match &connection.state {
            State::Shaking(_, shake) => {
                let reason = format!("the server closed the connection ({how}) after {:?}", shake.seen());
                self.fail(nth, reason);
            }
            State::Ready => {
                self.counts.disconnected += 1;
                let how = connection.close_code.map_or_else(|| how.to_owned(), |code| code.to_string());
                *self.counts.closes.entry(how).or_default() += 1;
                self.forget(nth);
            }
            State::Gone => {}
        }
        false
    }

    fn fail(&mut self, nth: usize, reason: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(reason);
        self.forget(nth);
    }

    fn forget(&mut self, nth: usize) {
        self.connections[nth].stream = None;
        self.connections[nth].state = State::Gone;
    }
}

/// Answers a ping. One that the socket does not take is left out: the next is seconds away.
fn answer(stream: Option<&mut TcpStream>, framing: Framing, payload: &[u8]) -> bool {
    let frame = match framing {
        Framing::WebSocket => client_frame(10, payload),
        Framing::Zmtp => zmtp_pong(payload),
    };
    stream.is_some_and(|stream| stream.write(&frame).is_ok_and(|written| written == frame.len()))
}

/// Makes the readiness of `stream` known under `nth`.
fn register(poll: &Poll, stream: &TcpStream, nth: usize) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(nth), interest)
}
