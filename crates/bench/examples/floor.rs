//! The floor: what `write(2)` alone costs, for the delivery engine to be measured against.
//!
//! `floor --listen 127.0.0.1:8120 --source tcp://127.0.0.1:7000`. One thread takes all ØMQ messages at hand, joins the
//! WebSocket frames of each topic in one buffer, and writes that buffer once to each of the topic's sockets. No limits,
//! no timers, no formats, no answer to pings: everything that a server needs besides is missing on purpose.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use sha1::{Digest as _, Sha1};
use slab::Slab;
use trestle_process::zmq::{Bounds, socket};

/// Messages joined at most before they are written, as in the edge.
const DRAIN_MAX: usize = 256;
const REQUEST_BYTES_MAX: usize = 16 << 10;
const LISTENER: Token = Token(usize::MAX - 1);
const SOURCE: Token = Token(usize::MAX - 2);

#[derive(Parser)]
struct Args {
    /// Where browsers connect; `?topic=` in the path, exactly one topic, without it all messages.
    #[arg(long, default_value = "127.0.0.1:8120")]
    listen: SocketAddr,
    /// A ØMQ publisher that binds. Of each message the first frame is the topic, the last the body.
    #[arg(long)]
    source: String,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let subscriber = socket(&zmq::Context::new(), zmq::SUB, Bounds::default())?;
    subscriber.set_subscribe(b"")?;
    subscriber.connect(&args.source).with_context(|| args.source.clone())?;
    let mut listener = TcpListener::bind(args.listen).with_context(|| args.listen.to_string())?;

    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    // Told at each change only (`zmq_getsockopt(3)`, ZMQ_FD): the loop reads until nothing is left before it waits.
    poll.registry().register(&mut SourceFd(&subscriber.get_fd()?), SOURCE, Interest::READABLE)?;
    println!("listening on {}", listener.local_addr()?);

    let mut floor = Floor::new(poll.registry().try_clone()?);
    let mut events = Events::with_capacity(1024);
    loop {
        let n = floor.drain(&subscriber)?;
        floor.write();
        match poll.poll(&mut events, (n == DRAIN_MAX).then_some(Duration::ZERO)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener)?,
                SOURCE => {}
                Token(client) => floor.client_ready(client),
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    /// Of the upgrade, until it is complete.
    request: Vec<u8>,
    room: Option<usize>,
    /// What a full socket did not take; empty but for the slow.
    unsent: Vec<u8>,
}

/// A topic's clients and its frames of the present drain.
#[derive(Default)]
struct Room {
    clients: Vec<usize>,
    frames: Vec<u8>,
}

struct Floor {
    registry: Registry,
    clients: Slab<Client>,
    /// The first is that of clients who named no topic.
    rooms: Vec<Room>,
    by_topic: HashMap<Vec<u8>, usize>,
    /// Rooms with frames.
    touched: Vec<usize>,
    scratch: Vec<u8>,
    topic: zmq::Message,
    body: zmq::Message,
}

impl Floor {
    fn new(registry: Registry) -> Self {
        Self {
            registry,
            clients: Slab::new(),
            rooms: vec![Room::default()],
            by_topic: HashMap::from([(Vec::new(), 0)]),
            touched: Vec::new(),
            scratch: vec![0; 64 << 10],
            topic: zmq::Message::new(),
            body: zmq::Message::new(),
        }
    }

    /// Appends the messages at hand to their rooms' frames; how many there were.
    fn drain(&mut self, subscriber: &zmq::Socket) -> zmq::Result<usize> {
        for n in 0..DRAIN_MAX {
            match subscriber.recv(&mut self.topic, zmq::DONTWAIT) {
                Err(zmq::Error::EAGAIN) => return Ok(n),
                received => received?,
            }
            let mut parts = 1;
            while subscriber.get_rcvmore()? {
                subscriber.recv(&mut self.body, 0)?;
                parts += 1;
            }
            let body = if parts == 1 { &self.topic } else { &self.body };
            let room = self.by_topic.get(&self.topic[..]).filter(|room| **room != 0);
            for room in std::iter::once(0).chain(room.copied()) {
                let Room { clients, frames } = &mut self.rooms[room];
                if clients.is_empty() {
                    continue;
                }
                if frames.is_empty() {
                    self.touched.push(room);
                }
                push_frame(frames, body);
            }
        }
        Ok(DRAIN_MAX)
    }

