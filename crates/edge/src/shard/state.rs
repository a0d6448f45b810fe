//! What a shard owns: its hub, its cursor on the log, its clients' sockets.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use trestle_hub::encode::{LostCause, Subscribe};
use trestle_hub::ws::{CloseCode, Deflate};
use trestle_hub::{Counts, Fault, Grant, Hub, InterestChange, Protocol, Role, SessionId, Ticket, Visit};
use trestle_messages::Position;

use super::Options;
use crate::drain::Order;
use crate::ingest::{InterestSender, Upstream};
use crate::limits::{Floods, Guest, Room};
use crate::memory::{self, Tide};
use crate::metrics::{DropCause, Refusal, ShardMetrics};
use crate::publish::{Outcome, Publications};

/// Bytes read from a socket at once, into one buffer for all of them.
const SCRATCH_BYTES: usize = 64 << 10;
/// Reads from one client before others get their turn.
const READS_IN_TURN: usize = 8;
/// What a stream of events is given at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Outboxes are summed, for their bound and the metrics, each so many ticks.
const OUTBOX_SUM_TICKS: u32 = 4;

/// An upstream that has not been reached so long after the start counts as silent.
const CONNECTS_WITHIN: Duration = Duration::from_secs(3);

/// What became of a publication.
pub(super) type Answered = (Ticket, Outcome);

pub(crate) struct State {
    hub: Hub,
    started: Instant,
    /// Upstream has spoken.
    has_connected: bool,
    /// By session number.
    sockets: Vec<Option<Socket>>,
    /// Streams of server-sent events, and who waits for more of each.
    streams: HashMap<SessionId, Option<Waker>>,
    /// Who they are, apart from their sockets, which a delivery brings in.
    guests: HashMap<SessionId, Guest>,
    scratch: Box<[u8]>,
    /// Messages that this shard did not read in time, as far as it was said.
    overrun_told: u64,
    /// When `max_hz` lets go of something next, and the wake-up of whoever waits for that.
    release_at: Rc<Release>,
    upstream: Arc<Upstream>,
    rules_version: u64,
    interest: InterestSender,
    /// So much waits on its way there that no client is read, until a tick finds it gone.
    is_held: bool,
    /// Notified when the recorder is to be asked.
    question: Rc<Notify>,
    /// It was, and has not answered.
    is_asking: bool,
    publications: Publications,
    /// Back to here, from whatever thread has one.
    answers: mpsc::UnboundedSender<Answered>,
    metrics: Arc<ShardMetrics>,
    floods: Arc<Floods>,
    room: Arc<Room>,
    ticks: u32,
    /// Of clients.
    tide: Tide,
}

/// The next time at which the hub is to be asked for what `max_hz` held.
#[derive(Debug, Default)]
pub(super) struct Release {
    pub(super) at: Cell<Option<Instant>>,
    /// It is earlier than it was.
    pub(super) sooner: Notify,
}

/// A client's socket after the upgrade. It fits a line of memory, because each visit of ten thousand brings one in.
struct Socket {
    stream: TcpStream,
    protocol: Protocol,
    /// It took no more; the connection's task waits until it is writable.
    is_blocked: bool,
    /// Of the connection's task.
    waker: Option<Waker>,
}

impl State {
    pub(super) fn new(options: Options, answers: mpsc::UnboundedSender<Answered>) -> Self {
        let mut hub = Hub::new(options.name, options.limits, options.log, Instant::now());
        hub.set_decoders(options.decoders);
        if let Some(verifier) = options.tokens.verifier() {
            hub.set_verifier(verifier);
        }
        hub.set_can_ask(options.questions.is_some());
        Self {
            hub,
            started: Instant::now(),
            has_connected: false,
            sockets: Vec::new(),
            streams: HashMap::new(),
            guests: HashMap::new(),
            scratch: vec![0; SCRATCH_BYTES].into(),
            overrun_told: 0,
            release_at: Rc::default(),
            upstream: options.upstream,
            rules_version: 0,
            interest: options.interest,
            is_held: false,
            question: Rc::default(),
            is_asking: false,
            publications: options.publications,
            answers,
            metrics: options.metrics,
            floods: options.floods,
            room: options.room,
            ticks: 0,
            tide: Tide::default(),
        }
    }

