//! Random clients on a random feed, beside a naive model of what each must see.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use trestle_messages::Position;
use trestle_recorder::{RecordRule, RecordRules};

use super::client::{Client, Seen, masked, said};
use super::random::{Random, for_seeds};
use super::world::{EPOCH, World};
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::ws::Opcode;

const SEEDS: u64 = 1_500;
const STEPS: usize = 120;
const CLIENTS_MAX: usize = 6;

/// A message as the model keeps it.
#[derive(Debug, Clone, PartialEq)]
struct Message {
    body: String,
    offset: u64,
}

/// What one client must see, and what it is about to say.
#[derive(Debug, Default)]
struct Model {
    held: BTreeSet<(Vec<u8>, bool)>,
    messages: Vec<Message>,
    /// Replies, welcome and `caught_up`, and pongs, without the name of the session.
    answers: Vec<Value>,
    /// Bytes not sent yet, and where in them commands end.
    unsent: Vec<u8>,
    commands: Vec<(usize, Said)>,
    commands_said: u64,
}

#[derive(Debug)]
enum Said {
    Subscribe { id: u64, topics: Vec<Vec<u8>>, exact: bool },
    Unsubscribe { id: u64, topics: Vec<Vec<u8>>, exact: bool },
    Ping(String),
}

struct Simulation {
    random: Random,
    world: World,
    models: Vec<Model>,
    head: u64,
    n_published: u64,
}

fn position(offset: u64) -> Value {
    json!(Position { epoch: EPOCH, offset }.to_string())
}

fn texts(topics: &[Vec<u8>]) -> Vec<&str> {
    topics.iter().map(|topic| str::from_utf8(topic).unwrap()).collect()
}

