//! Random clients whose tokens change, beside what these cover: nothing else ever goes to a socket, and all of it does.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use trestle_messages::Position;
use trestle_recorder::{RecordRule, RecordRules};

use super::client::Seen;
use super::random::{Random, for_seeds};
use super::tokens::Reader;
use super::world::{EPOCH, World};
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::session::Phase;
use crate::{Grant, Verifier as _};

const SEEDS: u64 = 400;
const STEPS: usize = 150;
const CLIENTS_MAX: usize = 5;

#[derive(Debug, Clone)]
struct Wanted {
    body: String,
    topic: Vec<u8>,
    /// Of the subscriptions that matched.
    topics: Vec<Vec<u8>>,
}

/// What one client may have and wants, as far as it is known without the hub.
struct Model {
    grant: Grant,
    held: BTreeSet<(Vec<u8>, bool)>,
    /// Its subscriptions say nothing of policies, `max_hz`, history: each message that it wants comes.
    is_plain: bool,
    /// Bodies that must come, and those that came.
    wanted: Vec<Wanted>,
    came: Vec<String>,
    n_shown: usize,
    n_commands: u64,
}

impl Model {
    /// What of its subscriptions matches.
    fn matching(&self, topic: &[u8]) -> Vec<Vec<u8>> {
        let matches = |(held, exact): &&(Vec<u8>, bool)| match exact {
            true => held == topic,
            false => topic.starts_with(held),
        };
        self.held.iter().filter(matches).map(|(held, _)| held.clone()).collect()
    }

    /// What waits in the log waits for subscriptions, elsewhere for itself.
    fn still_wants(&self, wanted: &Wanted) -> bool {
        match wanted.topic.starts_with(b"a") {
            true => wanted.topics.iter().any(|topic| self.covers(topic)),
            false => self.covers(&wanted.topic),
        }
    }

    fn covers(&self, topic: &[u8]) -> bool {
        self.grant.subscribe.iter().any(|prefix| topic.starts_with(prefix))
    }
}

struct Simulation {
    random: Random,
    world: World,
    tokens: std::sync::Arc<Reader>,
    models: Vec<Model>,
    n_published: usize,
    n_denied: usize,
    n_ended: usize,
}

fn text(topic: &[u8]) -> &str {
    str::from_utf8(topic).expect("a and b")
}

