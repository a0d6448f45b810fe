//! Scripts: what happens, line by line, and what the clients see of it.
//!
//! A line begins with a client's name, one letter, or with a word for what happens by itself:
//!
//! - `a opens json x y`, `a opens proto x` or `a opens raw x`: with these topics in its URL; `a leaves`: its connection breaks
//! - `a subscribes 1 x y`, `a subscribes 1 exactly x`, `a subscribes 1 since @3 x`, or `@8:3` of another epoch than the
//!   first, `a subscribes 1 snapshot x`, `a unsubscribes 2 x`; `a says {…}`: any text
//! - `tokens asked`: from then on clients need one: `a opens json:ann;x;- x` with a token (as `tokens` reads it), without in band
//!   by `a authenticates 3 ann;x;-`
//! - `a sends ping hi`, `pong`, `binary x`, `close 1000`, `close`
//! - `a stalls 100`: its socket takes 100 bytes and it reads nothing, until `a reads`; `a is silent`: no pongs either
//! - `publish topic body`; `route topic body`: without a visit to any socket, which comes with the next line
//! - `miss 3`: so many recorded messages do not come; `epoch 8`: the sequence begins anew
//! - `asks yes`: there is a recorder; `recorder @9` or `recorder silent`: what it says, if it was asked
//! - `published @9`, `published unrecorded`, `unpublished forbidden`: the answer to the oldest publication
//! - `upstream silent`, `upstream speaks`; `wait 25s`; `restart 10s`: goodbye with that spread; `overrun 5 @9`
//!
//! `''` stands for the empty topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trestle_messages::Position;
use trestle_recorder::{RecordRule, RecordRules};

use super::client::masked;
use super::show::show;
use super::tokens::Reader;
use super::world::{EPOCH, World};
use crate::hub::Unpublished;
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::ws::Opcode;
use crate::{ErrorCode, Grant};

/// Runs `script` and compares what the clients saw, a line each as `a: event x @1 hello`.
#[track_caller]
pub(super) fn check(script: &str, expected: &str) {
    check_with(Limits::default(), script, expected);
    // What is said is the same in either format.
    check_with(Limits::default(), &script.replace(" opens json", " opens proto"), expected);
}

