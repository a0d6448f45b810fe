//! Slow clients with every policy, at random: each message that a client wanted came, or was declared lost, or was replaced
//! by a newer one of its topic that came; and no position was told before that.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use trestle_messages::Position;
use trestle_recorder::{RecordRule, RecordRules};

use super::client::Seen;
use super::random::{Random, for_seeds};
use super::world::World;
use crate::encode::Policy;
use crate::limits::Limits;
use crate::protocol::Protocol;

const SEEDS: u64 = 1_500;
const STEPS: usize = 80;
const OUTBOX_BYTES_MAX: usize = 1_200;
/// Some runs have a log that holds less than what the slowest are behind.
const SMALL_LOG_BYTES: usize = 6_000;

const POLICIES: [(&str, Policy); 3] =
    [("disconnect", Policy::Disconnect), ("drop_oldest", Policy::DropOldest), ("conflate", Policy::Conflate)];

#[derive(Debug, Clone)]
struct Held {
    topic: Vec<u8>,
    exact: bool,
    policy: Policy,
    is_limited: bool,
}

impl Held {
    fn wants(&self, topic: &[u8]) -> bool {
        if self.exact { self.topic == topic } else { topic.starts_with(&self.topic) }
    }
}

/// A message that a client wants, and what decides over it.
#[derive(Debug, Clone)]
struct Wanted {
    number: u64,
    topic: Vec<u8>,
    offset: u64,
    held: Held,
    /// A limited subscription matches: it may come late.
    is_paced: bool,
}

impl Wanted {
    fn may_be_replaced(&self) -> bool {
        self.held.is_limited || self.held.policy == Policy::Conflate
    }
}

#[derive(Debug, Default)]
struct Model {
    held: Vec<Held>,
    wanted: Vec<Wanted>,
}

/// What a client was told, as far as it matters here.
#[derive(Debug)]
enum Told {
    Event { number: u64 },
    Lost { from: u64, until: u64, count: u64, is_exact: bool },
    Position(u64),
    Closed,
}

