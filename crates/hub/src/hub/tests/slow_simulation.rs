//! Clients that read too slowly, at random, beside a model that knows to the byte what waits for each.

use std::collections::VecDeque;

use trestle_messages::Position;
use trestle_recorder::RecordRules;

use super::client::Seen;
use super::random::{Random, for_seeds};
use super::world::{EPOCH, World};
use crate::limits::Limits;
use crate::protocol::Protocol;

const SEEDS: u64 = 2_000;
const STEPS: usize = 60;
const OUTBOX_BYTES_MAX: usize = 400;

/// A client whose outbox the model keeps as a list of frames.
#[derive(Debug, Default)]
struct Model {
    /// What waits: a message's number, or `None` for another frame, and its length.
    waits: VecDeque<(Option<u64>, usize)>,
    /// Bytes of the front frame that the socket has.
    begun: usize,
    /// Messages whose frame the socket has whole.
    written: Vec<u64>,
    dropped: u64,
    is_closed: bool,
}

impl Model {
    /// The socket has taken `n` bytes since the last time.
    fn took(&mut self, mut n: usize) {
        while let Some((number, len)) = self.waits.front().filter(|(_, len)| self.begun + n >= *len) {
            n -= len - self.begun;
            self.begun = 0;
            self.written.extend(number);
            self.waits.pop_front();
        }
        self.begun += n;
        assert!(self.begun == 0 || !self.waits.is_empty(), "more bytes than there were");
    }

    fn lag(&self) -> usize {
        self.waits.iter().skip(1).map(|(_, len)| len).sum()
    }

    /// What the outbox must do after a visit that left something.
    fn bound(&mut self, protocol: Protocol) {
        if protocol == Protocol::Json && self.lag() > OUTBOX_BYTES_MAX && !self.is_closed {
            self.is_closed = true;
            self.waits.truncate(usize::from(self.begun > 0));
            // Header, code, "slow consumer".
            self.waits.push_back((None, 17));
        }
        if protocol == Protocol::RustWebsocket && self.lag() > OUTBOX_BYTES_MAX {
            while self.lag() > OUTBOX_BYTES_MAX - OUTBOX_BYTES_MAX / 8 {
                self.waits.remove(usize::from(self.begun > 0));
                self.dropped += 1;
            }
        }
    }
}

struct Simulation {
    random: Random,
    world: World,
    models: Vec<Model>,
    taken: Vec<usize>,
    n_published: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let limits = Limits { outbox_bytes_max: OUTBOX_BYTES_MAX, ..Limits::default() };
        // What is recorded waits in the log, the rest in a queue; nothing else differs.
        let rules = if seed.is_multiple_of(2) { RecordRules::everything() } else { RecordRules::nothing() };
        let mut world = World::new(limits, rules);
        for protocol in [Protocol::Json, Protocol::RustWebsocket, Protocol::Json, Protocol::RustWebsocket] {
            world.open(protocol, [&b""[..]]);
        }
        world.settle();
        let taken = world.clients.iter().map(|client| client.socket.taken).collect();
        let models = world.clients.iter().map(|_| Model::default()).collect();
        for client in &mut world.clients {
            client.reads = false;
        }
        Self { random: Random::new(seed), world, models, taken, n_published: 0 }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let client = self.random.below(self.models.len());
            match self.random.below(10) {
                0..5 => self.publish(),
                5..7 => self.world.clients[client].socket.room = self.random.below(600),
                _ => {
                    self.read(client);
                }
            }
            self.check();
        }
        self.end();
    }

    /// A batch of messages of some length; one in a while is larger than the bound.
    fn publish(&mut self) {
        let blocked: Vec<_> = self.models.iter().map(|model| !model.waits.is_empty()).collect();
        for _ in 0..=self.random.below(4) {
            let number = self.n_published;
            self.n_published += 1;
            let len = if self.random.below(20) == 0 { 1_000 } else { self.random.below(160) };
            // Digits, then a letter, then spaces: no JSON, and a length of its own.
            let body = format!("{number}x{}", " ".repeat(len));
            let offset = self.world.append(b"t", body.as_bytes());
            let position = if offset == 0 {
                String::new()
            } else {
                format!(r#""position":"{}","#, Position { epoch: EPOCH, offset })
            };
            let json = format!(r#"{{"event":{{"topic":"t",{position}"time_ms":0,"text":"{body}"}}}}"#);
            let clients = self.models.iter_mut().zip(&self.world.clients);
            for ((model, client), is_blocked) in clients.zip(&blocked) {
                let payload = if client.protocol == Protocol::Json { json.len() } else { body.len() };
                if !model.is_closed {
                    model.waits.push_back((Some(number), payload + if payload < 126 { 2 } else { 4 }));
                    // Whoever is not may take it all at the visit.
                    if *is_blocked {
                        model.bound(client.protocol);
                    }
                }
            }
        }
        self.world.route();
        self.world.flush();
        for client in 0..self.models.len() {
            self.catch_up(client);
        }
    }

    /// The client reads what its socket has, which makes room for more.
    fn read(&mut self, client: usize) {
        self.world.clients[client].reads = true;
        self.world.clients[client].read();
        self.world.settle();
        self.world.clients[client].reads = false;
        self.catch_up(client);
    }

    fn catch_up(&mut self, client: usize) {
        let taken = self.world.clients[client].socket.taken;
        let model = &mut self.models[client];
        let new = taken - std::mem::replace(&mut self.taken[client], taken);
        model.took(new);
        if !model.waits.is_empty() {
            model.bound(self.world.clients[client].protocol);
        }
    }

    fn check(&self) {
        let counts = self.world.hub.counts();
        let sum = |of: fn(&Model) -> u64| self.models.iter().map(of).sum::<u64>();
        assert_eq!(counts.dropped_slow, sum(|model| model.dropped));
        assert_eq!(counts.closed_slow, sum(|model| u64::from(model.is_closed)));
        assert_eq!(counts.deliveries, sum(|model| model.written.len() as u64));
        let waits = |model: &Model| model.waits.iter().map(|(_, len)| len).sum::<usize>() - model.begun;
        assert_eq!(self.world.hub.outbox_bytes(), self.models.iter().map(waits).sum::<usize>());
    }

    fn end(&mut self) {
        for client in 0..self.models.len() {
            self.world.clients[client].socket.room = usize::MAX;
            self.read(client);
        }
        self.check();
        for (client, model) in self.world.clients.iter().zip(&self.models) {
            let number = |text: &str| text.split_once('x').and_then(|(number, _)| number.parse::<u64>().ok());
            let numbers: Vec<_> = client
                .seen
                .iter()
                .filter_map(|seen| match seen {
                    Seen::Text(text) if client.protocol == Protocol::Json => {
                        let value: serde_json::Value = serde_json::from_str(text).unwrap();
                        number(value["event"]["text"].as_str()?)
                    }
                    Seen::Text(text) => number(text),
                    Seen::Close(code) => {
                        assert_eq!(*code, Some(4008));
                        None
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(numbers, model.written);
            assert_eq!(client.seen.contains(&Seen::Close(Some(4008))), model.is_closed);
        }
    }
}

#[test]
fn the_slow_lose_what_the_model_says() {
    for_seeds(SEEDS, |seed| Simulation::new(seed).run());
}
