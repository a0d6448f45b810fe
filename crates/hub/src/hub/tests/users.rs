//! Users as a client library serves them: they break off, come back to any edge, and resume each subscription where it was.
//! What they hear is checked as it comes, and in the end against all that was published.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trestle_messages::Position;

use super::client::{Seen, masked};
use super::random::{Random, is_one_seed};
use super::show::show;
use super::world::World;
use crate::protocol::Protocol;
use crate::ws::Opcode;

/// Every so many connections speak protobuf.
const PROTO_EVERY: usize = 16;

/// Epoch, which rises in simulations, and offset.
pub(super) type At = (u64, u64);

fn at(position: &Value) -> Option<At> {
    let position: Position = position.as_str()?.parse().expect("a position");
    Some((position.epoch, position.offset))
}

/// What a publisher sent, with its place in the sequence.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) topic: Vec<u8>,
    pub(super) body: String,
    /// Its offset is 0 where it is not recorded.
    pub(super) at: At,
}

/// What may happen to users in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// Something may be lost, and is told then.
    pub(super) may_lose: bool,
    /// An edge may know less of the sequence than a user who comes from another.
    pub(super) may_lag: bool,
    /// A fault of the client library that a simulation must find: a heartbeat counts for what has not caught up, too.
    pub(super) advances_early: bool,
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
    came: BTreeMap<At, String>,
    lost: Vec<(At, At)>,
}

impl Kept {
    fn wants(&self, topic: &[u8]) -> bool {
        if self.exact { self.topic == topic } else { topic.starts_with(&self.topic) }
    }

    fn has_lost(&self, at: At) -> bool {
        self.lost.iter().any(|(from, until)| *from < at && at <= *until)
    }

    /// It must be told of what is at `at` in a loss that is told now.
    fn misses(&self, published: &Published) -> bool {
        let is_behind = self.resume.is_some_and(|resume| resume < published.at);
        self.accepted.is_some() && is_behind && self.wants(&published.topic)
    }
}

#[derive(Debug, Default)]
struct User {
    kept: Vec<Kept>,
    /// The edge, its client's index there, and how much of what that saw was taken note of.
    on: Option<(usize, usize, usize)>,
    /// The newest message of each topic that came on this connection, last values included.
    newest: BTreeMap<Vec<u8>, At>,
    /// What it was told on this connection not to get, and how much that was said to be.
    missed: BTreeSet<At>,
    told: u64,
}

/// All users of a run.
#[derive(Debug)]
pub(super) struct Users {
    users: Vec<User>,
    weather: Weather,
    n_commands: u64,
    n_connections: usize,
    traces: bool,
}

impl Users {
    /// So many, each with a subscription or two.
    pub(super) fn new(n: usize, weather: Weather, random: &mut Random) -> Self {
        let mut users =
            Self { users: Vec::new(), weather, n_commands: 0, n_connections: 0, traces: is_one_seed() };
        for user in 0..n {
            users.users.push(User::default());
            for _ in 0..=random.below(2) {
                users.keep(user, random);
            }
        }
        users
    }

    /// The edge that `user` is connected to.
    pub(super) fn edge_of(&self, user: usize) -> Option<usize> {
        self.users[user].on.map(|(edge, ..)| edge)
    }

    fn keep(&mut self, user: usize, random: &mut Random) {
        let (topic, exact) = (random.topic(), random.below(4) == 0);
        if self.users[user].kept.iter().any(|kept| kept.topic == topic && kept.exact == exact) {
            return;
        }
        let policies = if self.weather.may_lose { ["disconnect", "drop_oldest"] } else { ["disconnect"; 2] };
        self.users[user].kept.push(Kept {
            topic,
            exact,
            snapshot: random.below(3) == 0,
            policy: policies[random.below(2)],
            start: None,
            resume: None,
            caught_up: false,
            command: 0,
            since: None,
            accepted: None,
            heard: 0,
            came: BTreeMap::new(),
            lost: Vec::new(),
        });
    }

    /// Connects to `edge` and resumes everything, unless it is connected. With `stalls` it may not read.
    pub(super) fn come(
        &mut self,
        user: usize,
        edge: usize,
        worlds: &mut [World],
        stalls: Option<&mut Random>,
    ) {
        if self.users[user].on.is_some() {
            return;
        }
        // From one connection to the next it may change; to read protobuf by its definition takes time.
        self.n_connections += 1;
        let protocol =
            if self.n_connections.is_multiple_of(PROTO_EVERY) { Protocol::Proto } else { Protocol::Json };
        let client = worlds[edge].open(protocol, []);
        if let Some(random) = stalls
            && random.below(3) == 0
        {
            worlds[edge].clients[client].reads = false;
            worlds[edge].clients[client].socket.room = random.below(800);
        }
        self.users[user].on = Some((edge, client, 0));
        let User { newest, missed, told, .. } = &mut self.users[user];
        (*newest, *missed, *told) = (BTreeMap::new(), BTreeSet::new(), 0);
        for kept in 0..self.users[user].kept.len() {
            self.subscribe(user, kept, worlds);
        }
    }