/// Only what begins with `a` is recorded.
fn recorded(topics: &[Vec<u8>], exact: bool) -> &'static str {
    let all = topics.iter().all(|topic| topic.starts_with(b"a"));
    let some = topics.iter().any(|topic| topic.starts_with(b"a") || topic.is_empty() && !exact);
    if all {
        "all"
    } else if some {
        "some"
    } else {
        "none"
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let rules = RecordRules::from_iter([RecordRule::new("a")]);
        let world = World::new(Limits::default(), rules);
        Self { random: Random::new(seed), world, models: Vec::new(), head: 0, n_published: 0 }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            match self.random.below(100) {
                0..35 => self.publish(),
                35..60 => self.say(),
                60..80 => self.send(),
                80..88 => self.stall_or_resume(),
                88..94 => self.come(),
                94..97 => self.go(),
                _ => self.wait(),
            }
            let held: BTreeSet<_> = self.models.iter().flat_map(|model| &model.held).collect();
            let wanted: BTreeSet<_> =
                held.iter().map(|(topic, _)| topic.clone().into_boxed_slice()).collect();
            assert_eq!(self.world.wanted, wanted, "the interest that went upward");
            let n_held: usize = self.models.iter().map(|model| model.held.len()).sum();
            assert_eq!(self.world.hub.n_subscriptions(), n_held);
        }
        self.end();
    }

    /// Someone who is here.
    fn anyone(&mut self) -> Option<usize> {
        let here = |client: &usize| self.world.clients[*client].session.is_some();
        let here: Vec<_> = (0..self.world.clients.len()).filter(here).collect();
        (!here.is_empty()).then(|| here[self.random.below(here.len())])
    }

    fn publish(&mut self) {
        for _ in 0..=self.random.below(4) {
            let topic = self.random.topic();
            let body = format!("n{}{}", self.n_published, " ".repeat(self.random.below(200)));
            self.n_published += 1;
            let offset = self.world.append(&topic, body.as_bytes());
            self.head = self.head.max(offset);
            for model in &mut self.models {
                let matches = |(held, exact): &(Vec<u8>, bool)| {
                    if *exact { *held == topic } else { topic.starts_with(held) }
                };
                if model.held.iter().any(matches) {
                    model.messages.push(Message { body: body.clone(), offset });
                }
            }
        }
        self.world.route();
        self.world.flush();
        self.world.settle();
    }

    fn come(&mut self) {
        if self.world.clients.iter().filter(|client| client.session.is_some()).count() >= CLIENTS_MAX {
            return;
        }
        let protocol = Protocol::WEBSOCKET[self.random.below(3)];
        let topics: Vec<_> = (0..self.random.below(4)).map(|_| self.random.topic()).collect();
        self.world.open(protocol, topics.iter().map(Vec::as_slice));
        let mut model = Model::default();
        model.held.extend(topics.into_iter().map(|topic| (topic, false)));
        if protocol != Protocol::RustWebsocket {
            model.answers.push(json!({"welcome": {"heartbeat_ms": 25_000, "position": position(self.head)}}));
        }
        self.models.push(model);
    }

    /// A client breaks off; it has what its socket took.
    fn go(&mut self) {
        let Some(client) = self.anyone() else { return };
        self.world.leave(client);
        self.world.clients[client].read();
        self.models[client].held.clear();
    }

    /// A command is written, not sent yet.
    fn say(&mut self) {
        let Some(client) = self.anyone() else { return };
        let protocol = self.world.clients[client].protocol;
        let model = &mut self.models[client];
        model.commands_said += 1;
        let id = model.commands_said;
        let exact = self.random.below(3) == 0;
        let topics: Vec<_> = (0..=self.random.below(3)).map(|_| self.random.topic()).collect();
        let json = |verb: &str, topics: &[Vec<u8>]| {
            let command = json!({"id": id, verb: {"topics": texts(topics), "exact": exact}});
            said(protocol, &command.to_string())
        };
        let is_passive = protocol == Protocol::RustWebsocket;
        let (bytes, said) = match self.random.below(if is_passive { 1 } else { 5 }) {
            0 => (masked(Opcode::Ping, id.to_string().as_bytes()), Said::Ping(id.to_string())),
            1 | 2 => (json("unsubscribe", &topics), Said::Unsubscribe { id, topics, exact }),
            _ => (json("subscribe", &topics), Said::Subscribe { id, topics, exact }),
        };
        model.unsent.extend(bytes);
        model.commands.push((model.unsent.len(), said));
    }

    /// Some of what was written is sent, cut anywhere; a command counts once its last byte is there.
    fn send(&mut self) {
        let Some(client) = self.anyone() else { return };
        let unsent = self.models[client].unsent.len();
        if unsent > 0 {
            let n = 1 + self.random.below(unsent);
            self.send_bytes(client, n);
        }
    }

    fn send_bytes(&mut self, client: usize, n: usize) {
        let model = &mut self.models[client];
        let bytes: Vec<_> = model.unsent.drain(..n).collect();
        let n_whole = model.commands.iter().take_while(|(end, _)| *end <= n).count();
        let whole: Vec<_> = model.commands.drain(..n_whole).collect();
        model.commands.iter_mut().for_each(|(end, _)| *end -= n);
        whole.into_iter().for_each(|(_, said)| model.obey(said, self.head));
        self.world.send(client, bytes);
        self.world.settle();
    }

    fn stall_or_resume(&mut self) {
        let Some(client) = self.anyone() else { return };
        let client = &mut self.world.clients[client];
        client.reads = self.random.below(2) == 0;
        client.socket.room = 1 + self.random.below(500);
        self.world.settle();
    }

    /// Time passes, and nobody is silent for long.
    fn wait(&mut self) {
        self.world.wait(Duration::from_millis(250 * self.random.below(60) as u64));
        for client in 0..self.world.clients.len() {
            let session = self.world.clients[client].session;
            // A frame must not be cut by another one.
            if let (Some(session), true) = (session, self.models[client].is_between_frames()) {
                self.world.hub.receive(session, &mut masked(Opcode::Pong, b""));
            } else if session.is_some() {
                self.send_bytes(client, self.models[client].unsent.len());
            }
        }
    }

    /// All that was written is sent, and all that was sent is read.
    fn end(&mut self) {
        for client in 0..self.world.clients.len() {
            if self.world.clients[client].session.is_some() {
                self.world.clients[client].reads = true;
                self.send_bytes(client, self.models[client].unsent.len());
            }
        }
        self.world.settle();
        for (client, model) in self.world.clients.iter().zip(&self.models) {
            model.check(client);
        }
        let n_events: u64 = (0..self.world.clients.len()).map(|client| self.world.n_events(client)).sum();
        let counts = self.world.hub.counts();
        assert_eq!(counts.deliveries, n_events);
        let taken: usize = self.world.clients.iter().map(|client| client.socket.taken).sum();
        assert_eq!(counts.bytes_out, taken as u64);
        assert_eq!((counts.dropped_slow, counts.closed_slow, counts.closed_silent), (0, 0, 0));
        assert_eq!(self.world.hub.outbox_bytes(), 0);
    }
}