    /// One write for each client of each touched room.
    fn write(&mut self) {
        let mut gone = Vec::new();
        for room in self.touched.drain(..) {
            let Room { clients, frames } = &mut self.rooms[room];
            for &id in &*clients {
                let client = &mut self.clients[id];
                if !client.unsent.is_empty() {
                    client.unsent.extend_from_slice(frames);
                    continue;
                }
                match client.stream.write(frames) {
                    Ok(n) if n == frames.len() => {}
                    Ok(n) => client.keep(&frames[n..], id, &self.registry),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        client.keep(frames, id, &self.registry);
                    }
                    Err(_) => gone.push(id),
                }
            }
            frames.clear();
        }
        for id in gone {
            self.close(id);
        }
    }

    fn accept(&mut self, listener: &TcpListener) -> anyhow::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("accept"),
            };
            stream.set_nodelay(true)?;
            let entry = self.clients.vacant_entry();
            self.registry.register(&mut stream, Token(entry.key()), Interest::READABLE)?;
            entry.insert(Client { stream, request: Vec::new(), room: None, unsent: Vec::new() });
        }
    }

    /// Writes what was left over, and reads: the upgrade, and after it nothing that matters.
    fn client_ready(&mut self, id: usize) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let mut open = client.flush(id, &self.registry).is_ok();
        while open {
            match client.stream.read(&mut self.scratch) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(1..) if client.room.is_some() => {}
                Ok(n @ 1..) => {
                    client.request.extend_from_slice(&self.scratch[..n]);
                    if client.request.ends_with(b"\r\n\r\n") {
                        if self.upgrade(id).is_none() {
                            self.close(id);
                        }
                        return;
                    }
                    open = client.request.len() <= REQUEST_BYTES_MAX;
                }
                Ok(0) | Err(_) => open = false,
            }
        }
        self.close(id);
    }

    /// Answers an upgrade (RFC 6455 §4.2.2) and puts the client into its room; none where it is not one.
    fn upgrade(&mut self, id: usize) -> Option<()> {
        let client = &mut self.clients[id];
        let request = String::from_utf8(std::mem::take(&mut client.request)).ok()?;
        let header = |name: &str| {
            let mut fields = request.lines().skip(1).filter_map(|line| line.split_once(':'));
            fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let hash = Sha1::new_with_prefix(header("Sec-WebSocket-Key")?)
            .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
            .finalize();
        let mut response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            STANDARD.encode(hash)
        );
        if let Some(offered) = header("Sec-WebSocket-Protocol") {
            let first = offered.split(',').next().unwrap_or(offered);
            response.push_str(&format!("Sec-WebSocket-Protocol: {first}\r\n"));
        }
        response.push_str("\r\n");
        client.stream.write_all(response.as_bytes()).ok()?;

        let path = request.split(' ').nth(1)?;
        let topic = path.split_once("?topic=").map_or("", |(_, topic)| topic);
        let room = *self.by_topic.entry(topic.into()).or_insert_with(|| {
            self.rooms.push(Room::default());
            self.rooms.len() - 1
        });
        self.rooms[room].clients.push(id);
        client.room = Some(room);
        Some(())
    }

    fn close(&mut self, id: usize) {
        let mut client = self.clients.remove(id);
        // The kernel forgets a closed socket by itself; this is to hear of mistakes.
        self.registry.deregister(&mut client.stream).expect("every client is registered once");
        if let Some(room) = client.room {
            let clients = &mut self.rooms[room].clients;
            let at = clients.iter().position(|other| *other == id).expect("it is in its room");
            clients.swap_remove(at);
        }
    }
}

impl Client {
    /// Keeps what the socket did not take, and asks to hear when it takes more.
    fn keep(&mut self, rest: &[u8], id: usize, registry: &Registry) {
        self.unsent.extend_from_slice(rest);
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.reregister(&mut self.stream, Token(id), both).expect("every client is registered");
    }

    fn flush(&mut self, id: usize, registry: &Registry) -> std::io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        loop {
            match self.stream.write(&self.unsent) {
                Ok(n) if n == self.unsent.len() => break,
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.unsent = Vec::new();
        registry.reregister(&mut self.stream, Token(id), Interest::READABLE)
    }
}

/// Appends an unmasked frame: text where it may be (RFC 6455 §5.2).
fn push_frame(frames: &mut Vec<u8>, body: &[u8]) {
    let opcode = if std::str::from_utf8(body).is_ok() { 0x81 } else { 0x82 };
    match body.len() {
        n @ ..=125 => frames.extend([opcode, n as u8]),
        n @ ..=0xffff => {
            frames.extend([opcode, 126]);
            frames.extend((n as u16).to_be_bytes());
        }
        n => {
            frames.extend([opcode, 127]);
            frames.extend((n as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(body);
}