    /// Wants something more.
    pub(super) fn subscribe_more(&mut self, user: usize, worlds: &mut [World], random: &mut Random) {
        let before = self.users[user].kept.len();
        if before < 5 {
            self.keep(user, random);
        }
        if self.users[user].on.is_some() && self.users[user].kept.len() > before {
            self.subscribe(user, before, worlds);
        }
    }

    fn subscribe(&mut self, user: usize, kept: usize, worlds: &mut [World]) {
        self.n_commands += 1;
        let command = self.n_commands;
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
            worlds[edge].say(client, &command);
            worlds[edge].settle();
        }
    }

    /// Everybody shows that they are alive, as browsers do when they are pinged.
    pub(super) fn pong(&mut self, worlds: &mut [World]) {
        for (edge, client, _) in self.users.iter().filter_map(|user| user.on) {
            worlds[edge].send(client, masked(Opcode::Pong, b""));
            worlds[edge].settle();
        }
    }

    /// The connection of `user` breaks; it has what its socket took.
    pub(super) fn leave(&mut self, user: usize, worlds: &mut [World], published: &[Published]) {
        let Some((edge, client, _)) = self.users[user].on else { return };
        if worlds[edge].clients[client].session.is_some() {
            worlds[edge].leave(client);
        }
        worlds[edge].clients[client].read();
        self.note(user, worlds, published);
        self.users[user].on = None;
    }

    /// The socket of `user` takes more or less from now on.
    pub(super) fn stall(&mut self, user: usize, worlds: &mut [World], random: &mut Random) {
        let Some((edge, client, _)) = self.users[user].on else { return };
        let client = &mut worlds[edge].clients[client];
        client.reads = random.below(2) == 0;
        client.socket.room = 1 + random.below(800);
        worlds[edge].settle();
    }

    /// `user` reads whatever comes, from now on.
    pub(super) fn read_on(&mut self, user: usize, worlds: &mut [World]) {
        let Some((edge, client, _)) = self.users[user].on else { return };
        worlds[edge].clients[client].reads = true;
        worlds[edge].clients[client].socket.room = usize::MAX;
        worlds[edge].settle();
    }

    /// All take note of what has come, and of being cut off.
    pub(super) fn listen(&mut self, worlds: &mut [World], published: &[Published]) {
        for user in 0..self.users.len() {
            self.note(user, worlds, published);
            let Some((edge, client, _)) = self.users[user].on else { continue };
            let client = &worlds[edge].clients[client];
            if client.session.is_none() || client.seen.contains(&Seen::Close(Some(4008))) {
                assert!(self.weather.may_lose, "nobody is cut off");
                self.leave(user, worlds, published);
            }
        }
    }

    fn note(&mut self, user: usize, worlds: &[World], published: &[Published]) {
        let Some((edge, index, n)) = self.users[user].on else { return };
        let client = &worlds[edge].clients[index];
        for seen in &client.seen[n..] {
            if self.traces {
                eprintln!("    user {user}: {}", show(client.protocol, seen).trim_end());
            }
            match seen {
                Seen::Text(text) => {
                    let value = serde_json::from_str(text).unwrap();
                    self.users[user].hear(&value, self.weather, published);
                }
                Seen::Close(code) => assert_eq!(*code, Some(4008)),
                Seen::Ping(_) | Seen::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.users[user].on = Some((edge, index, client.seen.len()));
    }

    /// Everybody has caught up with `head`: all that a subscription should have had since it was made it had, or knows
    /// that it had not.
    pub(super) fn check(&self, head: At, published: &[Published]) {
        for user in &self.users {
            assert!(user.missed.len() as u64 <= user.told, "{} were told of {:?}", user.told, user.missed);
        }
        for kept in self.users.iter().flat_map(|user| &user.kept) {
            assert!(kept.caught_up, "{kept:?}");
            assert_eq!(kept.resume, Some(head), "{kept:?}");
            let start = kept.start.expect("it was accepted");
            // An edge that lags may have begun before that.
            let mut came = kept.came.iter().filter(|(at, _)| **at > start).collect::<BTreeMap<_, _>>();
            for Published { topic, body, at } in published {
                if at.1 == 0 || *at <= start || !kept.wants(topic) {
                    continue;
                }
                let had = came.remove(at);
                assert!(
                    had == Some(body) || (had.is_none() && kept.has_lost(*at)),
                    "{at:?} is {had:?} in {kept:?}"
                );
            }
            assert!(came.is_empty(), "{came:?} came to {kept:?}");
        }
    }
}

impl User {
    fn hear(&mut self, value: &Value, weather: Weather, published: &[Published]) {
        let (name, body) = value.as_object().unwrap().iter().next().unwrap();
        match name.as_str() {
            "event" => self.hear_event(body),
            "reply" => self.hear_reply(body, weather),
            "caught_up" => self.hear_caught_up(body, weather, published),
            "heartbeat" => {
                if let Some(position) = at(&body["position"]) {
                    self.advance(position, weather.advances_early);
                }
            }
            "lost" => self.hear_lost(body, weather, published),
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
        let body = event["text"].as_str().expect("all bodies are texts");
        for kept in matching {
            assert_eq!(kept.came.insert(at, body.to_owned()), None, "twice");
            (kept.resume, kept.heard) = (Some(at), kept.heard + 1);
        }
    }

    fn hear_reply(&mut self, reply: &Value, weather: Weather) {
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
                let reason = subscribed["reason"].as_str().expect("it says why");
                // An edge that lags knows less; whatever it knows it still has.
                let may_be = match reason {
                    "not_recorded" => subscribed["recorded"] == "none",
                    "unknown_position" => weather.may_lose || weather.may_lag,
                    _ => weather.may_lose,
                };
                assert!(may_be, "nothing was lost: {reply}");
                kept.lost.push((since, position));
                kept.resume = Some(position);
                // What such an edge is still to be sent comes again.
                kept.came.retain(|at, _| *at <= position);
            }
            (None, _) => (kept.start, kept.resume) = (Some(position), Some(position)),
        }
    }

    fn hear_caught_up(&mut self, caught_up: &Value, weather: Weather, published: &[Published]) {
        let id = caught_up["id"].as_u64().unwrap();
        let position = at(&caught_up["position"]).expect("it is known");
        let kept = self.kept.iter_mut().find(|kept| kept.command == id).expect("somebody asked");
        let start = kept.accepted.expect("the reply comes before");
        let replayed = caught_up["replayed"].as_u64().expect("it is a number");
        // What it was told that it lost, and came after all for a subscription made since, is not of this command.
        let may_be_less = kept.lost.iter().any(|(from, until)| from < until && *until > start);
        assert!(replayed == kept.heard || (may_be_less && replayed < kept.heard), "{caught_up} {kept:?}");
        (kept.caught_up, kept.resume) = (true, kept.resume.max(Some(position)));
        // What never came to an edge it cannot know.
        if kept.snapshot && kept.since.is_none() && start == position && !weather.may_lose {
            has_last_values(&self.newest, kept, position, published);
        }
    }

    fn hear_lost(&mut self, lost: &Value, weather: Weather, published: &[Published]) {
        let (from, until) = (at(&lost["from"]).unwrap(), at(&lost["position"]).unwrap());
        assert!(weather.may_lose && from <= until, "{lost}");
        let topics: BTreeSet<_> = lost["topics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|topic| topic.as_str().unwrap().as_bytes())
            .collect();
        if self.kept.iter().all(|kept| kept.caught_up) {
            let told = self.kept.iter().filter_map(|kept| kept.resume).max();
            assert!(told <= Some(until), "{lost} after {told:?}: {:?}", self.kept);
        }
        let concerned = |kept: &&Kept| topics.contains(&kept.topic[..]);
        let is_missing = |published: &&Published| {
            let is_inside = published.at.1 != 0 && from < published.at && published.at <= until;
            is_inside && self.kept.iter().filter(concerned).any(|kept| kept.misses(published))
        };
        // A hole that lies inside of what was dropped here is counted by itself, right behind it.
        self.missed.extend(published.iter().filter(is_missing).map(|published| published.at));
        self.told += lost["count"].as_u64().or(lost["at_most"].as_u64()).unwrap_or(u64::from(u32::MAX));
        for kept in &mut self.kept {
            if topics.contains(&kept.topic[..]) {
                kept.lost.push((from, until));
            }
        }
        self.advance(until, false);
    }

    /// A position that is not of one subscription counts for those that have caught up.
    fn advance(&mut self, position: At, also_others: bool) {
        for kept in self.kept.iter_mut().filter(|kept| kept.caught_up || also_others) {
            kept.resume = kept.resume.max(Some(position));
        }
    }
}

/// Of every topic the client has the value that stood when it subscribed, or a newer one is there that comes by itself.
fn has_last_values(newest: &BTreeMap<Vec<u8>, At>, kept: &Kept, position: At, published: &[Published]) {
    let mut last: BTreeMap<&[u8], (At, bool)> = BTreeMap::new();
    for Published { topic, body, at } in published {
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
