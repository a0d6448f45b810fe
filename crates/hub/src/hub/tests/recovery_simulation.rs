//! Clients that break off and come back, to either of two edges that hear one feed each at its own pace: every message of
//! their subscriptions came, once and in order, or they were told the range that it was in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use trestle_messages::Position;
use trestle_messages::v1::Stamp;
use trestle_recorder::{Gap, RecordRule, RecordRules};

use super::client::{Seen, masked};
use super::random::{Random, for_seeds};
use super::world::{EPOCH, World};
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::ws::Opcode;

const SEEDS: u64 = 2_000;
const STEPS: usize = 160;
const USERS: usize = 4;
const EDGES: usize = 2;
/// In some runs rings and newest messages hold less than what is missed.
const SMALL_LOG_BYTES: usize = 6_000;
/// In some runs this much makes a client slow.
const SMALL_OUTBOX_BYTES: usize = 1_500;

/// Epoch, which rises here, and offset.
type At = (u64, u64);

fn at(position: &Value) -> Option<At> {
    let position: Position = position.as_str()?.parse().expect("a position");
    Some((position.epoch, position.offset))
}

/// What the forwarder sent.
#[derive(Debug, Clone)]
enum Sent {
    /// Its offset is 0 where it is not recorded.
    Message {
        topic: Vec<u8>,
        body: String,
        at: At,
    },
    Epoch(u64),
}

/// A subscription as its client keeps it, from one connection to the next.
#[derive(Debug)]
struct Kept {
    topic: Vec<u8>,
    exact: bool,
    snapshot: bool,
    policy: &'static str,
    /// What it first subscribed behind.
    start: Option<At>,
    /// Up to here it has everything, or knows that it has not.
    resume: Option<At>,
    caught_up: bool,
    /// The subscribe command on this connection, and what it asked for.
    command: u64,
    since: Option<At>,
    /// Where its reply said that it starts; `None` before that.
    accepted: Option<At>,
    /// Messages since then.
    heard: u64,
    came: BTreeSet<At>,
    lost: Vec<(At, At)>,
}

impl Kept {
    fn wants(&self, topic: &[u8]) -> bool {
        if self.exact { self.topic == topic } else { topic.starts_with(&self.topic) }
    }

    fn has_lost(&self, at: At) -> bool {
        self.lost.iter().any(|(from, until)| *from < at && at <= *until)
    }
}

#[derive(Debug, Default)]
struct User {
    kept: Vec<Kept>,
    /// The edge, its client's index there, and how much of what that saw was taken note of.
    on: Option<(usize, usize, usize)>,
    may_lose: bool,
    /// The newest message of each topic that came on this connection, last values included.
    newest: BTreeMap<Vec<u8>, At>,
}