struct Simulation {
    random: Random,
    world: World,
    models: Vec<Model>,
    n_published: u64,
    has_small_log: bool,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let limits = Limits { outbox_bytes_max: OUTBOX_BYTES_MAX, ..Limits::default() };
        let rules = RecordRules::from_iter([RecordRule::new("a")]);
        let has_small_log = seed.is_multiple_of(3);
        let log_bytes_max = if has_small_log { SMALL_LOG_BYTES } else { 64 << 20 };
        let world = World::with_log(log_bytes_max, limits, rules);
        let mut simulation =
            Self { random: Random::new(seed), world, models: vec![], n_published: 0, has_small_log };
        (0..4).for_each(|_| simulation.come());
        simulation
    }

    /// A client subscribes with random terms, and then reads nothing by itself.
    fn come(&mut self) {
        let protocol = [Protocol::Json, Protocol::Json, Protocol::Proto][self.random.below(3)];
        let client = self.world.open(protocol, []);
        let mut model = Model::default();
        let mut keys = BTreeSet::new();
        for id in 1..=1 + self.random.below(3) as u64 {
            let topic = self.random.topic();
            let exact = self.random.below(4) == 0;
            if !keys.insert((topic.clone(), exact)) {
                continue;
            }
            let (name, policy) = POLICIES[self.random.below(3)];
            let is_limited = self.random.below(5) == 0;
            let mut subscribe =
                json!({"topics": [str::from_utf8(&topic).unwrap()], "exact": exact, "policy": name});
            if is_limited {
                subscribe["max_hz"] = json!([0.5, 1.0, 4.0][self.random.below(3)]);
            }
            let command = json!({"id": id, "subscribe": subscribe}).to_string();
            self.world.say(client, &command);
            model.held.push(Held { topic, exact, policy, is_limited });
        }
        self.world.settle();
        self.world.clients[client].reads = false;
        self.world.clients[client].socket.room = self.random.below(300);
        self.models.push(model);
    }

    /// A client that reads nothing by itself changes `max_hz` of a subscription.
    fn change(&mut self, client: usize) {
        let is_open = self.world.clients[client].session.is_some();
        let held = self.random.below(self.models[client].held.len());
        let held = &mut self.models[client].held[held];
        held.is_limited = is_open && self.random.below(2) == 0;
        let (name, _) = POLICIES.into_iter().find(|(_, policy)| *policy == held.policy).unwrap();
        let mut subscribe = json!({
            "topics": [str::from_utf8(&held.topic).unwrap()], "exact": held.exact, "policy": name,
        });
        if held.is_limited {
            subscribe["max_hz"] = json!([0.5, 1.0, 4.0][self.random.below(3)]);
        }
        self.world.say(client, &json!({"id": 9, "subscribe": subscribe}).to_string());
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            let client = self.random.below(self.models.len());
            match self.random.below(21) {
                20 => self.change(client),
                0..11 => self.publish(),
                11..14 => self.world.clients[client].socket.room = self.random.below(600),
                14..18 => self.read(client),
                _ => self.world.wait(Duration::from_millis(250 * self.random.below(8) as u64)),
            }
        }
        for client in 0..self.models.len() {
            self.world.clients[client].socket.room = usize::MAX;
            self.read(client);
            self.world.clients[client].reads = true;
        }
        // Whatever `max_hz` holds comes within its interval.
        self.world.wait(Duration::from_secs(3));
        let (mut replaced, mut lost) = (0, 0);
        for client in 0..self.models.len() {
            let is_gone = self.world.clients[client].session.is_none();
            let check = Check::new(&self.models[client], self.told(client), is_gone, self.has_small_log);
            let (n_replaced, n_lost) = check.run();
            (replaced, lost) = (replaced + n_replaced, lost + n_lost);
        }
        let counts = self.world.hub.counts();
        if counts.closed_slow == 0 && !self.has_small_log {
            assert_eq!((counts.conflated, counts.dropped_slow), (replaced, lost));
            assert_eq!(self.world.hub.outbox_bytes(), 0);
        }
    }

    fn publish(&mut self) {
        for _ in 0..=self.random.below(5) {
            let topic = self.random.topic();
            let number = self.n_published;
            self.n_published += 1;
            let body = format!("{number}x{}", " ".repeat(self.random.below(100)));
            let offset = self.world.append(&topic, body.as_bytes());
            for model in &mut self.models {
                let matching = model.held.iter().filter(|held| held.wants(&topic));
                let is_paced = matching.clone().any(|held| held.is_limited);
                if let Some(held) = matching.max_by_key(|held| (held.topic.len(), held.exact)) {
                    let (held, topic) = (held.clone(), topic.clone());
                    model.wanted.push(Wanted { number, topic, offset, held, is_paced });
                }
            }
        }
        self.world.route();
        self.world.flush();
    }

    fn read(&mut self, client: usize) {
        self.world.clients[client].reads = true;
        self.world.settle();
        self.world.clients[client].reads = false;
    }

    fn told(&self, client: usize) -> Vec<Told> {
        let seen = self.world.clients[client].seen.iter();
        seen.filter_map(|seen| match seen {
            Seen::Text(text) => told(&serde_json::from_str(text).unwrap()),
            Seen::Close(code) => {
                assert_eq!(*code, Some(4008));
                Some(Told::Closed)
            }
            _ => None,
        })
        .collect()
    }
}

fn told(value: &Value) -> Option<Told> {
    let offset = |value: &Value| {
        let position = value.as_str().map(|text| text.parse::<Position>().unwrap());
        position.map(|position| position.offset)
    };
    if let Some(event) = value.get("event") {
        let (number, _) = event["text"].as_str().unwrap().split_once('x').unwrap();
        return Some(Told::Event { number: number.parse().unwrap() });
    }
    if let Some(lost) = value.get("lost") {
        let exact = lost.get("count").and_then(Value::as_u64);
        return Some(Told::Lost {
            from: offset(&lost["from"]).unwrap(),
            until: offset(&lost["position"]).unwrap(),
            count: exact.or(lost["at_most"].as_u64()).unwrap(),
            is_exact: exact.is_some(),
        });
    }
    let (_, body) = value.as_object().unwrap().iter().next().unwrap();
    offset(body.get("position").unwrap_or(&Value::Null)).map(Told::Position)
}

/// What one client was told, beside what it must have been.
struct Check<'a> {
    model: &'a Model,
    told: Vec<Told>,
    /// It was too slow, and may have been too slow to hear of that.
    is_gone: bool,
    has_small_log: bool,
}

impl<'a> Check<'a> {
    fn new(model: &'a Model, told: Vec<Told>, is_gone: bool, has_small_log: bool) -> Self {
        Self { model, told, is_gone, has_small_log }
    }

