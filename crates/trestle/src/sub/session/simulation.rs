//! The session against a model of an edge: connections that break anywhere, histories that are cut, losses.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::{Value, json};
use trestle_messages::Position;

use super::*;

const TOPICS: [&str; 4] = ["a/1", "a/2", "b", "c"];

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    /// A message of a topic; where `lost`, the edge cannot send it to who is there, and says so.
    Publish {
        topic: usize,
        lost: bool,
    },
    Heartbeat,
    /// The client reads so many of the edge's messages.
    Read(usize),
    /// The connection breaks: what was not read is gone. Another one opens.
    Break,
    /// All that was kept so far is gone.
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0..TOPICS.len(), prop::bool::weighted(0.1)).prop_map(|(topic, lost)| Step::Publish { topic, lost }),
        3 => Just(Step::Heartbeat),
        8 => (0usize..8).prop_map(Step::Read),
        2 => Just(Step::Break),
        1 => Just(Step::Forget),
    ];
    prop::collection::vec(step, 1..150)
}

/// A subscription at the edge.
#[derive(Debug)]
struct Held {
    prefix: String,
}

/// An edge that keeps everything since the last `Forget`, with at most one client.
#[derive(Debug, Default)]
struct Edge {
    /// Offset of each is its index + 1.
    log: Vec<(&'static str, bool)>,
    kept_from: usize,
    held: Vec<Held>,
    /// Sent and not read.
    sent: VecDeque<String>,
}

fn position(offset: usize) -> String {
    Position { epoch: 7, offset: offset as u64 }.to_string()
}

fn offset(position: &str) -> usize {
    position.parse::<Position>().unwrap().offset as usize
}

impl Edge {
    fn send(&mut self, message: Value) {
        self.sent.push_back(message.to_string());
    }

    fn send_event(&mut self, offset: usize) {
        let topic = self.log[offset - 1].0;
        self.send(json!({ "event": { "topic": topic, "position": position(offset), "time_ms": 1, "data": { "n": offset } } }));
    }

    fn open(&mut self) {
        self.held.clear();
        self.sent.clear();
        self.send(json!({ "welcome": { "session": "s", "position": position(self.log.len()), "heartbeat_ms": 1000 } }));
    }

    /// As an edge does it: reply, replay of all that was missed, caught up.
    fn subscribe(&mut self, commands: &[String]) {
        for command in commands {
            let command: Value = serde_json::from_str(command).unwrap();
            let (id, fields) = (&command["id"], &command["subscribe"]);
            let prefix = fields["topics"][0].as_str().unwrap().to_owned();
            let head = self.log.len();
            let since = fields["since"].as_str().map(offset);
            let replays = since.filter(|since| *since >= self.kept_from);
            let mut subscribed = json!({ "topics": [prefix], "position": position(replays.unwrap_or(head)), "recorded": "all" });
            if since.is_some() {
                subscribed["recovered"] = replays.is_some().into();
            }
            if since.is_some() && replays.is_none() {
                subscribed["reason"] = "history_truncated".into();
            }
            self.send(json!({ "reply": { "id": id, "subscribed": subscribed } }));
            let missed = replays.unwrap_or(head) + 1..=head;
            let missed: Vec<_> = missed.filter(|at| self.log[at - 1].0.starts_with(&prefix)).collect();
            missed.iter().for_each(|at| self.send_event(*at));
            self.send(
                json!({ "caught_up": { "id": id, "position": position(head), "replayed": missed.len() } }),
            );
            self.held.push(Held { prefix });
        }
    }

    fn publish(&mut self, topic: &'static str, lost: bool) {
        let wanted =
            self.held.iter().find(|held| topic.starts_with(&held.prefix)).map(|held| held.prefix.clone());
        self.log.push((topic, lost && wanted.is_some()));
        let at = self.log.len();
        match wanted {
            Some(prefix) if lost => self.send(json!({ "lost": {
                "topics": [prefix], "from": position(at - 1), "position": position(at), "cause": "slow_consumer", "count": 1 } })),
            Some(_) => self.send_event(at),
            None => {}
        }
    }
}

/// What a user saw of one subscription.
#[derive(Debug, Default)]
struct Seen {
    /// Offsets printed and declared lost, as they came.
    accounted: Vec<usize>,
    /// The first message that it should see.
    first: Option<usize>,
}

/// A client that runs one after the other, and the edge.
struct Pair {
    edge: Edge,
    session: Session,
    prefixes: Vec<String>,
    seen: Vec<Seen>,
}

impl Pair {
    fn new(prefixes: &[&str], since: Option<usize>) -> Self {
        let prefixes: Vec<_> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        let session = session(&prefixes, since.map(position));
        let seen = prefixes
            .iter()
            .map(|_| Seen { first: since.map(|since| since + 1), ..Seen::default() })
            .collect();
        let mut edge = Edge::default();
        edge.open();
        Self { edge, session, prefixes, seen }
    }