struct Simulation {
    random: Random,
    edges: Vec<World>,
    /// By edge: how much of the feed has come.
    fed: Vec<usize>,
    sent: Vec<Sent>,
    head: At,
    users: Vec<User>,
    commands: u64,
    n_published: u64,
    is_harsh: bool,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let is_harsh = seed.is_multiple_of(2);
        let log_bytes_max = if seed.is_multiple_of(4) { SMALL_LOG_BYTES } else { 64 << 20 };
        let outbox_bytes_max = if seed % 4 == 2 { SMALL_OUTBOX_BYTES } else { 4 << 20 };
        let rules = RecordRules::from_iter(["a", "ba"].map(RecordRule::new));
        let edges = (0..EDGES).map(|edge| {
            let limits = Limits { outbox_bytes_max, ..Limits::default() };
            let mut world = World::with_log(log_bytes_max, limits, rules.clone());
            world.hub.set_can_ask(edge == 0);
            world
        });
        Self {
            random: Random::new(seed),
            edges: edges.collect(),
            fed: vec![0; EDGES],
            sent: Vec::new(),
            head: (EPOCH, 0),
            users: (0..USERS).map(|_| User { may_lose: is_harsh, ..User::default() }).collect(),
            commands: 0,
            n_published: 0,
            is_harsh,
        }
    }

    fn run(&mut self) {
        for user in 0..USERS {
            for _ in 0..=self.random.below(2) {
                self.keep(user);
            }
        }
        for _ in 0..STEPS {
            let user = self.random.below(USERS);
            match self.random.below(100) {
                0..35 => self.publish(),
                35..55 => {
                    let edge = self.random.below(EDGES);
                    let n = 1 + self.random.below(6);
                    self.feed(edge, n);
                }
                55..70 => self.come(user, true),
                70..80 => self.leave(user),
                80..92 => self.stall(user),
                92..94 => self.subscribe_more(user),
                94..96 => self.answer(),
                96..98 if self.is_harsh && self.random.below(6) == 0 => self.begin_epoch(),
                _ => self.wait(),
            }
            (0..USERS).for_each(|user| self.listen(user));
        }
        self.end();
    }

    fn publish(&mut self) {
        for _ in 0..=self.random.below(8) {
            let topic = self.random.topic();
            let is_recorded = topic.starts_with(b"a") || topic.starts_with(b"ba");
            let at = if is_recorded {
                self.head.1 += 1;
                self.head
            } else {
                (self.head.0, 0)
            };
            let is_empty = self.random.below(12) == 0;
            let body = format!("n{}{}", self.n_published, " ".repeat(self.random.below(80)));
            self.n_published += 1;
            let body = if is_empty { String::new() } else { body };
            self.sent.push(Sent::Message { topic, body, at });
        }
    }

    fn begin_epoch(&mut self) {
        self.head = (self.head.0 + 1, 0);
        self.sent.push(Sent::Epoch(self.head.0));
    }

    /// Some of what was sent comes to an edge, or it learns that some did not.
    fn feed(&mut self, edge: usize, n: usize) {
        let end = (self.fed[edge] + n).min(self.sent.len());
        let is_lost = self.is_harsh && self.random.below(12) == 0;
        let head = self.edges[edge].log.cursor().position().expect("it is known from the start");
        let (mut missing, mut until) = (0, head);
        let sent: Vec<_> = self.sent[self.fed[edge]..end].to_vec();
        let world = &mut self.edges[edge];
        for sent in sent {
            match sent {
                Sent::Epoch(epoch) => {
                    let until = Position { epoch, offset: 0 };
                    let from = world.log.cursor().position();
                    world.log.append_gap(Gap { from, until, messages: None });
                    missing = 0;
                }
                Sent::Message { at: (epoch, offset), .. } if is_lost => {
                    if offset != 0 {
                        (missing, until) = (missing + 1, Position { epoch, offset });
                    }
                }
                Sent::Message { topic, body, at: (epoch, offset) } => {
                    let stamp = Stamp { epoch, offset, ..Stamp::default() };
                    world.append_stamped(&[&topic, body.as_bytes()], stamp);
                }
            }
            if missing > 0 {
                let from = world.log.cursor().position();
                world.log.append_gap(Gap { from, until, messages: Some(missing) });
                missing = 0;
            }
        }
        self.fed[edge] = end;
        if self.random.below(5) > 0 {
            world.route();
            world.flush();
            world.settle();
        }
    }

    fn answer(&mut self) {
        let silent = self.random.below(4) == 0;
        let head = Position { epoch: self.head.0, offset: self.head.1 };
        let hub = &mut self.edges[0].hub;
        if hub.take_question() {
            hub.recorder_is((!silent).then_some(head));
            self.edges[0].flush();
            self.edges[0].settle();
        }
    }

    fn wait(&mut self) {
        let time = Duration::from_millis(250 * self.random.below(60) as u64);
        for world in &mut self.edges {
            world.wait(time);
        }
        for user in 0..USERS {
            self.say(user, masked(Opcode::Pong, b""));
        }
    }

    fn keep(&mut self, user: usize) {
        let (topic, exact) = (self.random.topic(), self.random.below(4) == 0);
        if self.users[user].kept.iter().any(|kept| kept.topic == topic && kept.exact == exact) {
            return;
        }
        let policies = if self.is_harsh { ["disconnect", "drop_oldest"] } else { ["disconnect"; 2] };
        self.users[user].kept.push(Kept {
            topic,
            exact,
            snapshot: self.random.below(3) == 0,
            policy: policies[self.random.below(2)],
            start: None,
            resume: None,
            caught_up: false,
            command: 0,
            since: None,
            accepted: None,
            heard: 0,
            came: BTreeSet::new(),
            lost: Vec::new(),
        });
    }

    fn come(&mut self, user: usize, may_stall: bool) {
        if self.users[user].on.is_some() {
            return;
        }
        let edge = self.random.below(EDGES);
        // From one connection to the next it may change; to read protobuf by its definition takes time.
        let protocol = if self.random.below(16) == 0 { Protocol::Proto } else { Protocol::Json };
        let client = self.edges[edge].open(protocol, []);
        if may_stall && self.random.below(3) == 0 {
            self.edges[edge].clients[client].reads = false;
            self.edges[edge].clients[client].socket.room = self.random.below(800);
        }
        self.users[user].on = Some((edge, client, 0));
        self.users[user].newest.clear();
        for kept in 0..self.users[user].kept.len() {
            self.subscribe(user, kept);
        }
    }

    fn subscribe_more(&mut self, user: usize) {
        let before = self.users[user].kept.len();
        if before < 5 {
            self.keep(user);
        }
        if self.users[user].on.is_some() && self.users[user].kept.len() > before {
            self.subscribe(user, before);
        }
    }

    fn subscribe(&mut self, user: usize, kept: usize) {
        self.commands += 1;
        let command = self.commands;
        let kept = &mut self.users[user].kept[kept];
        (kept.command, kept.since, kept.accepted, kept.caught_up) = (command, kept.resume, None, false);
        let mut subscribe = json!({
            "topics": [str::from_utf8(&kept.topic).unwrap()], "exact": kept.exact,
            "snapshot": kept.snapshot, "policy": kept.policy,
        });
        if let Some((epoch, offset)) = kept.resume {
            subscribe["since"] = json!(Position { epoch, offset }.to_string());
        }
        let command = json!({"id": command, "subscribe": subscribe}).to_string();
        if let Some((edge, client, _)) = self.users[user].on {
            self.edges[edge].say(client, &command);
            self.edges[edge].settle();
        }
    }

    fn say(&mut self, user: usize, bytes: Vec<u8>) {
        if let Some((edge, client, _)) = self.users[user].on {
            self.edges[edge].send(client, bytes);
            self.edges[edge].settle();
        }
    }

    /// Its connection breaks; it has what its socket took.
    fn leave(&mut self, user: usize) {
        let Some((edge, client, _)) = self.users[user].on else { return };
        if self.edges[edge].clients[client].session.is_some() {
            self.edges[edge].leave(client);
        }
        self.edges[edge].clients[client].read();
        self.note(user);
        self.users[user].on = None;
    }

    fn stall(&mut self, user: usize) {
        let Some((edge, client, _)) = self.users[user].on else { return };
        let client = &mut self.edges[edge].clients[client];
        client.reads = self.random.below(2) == 0;
        client.socket.room = 1 + self.random.below(800);
        self.edges[edge].settle();
    }

    /// A user takes note of what has come, and of being cut off.
    fn listen(&mut self, user: usize) {
        self.note(user);
        let Some((edge, client, _)) = self.users[user].on else { return };
        let client = &self.edges[edge].clients[client];
        if client.session.is_none() || client.seen.contains(&Seen::Close(Some(4008))) {
            assert!(self.is_harsh, "nobody is cut off");
            self.leave(user);
        }
    }

    fn note(&mut self, user: usize) {
        let Some((edge, index, n)) = self.users[user].on else { return };
        let client = &self.edges[edge].clients[index];
        for seen in &client.seen[n..] {
            match seen {
                Seen::Text(text) => {
                    let value = serde_json::from_str(text).unwrap();
                    let user = &mut self.users[user];
                    user.hear(&value, &self.sent);
                }
                Seen::Close(code) => assert_eq!(*code, Some(4008)),
                Seen::Ping(_) | Seen::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.users[user].on = Some((edge, index, client.seen.len()));
    }

    /// Everything has come to both edges, everybody is there and reads.
    fn end(&mut self) {
        for edge in 0..EDGES {
            while self.fed[edge] < self.sent.len() {
                self.feed(edge, 20);
            }
            self.edges[edge].route();
            self.edges[edge].flush();
        }
        for user in 0..USERS {
            for _ in 0..2 {
                self.come(user, false);
                if let Some((edge, client, _)) = self.users[user].on {
                    self.edges[edge].clients[client].reads = true;
                    self.edges[edge].clients[client].socket.room = usize::MAX;
                    self.edges[edge].settle();
                }
                self.listen(user);
            }
        }
        // Whoever still waits is answered, and everybody hears how far it is.
        for _ in 0..3 {
            self.edges.iter_mut().for_each(|world| world.wait(Duration::from_secs(14)));
            (0..USERS).for_each(|user| self.say(user, masked(Opcode::Pong, b"")));
        }
        for user in 0..USERS {
            self.listen(user);
            for kept in &self.users[user].kept {
                assert!(kept.caught_up, "{kept:?}");
                assert_eq!(kept.resume, Some(self.head), "{kept:?}");
                self.check(kept);
            }
        }
        self.edges.iter().for_each(|world| assert_eq!(world.hub.outbox_bytes(), 0));
    }

    /// All that a subscription should have had since it was made it had, or knows that it had not.
    fn check(&self, kept: &Kept) {
        let start = kept.start.expect("it was accepted");
        // An edge that lags may have begun before that.
        let mut came: BTreeSet<_> = kept.came.iter().copied().filter(|at| *at > start).collect();
        for sent in &self.sent {
            let Sent::Message { topic, at, .. } = sent else { continue };
            if at.1 == 0 || *at <= start || !kept.wants(topic) {
                continue;
            }
            assert!(came.remove(at) || kept.has_lost(*at), "{at:?} is missing in {kept:?}");
        }
        assert!(came.is_empty(), "{came:?} came to {kept:?}");
    }
}

impl User {
    fn hear(&mut self, value: &Value, sent: &[Sent]) {
        let (name, body) = value.as_object().unwrap().iter().next().unwrap();
        match name.as_str() {
            "event" => self.hear_event(body),
            "reply" => self.hear_reply(body),
            "caught_up" => self.hear_caught_up(body, sent),
            "heartbeat" => self.advance(at(&body["position"]).expect("it is known")),
            "lost" => self.hear_lost(body),
            "welcome" => {}
            other => panic!("{other}"),
        }
    }

    fn hear_event(&mut self, event: &Value) {
        let topic = event["topic"].as_str().unwrap().as_bytes().to_vec();
        let Some(at) = at(&event["position"]) else { return };
        let newest = self.newest.entry(topic.clone()).or_insert(at);
        *newest = at.max(*newest);
        let mut matching: Vec<_> = self.kept.iter_mut().filter(|kept| kept.wants(&topic)).collect();
        if event.get("snapshot").is_some() {
            assert!(matching.iter().any(|kept| kept.snapshot && !kept.caught_up), "nobody asked for {event}");
            return;
        }
        matching.retain(|kept| kept.accepted.is_some_and(|_| kept.resume.is_none_or(|resume| resume < at)));
        assert!(!matching.is_empty(), "nobody needs {event}: {:?}", self.kept);
        for kept in matching {
            assert!(kept.came.insert(at));
            (kept.resume, kept.heard) = (Some(at), kept.heard + 1);
        }
    }

    fn hear_reply(&mut self, reply: &Value) {
        let subscribed = reply.get("subscribed").unwrap_or_else(|| panic!("{reply}"));
        let id = reply["id"].as_u64().unwrap();
        let position = at(&subscribed["position"]).expect("it is known");
        let kept = self.kept.iter_mut().find(|kept| kept.command == id).expect("somebody asked");
        (kept.accepted, kept.heard) = (Some(position), 0);
        let recovered = subscribed.get("recovered").and_then(Value::as_bool);
        assert_eq!(recovered.is_some(), kept.since.is_some(), "only where `since` was");
        match (kept.since, recovered) {
            (Some(since), Some(true)) => assert_eq!(position, since),
            (Some(since), _) => {
                // An edge that lags knows less; whatever it knows it still has.
                let is_known =
                    matches!(subscribed["reason"].as_str(), Some("history_truncated" | "epoch_changed"));
                assert!(self.may_lose || !is_known, "nothing was lost: {reply}");
                kept.lost.push((since, position));
                kept.resume = Some(position);
                // What such an edge is still to be sent comes again.
                kept.came.retain(|at| *at <= position);
            }
            (None, _) => (kept.start, kept.resume) = (Some(position), Some(position)),
        }
    }

    fn hear_caught_up(&mut self, caught_up: &Value, sent: &[Sent]) {
        let id = caught_up["id"].as_u64().unwrap();
        let position = at(&caught_up["position"]).expect("it is known");
        let kept = self.kept.iter_mut().find(|kept| kept.command == id).expect("somebody asked");
        let start = kept.accepted.expect("the reply comes before");
        assert_eq!(caught_up["replayed"].as_u64(), Some(kept.heard), "{caught_up} {kept:?}");
        (kept.caught_up, kept.resume) = (true, kept.resume.max(Some(position)));
        // What never came to an edge it cannot know.
        if kept.snapshot && kept.since.is_none() && start == position && !self.may_lose {
            has_last_values(&self.newest, kept, position, sent);
        }
    }

    fn hear_lost(&mut self, lost: &Value) {
        let (from, until) = (at(&lost["from"]).unwrap(), at(&lost["position"]).unwrap());
        assert!(self.may_lose && from <= until, "{lost}");
        let topics = lost["topics"].as_array().unwrap();
        for kept in &mut self.kept {
            if topics.iter().any(|topic| topic.as_str().unwrap().as_bytes() == kept.topic) {
                kept.lost.push((from, until));
            }
        }
        self.advance(until);
    }

    /// A position that is not of one subscription counts for those that have caught up.
    fn advance(&mut self, position: At) {
        for kept in self.kept.iter_mut().filter(|kept| kept.caught_up) {
            kept.resume = kept.resume.max(Some(position));
        }
    }
}

/// Of every topic the client has the value that stood when it subscribed, or a newer one is there that comes by itself.
fn has_last_values(newest: &BTreeMap<Vec<u8>, At>, kept: &Kept, position: At, sent: &[Sent]) {
    let mut last: BTreeMap<&[u8], (At, bool)> = BTreeMap::new();
    for sent in sent {
        let Sent::Message { topic, body, at } = sent else { continue };
        if at.1 != 0 && at.0 == position.0 && kept.wants(topic) {
            last.insert(topic, (*at, body.is_empty()));
        }
    }
    for (topic, (at, is_removed)) in last {
        let has_it = newest.get(topic).is_some_and(|newest| *newest >= at);
        let is_newer = at > position;
        assert!(has_it || is_newer || is_removed || kept.has_lost(at), "{topic:?} {at:?} {kept:?}");
    }
}

#[test]
fn whoever_comes_back_misses_nothing_untold() {
    for_seeds(SEEDS, |seed| Simulation::new(seed).run());
}
