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
    #![proptest_config(ProptestConfig::with_cases(1_000))]

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
        // Only a run whose subscriptions all stand knows one position for all of them.
        let Some(resume) = resume.filter(|_| stands || prefixes.len() == 1) else { return Ok(()) };
        pair.session = session(&pair.prefixes, Some(resume));
        pair.edge.open();
        more.iter().for_each(|step| pair.step(step));
        pair.read_all();
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

/// One session, fed with texts.
struct Fed(Session);

impl Fed {
    fn new(wanted: Wanted) -> Self {
        Self(Session::new(wanted))
    }

    /// A connection opens; its commands.
    fn welcome(&mut self) -> Vec<Value> {
        match self.0.receive(r#"{"welcome":{"session":"s","heartbeat_ms":25000}}"#) {
            Heard::Welcome { commands, .. } => {
                commands.iter().map(|command| serde_json::from_str(command).unwrap()).collect()
            }
            heard => panic!("{heard:?}"),
        }
    }

    fn hear(&mut self, message: Value) {
        let text = message.to_string();
        let heard = self.0.receive(&text);
        assert!(!matches!(heard, Heard::Unreadable(_)), "{heard:?}");
    }

    fn since(&mut self) -> Vec<Option<usize>> {
        self.welcome().iter().map(|command| command["subscribe"]["since"].as_str().map(offset)).collect()
    }
}

fn wanted(topics: &[&str]) -> Wanted {
    let topics = topics.iter().map(|topic| topic.as_bytes().to_vec()).collect();
    Wanted { topics, recover: true, ..Wanted::default() }
}

fn subscribed(id: u64, at: usize) -> Value {
    json!({ "reply": { "id": id, "subscribed": { "topics": ["x"], "position": position(at), "recorded": "all" } } })
}

fn caught_up(id: u64, at: usize) -> Value {
    json!({ "caught_up": { "id": id, "position": position(at), "replayed": 0 } })
}

fn event(topic: &str, at: usize) -> Value {
    json!({ "event": { "topic": topic, "position": position(at), "time_ms": 1, "text": "x" } })
}

#[test]
fn commands_say_what_is_wanted() {
    let wanted = Wanted {
        topics: vec![b"jobs/".to_vec(), b"\xff".to_vec()],
        exact: true,
        snapshot: true,
        since: Some(position(3)),
        policy: Some("conflate"),
        max_hz: Some(2.5),
        recover: true,
    };
    let since = position(3);
    assert_eq!(
        Fed::new(wanted).welcome(),
        [
            json!({ "id": 1, "subscribe": { "topics": ["jobs/"], "exact": true, "snapshot": true, "since": since,
                "policy": "conflate", "max_hz": 2.5 } }),
            json!({ "id": 2, "subscribe": { "topics_base64": ["/w=="], "exact": true, "snapshot": true, "since": since,
                "policy": "conflate", "max_hz": 2.5 } }),
        ]
    );
    assert_eq!(
        Fed::new(Wanted { topics: vec![vec![]], ..Wanted::default() }).welcome(),
        [json!({ "id": 1, "subscribe": { "topics": [""] } })]
    );
}