    fn of(&mut self, topic: &str) -> &mut Seen {
        let at = self.prefixes.iter().position(|prefix| topic.starts_with(prefix)).unwrap();
        &mut self.seen[at]
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish { topic, lost } => self.edge.publish(TOPICS[*topic], *lost),
            // As an edge counts: all up to there is sent, or waits before it.
            Step::Heartbeat => {
                let head = position(self.edge.log.len());
                self.edge.send(json!({ "heartbeat": { "position": head } }));
            }
            Step::Read(n) => (0..*n).for_each(|_| self.read()),
            Step::Break => self.edge.open(),
            Step::Forget => self.edge.kept_from = self.edge.log.len(),
        }
    }

    fn read(&mut self) {
        let Some(text) = self.edge.sent.pop_front() else { return };
        let message: Value = serde_json::from_str(&text).unwrap();
        match self.session.receive(&text) {
            Heard::Welcome { commands, .. } => self.edge.subscribe(&commands),
            Heard::Event { event, .. } => {
                let at = offset(event.position.as_deref().unwrap());
                assert_eq!(self.edge.log[at - 1].0, event.topic.as_deref().unwrap());
                self.of(event.topic.as_deref().unwrap()).accounted.push(at);
            }
            Heard::Lost { lost, .. } => {
                let at = offset(lost.position.as_deref().unwrap());
                self.of(&lost.topics[0]).accounted.push(at);
            }
            Heard::Unrecovered { topic, from, position, .. } => {
                let range = offset(from.text()) + 1..=offset(&position.unwrap());
                let topic = String::from_utf8(topic).unwrap();
                let missed = range.filter(|at| self.edge.log[at - 1].0.starts_with(&topic));
                let missed: Vec<_> = missed.collect();
                self.of(&topic).accounted.extend(missed);
            }
            Heard::Unreadable(why) => panic!("{why}: {text}"),
            _ => {}
        }
        if let Some(subscribed) = message["reply"]["subscribed"].as_object() {
            let start = offset(subscribed["position"].as_str().unwrap());
            let seen = self.of(subscribed["topics"][0].as_str().unwrap());
            seen.first.get_or_insert(start + 1);
        }
    }

    fn read_all(&mut self) {
        while !self.edge.sent.is_empty() {
            self.read();
        }
    }

    /// Each message since the first subscription was printed or declared lost: in order, once.
    fn check(&self) -> Result<(), TestCaseError> {
        for (prefix, seen) in self.prefixes.iter().zip(&self.seen) {
            let expected = (1..=self.edge.log.len())
                .filter(|at| seen.first.is_some_and(|first| *at >= first))
                .filter(|at| self.edge.log[at - 1].0.starts_with(prefix));
            prop_assert_eq!(&seen.accounted, &expected.collect::<Vec<_>>(), "{}", prefix);
        }
        Ok(())
    }
}

fn session(prefixes: &[String], since: Option<String>) -> Session {
    let topics = prefixes.iter().map(|prefix| prefix.as_bytes().to_vec()).collect();
    Session::new(Wanted { topics, since, recover: true, ..Wanted::default() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn over_any_breaks_everything_is_seen_once_and_in_order(
        steps in steps(),
        prefixes in prop::sample::subsequence(vec!["a/", "b", "c"], 1..=3),
    ) {
        let mut pair = Pair::new(&prefixes, None);
        steps.iter().for_each(|step| pair.step(step));
        pair.read_all();
        pair.check()?;
    }

    /// The position of the last line is where another run goes on, wherever the first one ended.
    #[test]
    fn another_run_goes_on_where_one_ended(
        steps in steps(),
        more in steps(),
        prefixes in prop::sample::subsequence(vec!["a/", "b", "c"], 1..=3),
    ) {
        let mut pair = Pair::new(&prefixes, None);
        steps.iter().for_each(|step| pair.step(step));
        let stands = pair.session.subscriptions.iter().all(|own| own.state == State::CaughtUp);
        let resume = pair.session.resume().map(str::to_owned);
        prop_assert!(resume.is_some() || !stands);
        let Some(resume) = resume else { return Ok(()) };
        pair.session = session(&pair.prefixes, Some(resume));
        pair.edge.open();
        more.iter().for_each(|step| pair.step(step));
        pair.read_all();
        if !stands && prefixes.len() > 1 {
            // One position may be too early for some of several, never too late for any.
            for seen in &mut pair.seen {
                seen.accounted.sort_unstable();
                seen.accounted.dedup();
            }
        }
        pair.check()?;
    }

    #[test]
    fn nothing_makes_it_panic(texts in prop::collection::vec(any::<String>(), 0..20)) {
        let mut session = session(&[String::new()], None);
        for text in texts {
            let is_json = serde_json::from_str::<Value>(&text).is_ok();
            prop_assert!(is_json || matches!(session.receive(&text), Heard::Unreadable(_)));
        }
    }
}