impl Model {
    fn is_between_frames(&self) -> bool {
        self.unsent.is_empty()
    }

    fn obey(&mut self, said: Said, head: u64) {
        match said {
            Said::Ping(payload) => self.answers.push(json!({ "pong": payload })),
            Said::Subscribe { id, topics, exact } => {
                let subscribed = json!({
                    "topics": texts(&topics), "position": position(head), "recorded": recorded(&topics, exact),
                });
                self.answers.push(json!({"reply": {"id": id, "subscribed": subscribed}}));
                self.answers
                    .push(json!({"caught_up": {"id": id, "position": position(head), "replayed": 0}}));
                self.held.extend(topics.into_iter().map(|topic| (topic, exact)));
            }
            Said::Unsubscribe { id, topics, exact } => {
                self.answers.push(json!({"reply": {"id": id, "unsubscribed": {"topics": texts(&topics)}}}));
                for topic in topics {
                    self.held.remove(&(topic, exact));
                }
            }
        }
    }

    /// Whoever stayed saw all that it must, whoever left the first part of it.
    fn check(&self, client: &Client) {
        let (mut messages, mut answers) = (Vec::new(), Vec::new());
        for seen in &client.seen {
            let value = match seen {
                Seen::Text(text) if client.protocol != Protocol::RustWebsocket => {
                    serde_json::from_str(text).unwrap()
                }
                Seen::Text(body) => json!({"event": {"text": body}}),
                Seen::Pong(payload) => json!({"pong": str::from_utf8(payload).unwrap()}),
                Seen::Ping(_) => continue,
                other => panic!("{other:?}"),
            };
            if let Some(event) = value.get("event") {
                messages.push(event["text"].as_str().unwrap().to_owned());
                let at = self.messages.get(messages.len() - 1).map_or(0, |message| message.offset);
                let offset = offset_of(event).unwrap_or(0);
                assert!(offset == at || client.protocol == Protocol::RustWebsocket, "{event}");
                continue;
            }
            let (_, answer) = value.as_object().unwrap().iter().next().unwrap();
            if let Some(offset) = offset_of(answer.get("subscribed").unwrap_or(answer)) {
                let due = self.messages.iter().rposition(|message| (1..=offset).contains(&message.offset));
                assert!(due.is_none_or(|last| last < messages.len()), "{value} overtook a message");
            }
            if value.get("heartbeat").is_none() {
                answers.push(without_session(value));
            }
        }
        let bodies: Vec<_> = self.messages.iter().map(|message| &message.body).collect();
        if client.session.is_some() {
            assert_eq!(messages.iter().collect::<Vec<_>>(), bodies);
            assert_eq!(answers, self.answers);
        } else {
            assert!(messages.iter().eq(bodies.into_iter().take(messages.len())));
            assert!(answers.iter().eq(self.answers.iter().take(answers.len())));
        }
    }
}

fn offset_of(value: &Value) -> Option<u64> {
    let position: Position = value.get("position")?.as_str()?.parse().unwrap();
    assert_eq!(position.epoch, EPOCH);
    Some(position.offset)
}

fn without_session(mut value: Value) -> Value {
    if let Some(welcome) = value.get_mut("welcome") {
        let name = welcome.as_object_mut().unwrap().remove("session");
        assert!(name.unwrap().as_str().unwrap().starts_with("test-"));
    }
    value
}

#[test]
fn every_client_sees_what_the_model_says() {
    for_seeds(SEEDS, |seed| Simulation::new(seed).run());
}