#[test]
fn what_another_prefix_covers_is_not_asked_for_twice() {
    let topics = |wanted| {
        Session::new(wanted)
            .topics()
            .map(|topic| String::from_utf8(topic.to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(topics(wanted(&["jobs/42", "jobs/", "a", "jobs/", "ab"])), ["jobs/", "a"]);
    assert_eq!(topics(wanted(&["x", ""])), [""]);
    let exact = Wanted { exact: true, ..wanted(&["jobs/42", "jobs/", "jobs/"]) };
    assert_eq!(topics(exact), ["jobs/42", "jobs/"]);
}

#[test]
fn heartbeats_and_losses_advance_only_what_is_caught_up() {
    let mut fed = Fed::new(wanted(&["a", "b"]));
    fed.welcome();
    fed.hear(subscribed(1, 10));
    fed.hear(subscribed(2, 10));
    fed.hear(caught_up(1, 10));
    fed.hear(json!({ "heartbeat": { "position": position(20) } }));
    fed.hear(
        json!({ "lost": { "topics": ["a"], "position": position(30), "cause": "link_hole", "at_most": 2 } }),
    );
    assert_eq!(fed.since(), [Some(30), Some(10)]);
}

/// With `max_hz` the edge may still hold something older of another topic.
#[test]
fn an_event_advances_only_its_own_subscription() {
    let mut fed = Fed::new(Wanted { max_hz: Some(1.0), ..wanted(&["a", "b"]) });
    fed.welcome();
    for id in [1, 2] {
        fed.hear(subscribed(id, 10));
        fed.hear(caught_up(id, 10));
    }
    fed.hear(event("b", 12));
    // Held back by the other one.
    fed.hear(json!({ "heartbeat": { "position": position(10) } }));
    assert_eq!(fed.0.resume(), Some(&*position(10)));
    assert_eq!(fed.since(), [Some(10), Some(12)]);
}

#[test]
fn a_message_without_a_topic_is_its_own() {
    for (body, topic) in [
        (json!({ "text": "abc" }), &b"ab"[..]),
        (json!({ "base64": "/wA=" }), b"\xff"),
        (json!({ "topic_base64": "/wA=", "text": "x" }), b"\xff\0"),
    ] {
        let mut fed = Fed::new(Wanted { topics: vec![topic.to_vec()], recover: true, ..Wanted::default() });
        fed.welcome();
        let mut event = body;
        event["position"] = position(5).into();
        fed.hear(json!({ "event": event }));
        assert_eq!(fed.since(), [Some(5)], "{event}");
    }
    // Of JSON the very bytes are the topic.
    let mut fed = Fed::new(wanted(&["{ \"a\""]));
    fed.welcome();
    let text = format!(r#"{{"event":{{"position":"{}","data":{{ "a" : 1}}}}}}"#, position(5));
    assert!(matches!(fed.0.receive(&text), Heard::Event { .. }));
    assert_eq!(fed.since(), [Some(5)]);
}

/// Cut in the middle, a snapshot would otherwise never be whole: with `since` the edge sends none.
#[test]
fn a_snapshot_that_breaks_off_is_asked_for_again() {
    let mut fed = Fed::new(Wanted { snapshot: true, ..wanted(&["a"]) });
    fed.welcome();
    fed.hear(subscribed(1, 10));
    fed.hear(json!({ "event": { "topic": "a/1", "position": position(3), "snapshot": true, "text": "x" } }));
    assert_eq!(fed.0.resume(), None);
    assert_eq!(fed.since(), [None]);
    fed.hear(subscribed(2, 11));
    fed.hear(caught_up(2, 11));
    assert_eq!(fed.since(), [Some(11)]);
}

#[test]
fn without_recovery_only_the_first_connection_resumes() {
    let mut fed = Fed::new(Wanted { recover: false, since: Some(position(3)), ..wanted(&["a"]) });
    assert_eq!(fed.since(), [Some(3)]);
    assert_eq!(fed.since(), [Some(3)], "it never stood");
    fed.hear(subscribed(2, 3));
    assert_eq!(fed.since(), [None]);
}

#[test]
fn a_refusal_names_its_topic_and_is_asked_again() {
    let mut fed = Fed::new(wanted(&["a", "b"]));
    fed.welcome();
    let refusal = json!({ "reply": { "id": 2, "error": { "code": "unavailable", "reason": "not now", "retry": true } } });
    let text = refusal.to_string();
    assert!(matches!(fed.0.receive(&text), Heard::Refused { topic, retry: true, .. } if topic == b"b"));
    let command: Value = serde_json::from_str(&fed.0.ask(b"b").unwrap()).unwrap();
    assert_eq!((&command["id"], &command["subscribe"]["topics"]), (&json!(3), &json!(["b"])));
    assert_eq!(fed.0.ask(b"c"), None);
}

#[test]
fn stale_is_told_when_it_changes() {
    let mut fed = Fed::new(wanted(&["a"]));
    let beat = |stale: bool| json!({ "heartbeat": { "stale": stale } }).to_string();
    for (stale, told) in [(false, None), (true, Some(true)), (true, None), (false, Some(false))] {
        match (fed.0.receive(&beat(stale)), told) {
            (Heard::Nothing, None) => {}
            (Heard::Stale(heard), Some(told)) => assert_eq!(heard, told),
            other => panic!("{other:?}"),
        }
    }
    let text = r#"{"welcome":{"session":"s","heartbeat_ms":1,"stale":true}}"#;
    assert!(matches!(fed.0.receive(text), Heard::Welcome { stale: Some(true), .. }));
}

#[test]
fn what_a_later_edge_says_more_is_passed_over() {
    let mut fed = Fed::new(wanted(&["a"]));
    for text in [r#"{"presence":{"n":1}}"#, r#"{"reply":{"id":9,"published":{}}}"#, "{}"] {
        assert!(matches!(fed.0.receive(text), Heard::Nothing), "{text}");
    }
}