/// As [`check`], with other bounds.
#[track_caller]
pub(super) fn check_with(limits: Limits, script: &str, expected: &str) {
    let mut stage = Stage::new(limits);
    for line in lines(script) {
        stage.play(line);
    }
    let expected: Vec<_> = lines(expected).collect();
    assert_eq!(stage.record, expected, "\nsaw:\n{}\n", stage.record.join("\n"));
    let n_events: u64 = (0..stage.world.clients.len()).map(|client| stage.world.n_events(client)).sum();
    assert_eq!(stage.world.hub.counts().deliveries, n_events, "what was counted is what arrived");
    let n_lost = stage.record.iter().filter(|line| line.split(' ').nth(1) == Some("lost")).count() as u64;
    assert_eq!(stage.world.hub.counts().told_lost.iter().sum::<u64>(), n_lost, "who was told was counted");
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

pub(super) struct Stage {
    pub(super) world: World,
    /// Each name's client; the last that took it.
    names: BTreeMap<char, usize>,
    /// What of each client is in the record, and whether it says that it is gone.
    shown: Vec<(char, usize, bool)>,
    pub(super) record: Vec<String>,
    tokens: Option<Arc<Reader>>,
}

impl Stage {
    /// Everything is recorded but what begins with `unrecorded`.
    pub(super) fn new(limits: Limits) -> Self {
        let rules = RecordRules::from_iter(["j", "x", "y", "z"].map(RecordRule::new));
        Self {
            world: World::new(limits, rules),
            names: BTreeMap::new(),
            shown: vec![],
            record: vec![],
            tokens: None,
        }
    }

    pub(super) fn play(&mut self, line: &str) {
        let (who, what) = line.split_once(' ').expect("two words");
        let mut letters = who.chars();
        match (letters.next(), letters.next()) {
            (Some(name), None) => self.act(name, what),
            _ => self.happen(who, what),
        }
        self.world.settle();
        self.show();
    }

    fn act(&mut self, name: char, what: &str) {
        let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
        if verb == "opens" {
            let (protocol, topics) = rest.split_once(' ').unwrap_or((rest, ""));
            let (protocol, token) = protocol.split_once(':').unwrap_or((protocol, ""));
            let protocol = match protocol {
                "raw" => Protocol::RustWebsocket,
                "proto" => Protocol::Proto,
                _ => Protocol::Json,
            };
            let grant = self.grant(token);
            let client = self.world.open_with(grant, protocol, topics.split_whitespace().map(bytes));
            self.names.insert(name, client);
            self.shown.push((name, 0, false));
            return;
        }
        let client = self.names[&name];
        match verb {
            "leaves" => self.world.leave(client),
            "says" => self.world.say(client, rest),
            "subscribes" | "unsubscribes" => {
                let command = command(verb.strip_suffix('s').expect("it ends so"), rest);
                self.world.say(client, &command);
            }
            "authenticates" => {
                let (id, token) = rest.split_once(' ').expect("an id and a token");
                self.world.say(client, &format!(r#"{{"id":{id},"authenticate":{{"token":"{token}"}}}}"#));
            }
            "sends" => self.world.send(client, frame(rest)),
            "stalls" => {
                self.world.clients[client].reads = false;
                self.world.clients[client].socket.room = rest.parse().expect("bytes");
            }
            "reads" => {
                self.world.clients[client].reads = true;
                self.world.clients[client].socket.room = usize::MAX;
            }
            "is" => self.world.clients[client].pongs = rest != "silent",
            _ => panic!("{what}"),
        }
    }

    /// A client comes that has no name; returns its number.
    pub(super) fn opens(&mut self, protocol: Protocol, token: &str) -> usize {
        let grant = self.grant(token);
        self.world.open_with(grant, protocol, [])
    }

    fn grant(&self, token: &str) -> Arc<Grant> {
        match (&self.tokens, token) {
            (None, _) => Arc::new(Grant::everything()),
            (Some(_), "") => Arc::new(Grant::nothing()),
            (Some(tokens), token) => tokens.grant(token),
        }
    }

    fn happen(&mut self, verb: &str, rest: &str) {
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "publish" => {
                self.world.publish(bytes(first), second.as_bytes());
            }
            "route" => {
                self.world.append(bytes(first), second.as_bytes());
                self.world.route();
            }
            "wait" => {
                self.world.wait(seconds(first));
            }
            "miss" => self.world.miss(first.parse().expect("a number")),
            "epoch" => self.world.begin_epoch(first.parse().expect("a number")),
            "asks" => self.world.hub.set_can_ask(first == "yes"),
            "recorder" => {
                assert!(self.world.hub.take_question(), "nobody asks");
                self.world.hub.recorder_is((first != "silent").then(|| position(first)));
                self.world.flush();
            }
            "published" => {
                let recorded = (first != "unrecorded").then(|| position(first));
                self.world.answer(Ok(recorded));
            }
            "unpublished" => {
                let code = ErrorCode::ALL.into_iter().find(|code| code.as_str() == first);
                self.world.answer(Err(Unpublished::new(code.expect("a code"), "for a reason")));
            }
            "tokens" => {
                let tokens = Reader::new(self.world.now);
                self.tokens = Some(Arc::clone(&tokens));
                self.world.hub.set_verifier(tokens);
            }
            "upstream" => {
                self.world.hub.set_stale(first == "silent");
                self.world.flush();
            }
            "restart" => self.world.goodbye(seconds(first)),
            "overrun" => {
                self.world.overrun(first.parse().expect("a number"), position(second));
            }
            _ => panic!("{verb} {rest}"),
        }
    }

    fn show(&mut self) {
        for (client, (name, n_shown, is_gone)) in self.world.clients.iter().zip(&mut self.shown) {
            for seen in &client.seen[*n_shown..] {
                self.record.push(format!("{name}: {}", show(client.protocol, seen).trim_end()));
            }
            *n_shown = client.seen.len();
            if client.session.is_none() && !client.has_unread() && !std::mem::replace(is_gone, true) {
                self.record.push(format!("{name}: gone"));
            }
        }
    }
}

fn bytes(word: &str) -> &[u8] {
    if word == "''" { b"" } else { word.as_bytes() }
}

fn seconds(word: &str) -> Duration {
    let number = word.strip_suffix('s').and_then(|number| number.parse().ok());
    Duration::from_secs_f64(number.expect("seconds"))
}

/// `@offset` or `@epoch:offset`.
fn position(word: &str) -> Position {
    let word = word.strip_prefix('@').expect("a position");
    let number = |word: &str| word.parse().expect("a number");
    match word.split_once(':') {
        Some((epoch, offset)) => Position { epoch: number(epoch), offset: number(offset) },
        None => Position { epoch: EPOCH, offset: number(word) },
    }
}

/// `subscribe` or `unsubscribe` of `id [exactly] [snapshot] [since @…] topics…`.
fn command(verb: &str, rest: &str) -> String {
    let mut words = rest.split(' ').peekable();
    let id = words.next().expect("an id");
    let exact = words.next_if_eq(&"exactly").is_some();
    let snapshot = words.next_if_eq(&"snapshot").map_or("", |_| r#","snapshot":true"#);
    let since = words.next_if_eq(&"since").map(|_| position(words.next().expect("a position")));
    let since = since.map_or(String::new(), |since| format!(r#","since":"{since}""#));
    let topics: Vec<_> = words.map(|word| if word == "''" { "" } else { word }).collect();
    let topics = serde_json::to_string(&topics).expect("texts");
    format!(r#"{{"id":{id},"{verb}":{{"topics":{topics},"exact":{exact}{snapshot}{since}}}}}"#)
}

fn frame(rest: &str) -> Vec<u8> {
    let (kind, payload) = rest.split_once(' ').unwrap_or((rest, ""));
    match kind {
        "ping" => masked(Opcode::Ping, payload.as_bytes()),
        "pong" => masked(Opcode::Pong, payload.as_bytes()),
        "binary" => masked(Opcode::Binary, payload.as_bytes()),
        "close" if payload.is_empty() => masked(Opcode::Close, b""),
        "close" => masked(Opcode::Close, &payload.parse::<u16>().expect("a code").to_be_bytes()),
        _ => panic!("{rest}"),
    }
}