    /// Returns how many messages were replaced and how many lost.
    fn run(&self) -> (u64, u64) {
        let numbers: Vec<_> = self.told.iter().filter_map(Told::number).collect();
        let came: BTreeSet<_> = numbers.iter().copied().collect();
        assert_eq!(came.len(), numbers.len(), "each once: {numbers:?}");
        let is_closed = self.is_gone || self.told.iter().any(|told| matches!(told, Told::Closed));
        self.in_order(&numbers);
        let missing: Vec<_> =
            self.model.wanted.iter().filter(|wanted| !came.contains(&wanted.number)).collect();
        if is_closed {
            return (0, 0);
        }
        let (replaced, lost): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|wanted| wanted.may_be_replaced());
        if !self.has_small_log {
            for wanted in &replaced {
                let newer = self.model.wanted.iter().rfind(|newer| newer.topic == wanted.topic).unwrap();
                // One that nothing replaces may be lost, and is looked at below.
                let has_it = came.contains(&newer.number) || !newer.may_be_replaced();
                assert!(has_it, "the newest of {wanted:?} came");
            }
            assert!(lost.iter().all(|wanted| wanted.held.policy == Policy::DropOldest), "{lost:?}");
        }
        self.declared(&lost);
        self.no_position_overtakes();
        (replaced.len() as u64, lost.len() as u64)
    }

    /// What is not paced comes in order, and so does each topic.
    fn in_order(&self, numbers: &[u64]) {
        let wanted = |number: &u64| {
            let wanted = self.model.wanted.iter().find(|wanted| wanted.number == *number);
            wanted.unwrap_or_else(|| panic!("{number} was not wanted"))
        };
        let rises = |numbers: &[&Wanted]| numbers.windows(2).all(|pair| pair[0].number < pair[1].number);
        let unpaced: Vec<_> = numbers.iter().map(wanted).filter(|wanted| !wanted.is_paced).collect();
        assert!(rises(&unpaced), "{unpaced:?}");
        for topic in numbers.iter().map(wanted).map(|wanted| &wanted.topic).collect::<BTreeSet<_>>() {
            let of: Vec<_> = numbers.iter().map(wanted).filter(|wanted| wanted.topic == *topic).collect();
            assert!(rises(&of), "{of:?}");
        }
    }

    /// Every message that is lost is in a range that was declared, and the counts are right.
    fn declared(&self, lost: &[&Wanted]) {
        let ranges: Vec<_> = self.told.iter().filter_map(Told::lost).collect();
        for wanted in lost.iter().filter(|wanted| wanted.offset > 0) {
            let is_in =
                |(from, until, ..): &&(u64, u64, u64, bool)| (from + 1..=*until).contains(&wanted.offset);
            assert!(ranges.iter().any(|range| is_in(&range)), "{wanted:?} is not in {ranges:?}");
        }
        let count: u64 = ranges.iter().map(|(_, _, count, _)| count).sum();
        if ranges.iter().all(|(.., is_exact)| *is_exact) {
            assert_eq!(count, lost.len() as u64, "{ranges:?} {lost:?}");
        } else {
            assert!(self.has_small_log && count >= lost.len() as u64, "{ranges:?} {lost:?}");
        }
    }

    /// When a client is told a position, it has all up to there, or knows that it has not.
    fn no_position_overtakes(&self) {
        let mut known: BTreeSet<u64> = BTreeSet::new();
        let recorded = || self.model.wanted.iter().filter(|wanted| wanted.offset > 0);
        for told in &self.told {
            let position = match told {
                Told::Event { number } => {
                    known.insert(*number);
                    let wanted = recorded().find(|wanted| wanted.number == *number);
                    // A paced one speaks for its own subscriptions alone.
                    wanted.filter(|wanted| !wanted.is_paced).map_or(0, |wanted| wanted.offset)
                }
                Told::Lost { from, until, .. } => {
                    let range = from + 1..=*until;
                    known.extend(recorded().filter(|w| range.contains(&w.offset)).map(|w| w.number));
                    0
                }
                Told::Position(position) => *position,
                Told::Closed => 0,
            };
            let is_event = matches!(told, Told::Event { .. });
            for wanted in
                recorded().filter(|wanted| wanted.offset <= position && !known.contains(&wanted.number))
            {
                // What is paced and what is replaced is still to come; an event of another subscription does not cover it.
                let may_follow = wanted.may_be_replaced() || is_event && wanted.is_paced;
                assert!(may_follow, "{told:?} overtook {wanted:?}");
            }
        }
    }
}

impl Told {
    fn number(&self) -> Option<u64> {
        if let Self::Event { number } = self { Some(*number) } else { None }
    }

    fn lost(&self) -> Option<(u64, u64, u64, bool)> {
        match *self {
            Self::Lost { from, until, count, is_exact } => Some((from, until, count, is_exact)),
            _ => None,
        }
    }
}

#[test]
fn nothing_is_lost_silently() {
    for_seeds(SEEDS, |seed| Simulation::new(seed).run());
}