impl Simulation {
    /// Half of the topics are recorded. With `bytes_max` some is dropped for who is slow, and of history.
    fn new(seed: u64, bytes_max: usize, limits: Limits) -> Self {
        let rules = RecordRules::from_iter([RecordRule::new("a")]);
        let mut world = World::with_log(bytes_max, limits, rules);
        let tokens = Reader::new(world.now);
        world.hub.set_verifier(tokens.clone());
        let (random, models) = (Random::new(seed), vec![]);
        Self { random, world, tokens, models, n_published: 0, n_denied: 0, n_ended: 0 }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            match self.random.below(100) {
                0..35 => self.publish(),
                35..60 => self.subscribe(),
                60..66 => self.unsubscribe(),
                66..76 => self.authenticate(),
                76..86 => self.stall_or_resume(),
                86..94 => self.come(),
                _ => {
                    self.world.wait(Duration::from_millis(1 + self.random.below(900) as u64));
                }
            }
            self.world.settle();
            self.look();
        }
        for client in 0..self.models.len() {
            self.world.clients[client].reads = true;
            self.world.clients[client].socket.room = usize::MAX;
        }
        self.world.flush();
        self.world.settle();
        self.look();
        for (client, model) in self.models.iter().enumerate() {
            if model.is_plain && self.world.clients[client].session.is_some() {
                let wanted: Vec<_> = model.wanted.iter().map(|wanted| &wanted.body).collect();
                assert_eq!(model.came.iter().collect::<Vec<_>>(), wanted, "client {client}");
            }
        }
    }

    /// What came since the last look was covered then: a socket takes all or nothing, so that it was written just now.
    fn look(&mut self) {
        for (client, model) in self.models.iter_mut().enumerate() {
            let seen = &self.world.clients[client].seen;
            for seen in &seen[model.n_shown..] {
                let Seen::Text(text) = seen else { continue };
                let message: Value = serde_json::from_str(text).unwrap();
                if let Some(event) = message.get("event") {
                    let topic = event["topic"].as_str().unwrap();
                    assert!(model.covers(topic.as_bytes()), "{text} of {:?}", model.grant.subscribe);
                    model.came.push(event["text"].as_str().unwrap().to_owned());
                }
                for topic in message["lost"]["topics"].as_array().into_iter().flatten() {
                    let topic = topic.as_str().unwrap().as_bytes();
                    // It may have waited for a subscription of before; then that was the client's own.
                    assert!(model.held.iter().any(|(held, _)| held == topic) || !model.is_plain, "{text}");
                }
            }
            model.n_shown = seen.len();
        }
    }

    fn publish(&mut self) {
        let (topic, body) = (self.random.topic(), format!("n{}", self.n_published));
        self.world.append(&topic, body.as_bytes());
        for model in &mut self.models {
            let topics = model.matching(&topic);
            if !topics.is_empty() {
                model.wanted.push(Wanted { body: body.clone(), topic: topic.clone(), topics });
            }
        }
        self.n_published += 1;
        self.world.route();
        if self.random.below(3) > 0 {
            self.world.flush();
        }
    }

    fn prefixes(&mut self) -> String {
        let list: Vec<_> = (0..self.random.below(3)).map(|_| text(&self.random.topic()).to_owned()).collect();
        if list.is_empty() { "-".to_owned() } else { list.join(",") }
    }

    fn token(&mut self) -> String {
        match self.random.below(4) {
            0 => "ann;*;*".to_owned(),
            _ => format!("ann;{};-", self.prefixes()),
        }
    }

    fn come(&mut self) {
        if self.models.len() == CLIENTS_MAX {
            return;
        }
        let token = self.token();
        let grant = self.tokens.grant(&token);
        let protocol = [Protocol::Json, Protocol::Proto][self.random.below(2)];
        self.world.open_with(grant.clone(), protocol, []);
        let is_plain = self.random.below(2) == 0;
        let grant = Grant::clone(&grant);
        let (held, wanted, came) = Default::default();
        self.models.push(Model { grant, held, is_plain, wanted, came, n_shown: 0, n_commands: 0 });
    }

    fn say(&mut self, client: usize, name: &str, body: Value) {
        let model = &mut self.models[client];
        model.n_commands += 1;
        let text = json!({"id": model.n_commands, name: body}).to_string();
        self.world.say(client, &text);
    }

    fn subscribe(&mut self) {
        let Some(client) = self.client() else { return };
        let (topic, exact) = (self.random.topic(), self.random.below(3) == 0);
        let mut body = json!({"topics": [text(&topic)], "exact": exact});
        if !self.models[client].is_plain {
            let policy = ["disconnect", "drop_oldest", "conflate"][self.random.below(3)];
            body["policy"] = policy.into();
            body["snapshot"] = (self.random.below(2) == 0).into();
            if self.random.below(2) == 0 {
                body["max_hz"] = 3.into();
            }
            if self.random.below(3) == 0 {
                let offset = self.random.below(self.n_published + 1) as u64;
                body["since"] = json!(Position { epoch: EPOCH, offset }.to_string());
            }
        }
        let model = &mut self.models[client];
        if model.covers(&topic) {
            model.held.insert((topic, exact));
        } else {
            self.n_denied += 1;
        }
        self.say(client, "subscribe", body);
    }

    fn unsubscribe(&mut self) {
        let Some(client) = self.client() else { return };
        let nth = self.random.below(8);
        let model = &mut self.models[client];
        let Some((topic, exact)) = model.held.iter().nth(nth).cloned() else { return };
        model.held.remove(&(topic.clone(), exact));
        self.say(client, "unsubscribe", json!({"topics": [text(&topic)], "exact": exact}));
    }

    fn authenticate(&mut self) {
        let Some(client) = self.client() else { return };
        let token = self.token();
        let model = &mut self.models[client];
        model.grant = self.tokens.verify(&token).unwrap();
        let covers: Vec<_> = model.held.iter().filter(|(topic, _)| model.covers(topic)).cloned().collect();
        self.n_ended += model.held.len() - covers.len();
        model.held = covers.into_iter().collect();
        // What waits and is not wanted any more does not come; who has none waiting has all of it.
        let mut wanted = std::mem::take(&mut model.wanted);
        wanted.retain(|wanted| model.came.contains(&wanted.body) || model.still_wants(wanted));
        model.wanted = wanted;
        self.say(client, "authenticate", json!({"token": token}));
    }

    /// Nothing at all goes to a socket that stalls, so that no frame is begun.
    fn stall_or_resume(&mut self) {
        let Some(client) = self.client() else { return };
        let client = &mut self.world.clients[client];
        (client.reads, client.socket.room) = if client.reads { (false, 0) } else { (true, usize::MAX) };
    }

    fn client(&mut self) -> Option<usize> {
        let client = self.random.below(self.models.len().max(1));
        // Who is being closed is not heard any more.
        let session = self.world.clients.get(client)?.session?;
        (self.world.hub.sessions[session as usize].phase == Phase::Open).then_some(client)
    }
}

/// Whoever is plain unsubscribes too, and gets what waited; a subscription that a token ended does not count among these.
#[test]
fn nothing_comes_that_is_not_covered_and_all_that_is() {
    let (mut n_denied, mut n_ended) = (0, 0);
    let sums = std::sync::Mutex::new((&mut n_denied, &mut n_ended));
    for_seeds(SEEDS, |seed| {
        let mut simulation = Simulation::new(seed, 64 << 20, Limits::default());
        simulation.run();
        let mut sums = sums.lock().unwrap();
        *sums.0 += simulation.n_denied;
        *sums.1 += simulation.n_ended;
    });
    assert!(
        std::env::var_os("TRESTLE_SEED").is_some() || n_denied > 5_000 && n_ended > 1_000,
        "{n_denied} {n_ended}"
    );
}

/// With little room things are dropped, told as lost, and fall off the log.
#[test]
fn nothing_comes_that_is_not_covered_where_little_is_kept() {
    for_seeds(SEEDS, |seed| {
        let limits = Limits { outbox_bytes_max: 600, ..Limits::default() };
        let mut simulation = Simulation::new(seed, 2_000, limits);
        for _ in 0..CLIENTS_MAX {
            simulation.come();
        }
        simulation.models.iter_mut().for_each(|model| model.is_plain = false);
        simulation.run();
    });
}
