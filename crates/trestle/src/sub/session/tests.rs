//! What is asked for and what each message does.

use serde_json::{Value, json};
use trestle_messages::Position;

use super::*;

fn position(offset: usize) -> String {
    Position { epoch: 7, offset: offset as u64 }.to_string()
}

fn offset(position: &str) -> usize {
    position.parse::<Position>().unwrap().offset as usize
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