    /// Delivers everything in the log that was not yet; false if there was nothing.
    pub(super) fn deliver(&mut self) -> bool {
        let mut any = false;
        while self.hub.pull(Instant::now()) {
            any = true;
            self.flush();
        }
        let overrun = self.hub.counts().overrun;
        if overrun > self.overrun_told {
            let messages = overrun - self.overrun_told;
            tracing::warn!(
                messages,
                "this shard fell behind the log; its clients are told what they may have lost"
            );
            self.metrics.drops.of(DropCause::ShardOverrun).set(overrun);
            self.overrun_told = overrun;
        }
        any
    }

    /// Sends what `max_hz` held until now.
    pub(super) fn release(&mut self) {
        self.hub.release(Instant::now());
        self.flush();
    }

    pub(super) fn release_at(&self) -> Rc<Release> {
        Rc::clone(&self.release_at)
    }

    pub(super) fn question(&self) -> Rc<Notify> {
        Rc::clone(&self.question)
    }

    /// The recorder's answer; `None` if it gave none.
    pub(super) fn recorder_is(&mut self, position: Option<Position>) {
        self.is_asking = false;
        self.hub.recorder_is(position);
        self.flush();
    }

    /// Answers to publications.
    pub(super) fn published(&mut self, answers: &mut Vec<Answered>) {
        let tickets: Vec<_> = answers.iter().map(|(ticket, _)| *ticket).collect();
        for (ticket, outcome) in answers.drain(..) {
            self.hub.published(ticket, outcome);
        }
        self.flush();
        // Who had many on the way was not read.
        for ticket in tickets {
            if let Some(Some(Socket { waker: Some(waker), .. })) = self.sockets.get(ticket.session() as usize)
            {
                waker.wake_by_ref();
            }
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.read_again();
        self.follow_upstream();
        self.hub.tick(now);
        self.flush();
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(OUTBOX_SUM_TICKS) {
            self.hub.bound_outboxes();
            self.flush();
            self.metrics.outbox_bytes.set(self.hub.outbox_bytes() as u64);
        }
    }

    /// After a storm the memory of its connections goes back: of those that never became a session, too.
    pub(super) fn ebb(&mut self, n_connections: usize) {
        if self.tide.has_ebbed(n_connections + self.hub.n_subscriptions()) {
            memory::give_back();
        }
    }

    /// Clients are read again once what they wanted is on its way upward.
    fn read_again(&mut self) {
        if self.is_held && !self.interest.is_full() {
            self.is_held = false;
            self.sockets
                .iter()
                .flatten()
                .filter_map(|socket| socket.waker.as_ref())
                .for_each(Waker::wake_by_ref);
        }
    }

    fn follow_upstream(&mut self) {
        // An edge that has just started is about to connect.
        let stale = self.upstream.is_stale();
        self.has_connected |= !stale;
        let is_starting = !self.has_connected && self.started.elapsed() < CONNECTS_WITHIN;
        self.hub.set_stale(stale && !is_starting);
        let version = self.upstream.rules_version();
        if version != self.rules_version {
            self.rules_version = version;
            self.hub.set_rules(self.upstream.rules());
        }
    }

    /// A session whose handshake is accepted; its socket follows by [`attach`](Self::attach).
    pub(super) fn open(
        &mut self,
        protocol: Protocol,
        role: Role,
        deflate: Option<Deflate>,
        topics: &[Vec<u8>],
        guest: Guest,
        grant: Arc<Grant>,
    ) -> SessionId {
        // A client that comes before the first tick is told what is recorded and whether upstream is silent, too.
        self.follow_upstream();
        // What is in the log already came before this client.
        self.deliver();
        let id = match role {
            Role::Subscriber => self.hub.open(protocol, deflate, grant, topics.iter().map(Vec::as_slice)),
            Role::Publisher => self.hub.open_publisher(protocol, grant),
        };
        self.guests.insert(id, guest);
        self.flush();
        id
    }

    /// A session of server-sent events.
    pub(super) fn open_events(&mut self, wanted: &Subscribe, guest: Guest, grant: Arc<Grant>) -> SessionId {
        self.follow_upstream();
        self.deliver();
        let id = self.hub.open_events(grant, wanted);
        self.streams.insert(id, None);
        self.guests.insert(id, guest);
        self.metrics.connections.of(Protocol::Sse).add(1);
        self.flush();
        id
    }

    /// What a stream has now, at most [`CHUNK_BYTES`]; `None` at its end. It is asked when the connection takes more.
    pub(super) fn poll_events(&mut self, id: SessionId, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.streams.insert(id, Some(context.waker().clone()));
        let mut chunk = Vec::new();
        let mut visit = Visit::Again;
        while visit == Visit::Again && chunk.len() < CHUNK_BYTES {
            visit = self.hub.visit(id, |slices: &[IoSlice<'_>]| {
                let before = chunk.len();
                for slice in slices {
                    let room = CHUNK_BYTES - chunk.len();
                    chunk.extend_from_slice(&slice[..slice.len().min(room)]);
                }
                if chunk.len() == before {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(chunk.len() - before)
                }
            });
        }
        if !chunk.is_empty() {
            return Poll::Ready(Some(chunk.into()));
        }
        if self.hub.is_ended(id) { Poll::Ready(None) } else { Poll::Pending }
    }

    /// The socket of session `id`, and what came on it behind the handshake.
    pub(super) fn attach(&mut self, id: SessionId, protocol: Protocol, stream: TcpStream, early: &[u8]) {
        let index = id as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(Socket { stream, protocol, is_blocked: true, waker: None });
        self.metrics.connections.of(protocol).add(1);
        if !early.is_empty() {
            self.hub.receive(id, &mut early.to_vec());
            self.flush();
        }
    }

    /// The session is over, whether or not it ever had a socket.
    pub(super) fn detach(&mut self, id: SessionId) {
        let code = self.hub.close(id);
        self.guests.remove(&id);
        if self.streams.remove(&id).is_some() {
            self.metrics.connections.of(Protocol::Sse).sub(1);
            self.metrics.closed.of(code).add(1);
        }
        if let Some(socket) = self.sockets.get_mut(id as usize).and_then(Option::take) {
            self.metrics.connections.of(socket.protocol).sub(1);
            self.metrics.closed.of(code).add(1);
        }
        // After a storm the memory goes back, by and by.
        while self.sockets.last().is_some_and(Option::is_none) {
            self.sockets.pop();
        }
        if self.sockets.len() < self.sockets.capacity() / 4 {
            self.sockets.shrink_to(self.sockets.len() * 2);
        }
        if self.guests.len() < self.guests.capacity() / 8 {
            self.guests.shrink_to(self.guests.len() * 2);
        }
        self.flush();
    }

    /// Everybody is told that this edge goes, and when to come back, and is closed when its turn comes.
    pub(super) fn goodbye(&mut self, order: &Order) {
        let now = Instant::now();
        self.tick(now);
        self.hub.goodbye(order.reason, order.closed.saturating_duration_since(now));
        self.flush();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hub.n_sessions() == 0
    }

    /// Reads what the client says and writes what it could not take before. Ready when the connection is over.
    pub(super) fn poll_connection(&mut self, id: SessionId, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..READS_IN_TURN {
            let socket = self.sockets[id as usize].as_mut().expect("the task owns an attached session");
            if socket.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                socket.waker = Some(context.waker().clone());
            }
            if self.hub.is_ended(id) {
                return Poll::Ready(());
            }
            let wants_read = self.hub.wants_read(id) && !self.is_held;
            if socket.is_blocked {
                match socket.stream.poll_write_ready(context) {
                    Poll::Ready(Ok(())) => {
                        self.visit(id);
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending if !wants_read => return Poll::Pending,
                    Poll::Pending => {}
                }
            } else if !wants_read {
                // Many of its publications have no answer, or no more wants go upward now; after that this is woken.
                return Poll::Pending;
            }
            match socket.stream.poll_read_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
            match socket.stream.try_read(&mut self.scratch) {
                Ok(0) => return Poll::Ready(()),
                Ok(n) => {
                    self.metrics.received_bytes.add(n as u64);
                    self.hub.receive(id, &mut self.scratch[..n]);
                    self.flush();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Visits each socket for which there is something, sends interest upward, shows the counts.
    fn flush(&mut self) {
        self.seat_subjects();
        for (ticket, publish) in self.hub.take_publications() {
            let answers = self.answers.clone();
            self.publications.hand_in(publish, move |outcome| {
                // The shard may have ended.
                let _ = answers.send((ticket, outcome));
            });
        }
        loop {
            let dirty = self.hub.take_dirty();
            let is_last = dirty.is_empty();
            for id in &dirty {
                self.visit(*id);
            }
            self.hub.end_turn(dirty);
            if is_last {
                break;
            }
        }
        let changes = self.hub.take_interest();
        self.is_held |= !changes.is_empty() && self.interest.is_full();
        for change in changes {
            match change {
                InterestChange::Wanted(prefix) => self.interest.add(&prefix),
                InterestChange::Unwanted(prefix) => self.interest.remove(&prefix),
            }
        }
        // One question at a time: an answer is good for those who asked before it.
        if !self.is_asking && self.hub.take_question() {
            self.is_asking = true;
            self.question.notify_one();
        }
        self.arm_release();
        self.say_faults();
        let counts = self.hub.counts();
        let Counts { deliveries, received, bytes_out, dropped_slow, conflated, told_lost, .. } = counts;
        self.metrics.received_messages.set(received);
        self.metrics.deliveries.set(deliveries);
        self.metrics.sent_bytes.set(bytes_out);
        self.metrics.drops.of(DropCause::SlowConsumer).set(dropped_slow);
        for (cause, times) in LostCause::ALL.into_iter().zip(told_lost) {
            self.metrics.told_lost.of(cause).set(times);
        }
        self.metrics.conflated.set(conflated);
        self.metrics.outboxes_closed.set(counts.closed_full);
        self.metrics.subscriptions.set(self.hub.n_subscriptions() as u64);
    }

    /// Who showed its first token on the connection has its subject's place, or has to go.
    fn seat_subjects(&mut self) {
        for id in self.hub.take_admitted() {
            let Some(guest) = self.guests.get_mut(&id) else { continue };
            if self.room.know(guest, self.hub.grant(id)).is_err() {
                self.metrics.refusals.of(Refusal::SubjectConnections).add(1);
                tracing::debug!(address = %guest.address, "closed: its token's subject has no place left");
                self.hub.turn_out(id, CloseCode::TooManyRequests);
            }
        }
    }

    /// What clients said and was refused, with where they are.
    fn say_faults(&mut self) {
        for Fault { session, protocol, code, why } in self.hub.take_faults() {
            self.metrics.refused.of(code).add(1);
            if let Some(guest) = self.guests.get(&session) {
                let protocol = protocol.name();
                // Quoted, since it may be the client's own words.
                tracing::debug!(address = %guest.address, protocol, %code, ?why, "refused");
                self.floods.note(code.as_str(), guest.address);
            }
        }
    }

    fn arm_release(&self) {
        let (at, next) = (self.release_at.at.get(), self.hub.next_release());
        self.release_at.at.set(next);
        if next.is_some_and(|next| at.is_none_or(|at| next < at)) {
            self.release_at.sooner.notify_one();
        }
    }

    fn visit(&mut self, id: SessionId) {
        let Self { hub, sockets, streams, metrics, .. } = self;
        let Some(Some(socket)) = sockets.get_mut(id as usize) else {
            // Its handshake is not over: what there is for it waits in its outbox.
            let _ = hub.visit(id, |_| Err(io::ErrorKind::WouldBlock.into()));
            // Or it has no socket of its own, and who sends for it asks when there is news.
            if let Some(Some(waker)) = streams.get(&id) {
                waker.wake_by_ref();
            }
            return;
        };
        let Socket { stream, is_blocked, waker, .. } = socket;
        let was_blocked = *is_blocked;
        let mut would_block = false;
        // Past tokio, which would look up what it knows of the socket: for a socket that takes everything, and nearly all
        // do, that is memory not needed.
        let visit = hub.visit(id, |slices: &[IoSlice<'_>]| {
            metrics.writes.add(1);
            let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
            let written = match slices {
                [one] => SockRef::from(&*stream).send(one),
                many => SockRef::from(&*stream).send_vectored(many),
            };
            would_block |= !matches!(written, Ok(n) if n == wanted);
            written
        });
        if would_block {
            // It takes no more: tokio is told, and waits for the kernel to say that it does again.
            let _ = stream.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        *is_blocked = matches!(visit, Visit::Blocked | Visit::Again);
        // The task must wait for other readiness than before, write more, or end.
        let is_news = matches!(visit, Visit::Ended | Visit::Again) || *is_blocked && !was_blocked;
        if is_news && let Some(waker) = waker {
            waker.wake_by_ref();
        }
    }
}
