//! Handshakes, a bounded number at a time.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use mio::unix::SourceFd;
use socket2::{Domain, Protocol, Socket, Type};

use super::shake::Shake;
use super::{Connection, HEADROOM, MARK_BYTES, READ_BYTES_MAX, Sink, State, Swarm, register};
use crate::clock::{nanoseconds, seconds};
use crate::frames::Frames;
use crate::interrupt;
use crate::report;
use crate::tally::quantiles;
use crate::target::source_address;
use crate::verify::Verifier;

/// What a client that never reads lets the kernel take for it, bytes: the least there is, so that its server notices
/// soon.
const STALLED_RECEIVE_BYTES: usize = 2048;
/// How long a wait for handshakes is at most, before the clock is looked at.
const WAIT: Duration = Duration::from_millis(100);

/// What came of connecting.
#[derive(Debug, Clone)]
pub struct Connected {
    /// Ready, failed, how fast.
    pub connect: report::Connect,
    /// Why the first one failed.
    pub first_failure: Option<String>,
}

impl Swarm {
    /// Connects everybody; returns when each is ready or has failed. `progress` is told how many are.
    ///
    /// # Errors
    /// What the system says about sockets: in practice that there are too few files or ports.
    pub fn connect(&mut self, sink: &mut impl Sink, progress: impl Fn(u64)) -> io::Result<Connected> {
        let clock = self.options.clock;
        let total = self.options.clients + self.options.stalled;
        (self.ready, self.failed, self.first_failure) = (0, 0, None);
        self.handshakes.reset();
        self.connections.clear();
        let began_ns = clock.now_ns();
        let (mut moved_ns, mut done) = (began_ns, 0);
        while done < total && !interrupt::is_set() {
            let mut started = self.connections.len();
            while started < total as usize && started - (done as usize) < self.options.in_progress as usize {
                self.dial(started)?;
                started += 1;
            }
            self.turn(Some(WAIT), sink)?;
            let now_ns = clock.now_ns();
            if self.ready + self.failed > done {
                done = self.ready + self.failed;
                moved_ns = now_ns;
                progress(done.into());
            } else if seconds(now_ns - moved_ns) > self.options.connect_timeout.as_secs_f64() {
                self.give_up(total);
                done = total;
            }
        }
        Ok(self.connected(seconds(clock.now_ns() - began_ns)))
    }

    fn connected(&self, seconds: f64) -> Connected {
        let connect = report::Connect {
            ready: self.ready.into(),
            failed: self.failed.into(),
            seconds,
            handshakes_per_s: f64::from(self.ready) / seconds.max(1e-9),
            handshake: quantiles(&self.handshakes),
            server_cpu_us_per_handshake: None,
        };
        Connected { connect, first_failure: self.first_failure.clone() }
    }

    /// Those under way, and those not begun, have failed.
    fn give_up(&mut self, total: u32) {
        for nth in 0..self.connections.len() {
            if let State::Shaking(_, shake) = &self.connections[nth].state {
                let waited = self.options.connect_timeout.as_secs_f64();
                let reason = format!("nothing more came for {waited} s after {:?}", shake.seen());
                self.fail(nth, reason);
            }
        }
        self.failed = total - self.ready;
    }

    /// Begins one connection.
    fn dial(&mut self, nth: usize) -> io::Result<()> {
        let address = self.options.address;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_linger(Some(Duration::ZERO))?;
        if nth >= self.options.clients as usize {
            socket.set_recv_buffer_size(STALLED_RECEIVE_BYTES)?;
        }
        if let Some(source) = source_address(address, nth as u64) {
            socket.bind(&source.into())?;
        }
        let started_ns = self.options.clock.now_ns();
        let refused = match socket.connect(&address.into()) {
            Ok(()) => None,
            Err(error) if is_under_way(&error) => None,
            Err(error) => Some(format!("{address}: {error}")),
        };
        let stream = TcpStream::from(socket);
        register(&self.poll, &stream, nth)?;
        let shake = Shake::new(&self.options.role);
        let verifier = self.options.verify.clone().map(|body| Box::new(Verifier::new(body)));
        self.connections.push(Connection {
            stream: Some(stream),
            state: State::Shaking(started_ns, Box::new(shake)),
            carried: 0,
            carry: [0; MARK_BYTES - 1],
            frames: Frames::new(self.options.role.framing()),
            close_code: None,
            verifier,
        });
        if let Some(reason) = refused {
            self.fail(nth, reason);
        }
        Ok(())
    }

    /// The connection stands, or has failed: says what comes first, once.
    pub(super) fn speak_first(&mut self, nth: usize) {
        let connection = &mut self.connections[nth];
        let State::Shaking(_, shake) = &mut connection.state else { return };
        if shake.has_spoken() {
            return;
        }
        let Some(stream) = &mut connection.stream else { return };
        if let Ok(Some(error)) = stream.take_error() {
            let reason = format!("{}: {error}", self.options.address);
            return self.fail(nth, reason);
        }
        let first = shake.speak(&self.options.role, nth as u64);
        if !write_all(stream, &first) {
            self.fail(nth, "the server does not take the handshake's first bytes".to_owned());
        }
    }

    /// `length` bytes of a handshake are in the buffer. Gives back whether the client is to read no more.
    pub(super) fn shake(&mut self, nth: usize, length: usize, sink: &mut impl Sink) -> bool {
        let connection = &mut self.connections[nth];
        let (State::Shaking(started_ns, shake), Some(stream)) =
            (&mut connection.state, &mut connection.stream)
        else {
            return true;
        };
        let started_ns = *started_ns;
        let bytes = &self.buffer[HEADROOM..HEADROOM + length];
        let outcome = match shake.feed(&self.options.role, nth as u64, bytes) {
            Ok(outcome) => outcome,
            Err(reason) => {
                self.fail(nth, reason);
                return true;
            }
        };
        if !outcome.reply.is_empty() && !write_all(stream, &outcome.reply) {
            self.fail(nth, "the server does not take the subscription".to_owned());
            return true;
        }
        let is_stalled = nth >= self.options.clients as usize;
        if outcome.is_ready {
            if is_stalled {
                let _ = self.poll.registry().deregister(&mut SourceFd(&stream.as_raw_fd()));
            }
            connection.state = State::Ready;
            self.ready += 1;
            let took_ns = self.options.clock.now_ns() - started_ns;
            self.handshakes.saturating_record(took_ns.clamp(1, nanoseconds(600.0)));
        }
        if !is_stalled {
            for bytes in outcome.stream.chunks(READ_BYTES_MAX) {
                self.buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
                self.stream(nth, bytes.len(), sink);
            }
        }
        is_stalled && matches!(self.connections[nth].state, State::Ready)
    }
}

fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

/// The first bytes on a connection, which its empty send buffer always has room for.
fn write_all(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write(bytes).is_ok_and(|written| written == bytes.len())
}
