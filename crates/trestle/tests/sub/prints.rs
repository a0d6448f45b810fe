//! What is printed, where it goes, and how it ends.

use serde_json::{Value, json};

use crate::fake::{Fake, position};
use crate::program::Sub;

#[test]
fn text_is_a_line_an_event_and_all_else_is_on_standard_error() {
    let fake = Fake::start();
    let sub = Sub::start(&format!("{} jobs/ hosts/ --count 3", fake.url()));
    let (mut edge, path) = fake.accept_at();
    assert_eq!(path, "/ws");
    let commands = edge.serve(2, 10);
    assert_eq!(commands[0], json!({ "id": 1, "subscribe": { "topics": ["jobs/"] } }));
    assert_eq!(commands[1], json!({ "id": 2, "subscribe": { "topics": ["hosts/"] } }));
    edge.event("jobs/1", 11);
    edge.say(json!({ "event": { "topic": "hosts/x", "time_ms": 1, "text": "two\nlines" } }));
    edge.say(json!({ "heartbeat": { "position": position(15) } }));
    edge.event("jobs/2", 16);
    let (code, out, err) = sub.end();
    assert_eq!(code, 0);
    assert_eq!(out, [r#"jobs/1 {"n":11}"#, r"hosts/x two\nlines", r#"jobs/2 {"n":16}"#]);
    assert_eq!(
        err,
        [
            format!("trestle: connected to {}/ws, subscribed to jobs/, hosts/", fake.url()),
            format!("trestle: 3 events; to go on from here: --since {}", position(16)),
        ]
    );
    assert_eq!(edge.closed(), None);
}

#[test]
fn json_is_exactly_the_event_on_one_line() {
    let fake = Fake::start();
    let sub = Sub::start(&format!("{} --json --print-lost", fake.url()));
    let mut edge = fake.accept();
    edge.serve(1, 10);
    let event = format!(
        r#"{{"topic":"a","position":"{}","time_ms":1,"data":{{ "b" : 1e400, "b":0.10 }}}}"#,
        position(11)
    );
    edge.say_text(format!(r#"{{"event":{event}}}"#));
    edge.say_text("{\"event\":{\"text\":\"x\",\"data\":[\r\n  1,\n\t2\n]}}".to_owned());
    let lost = json!({ "topics": [""], "from": position(11), "position": position(12), "cause": "link_hole", "at_most": 1 });
    edge.say(json!({ "lost": lost }));
    edge.event("b", 13);
    assert_eq!(sub.line(), event);
    assert_eq!(sub.line(), r#"{"text":"x","data":[1,2]}"#);
    assert_eq!(serde_json::from_str::<Value>(&sub.line()).unwrap(), json!({ "lost": lost }));
    assert_eq!(serde_json::from_str::<Value>(&sub.line()).unwrap(), crate::fake::event("b", 13)["event"]);
    sub.says("everything: LOST at most 1 messages: they did not arrive at the edge (link_hole)");
}

#[test]
fn losses_staleness_and_nonsense_are_said() {
    let fake = Fake::start();
    let sub = Sub::start(&format!("{} --since {}", fake.url(), position(5)));
    let mut edge = fake.accept();
    edge.welcome();
    let command = edge.command();
    assert_eq!(command["subscribe"]["since"], position(5));
    let subscribed = json!({ "topics": [""], "position": position(9), "recorded": "all", "recovered": false,
        "reason": "history_truncated" });
    edge.say(json!({ "reply": { "id": 1, "subscribed": subscribed } }));
    edge.say(json!({ "caught_up": { "id": 1, "position": position(9), "replayed": 0 } }));
    edge.say(json!({ "lost": { "topics": [""], "cause": "slow_consumer", "count": 17, "position": position(30) } }));
    edge.say(json!({ "heartbeat": { "stale": true } }));
    edge.say(json!({ "heartbeat": {} }));
    edge.say_text("hello".to_owned());
    edge.event("a", 31);
    assert_eq!(sub.line(), r#"a {"n":31}"#);
    for line in [
        "connected to",
        &format!(
            "everything: LOST what came since {}: part of it is no longer kept (history_truncated)",
            position(5)
        ),
        "everything: LOST 17 messages: they were not read as fast as they came (slow_consumer)",
        "stale: the edge hears nothing from upstream",
        "no longer stale",
        "a message that cannot be read",
    ] {
        let said = sub.said();
        assert!(said.starts_with(line), "{said}");
    }
}

#[test]
fn signals_end_it_cleanly() {
    for signal in ["INT", "TERM"] {
        let fake = Fake::start();
        let sub = Sub::start(&format!("{} a b", fake.url()));
        let mut edge = fake.accept();
        edge.serve(2, 10);
        edge.event("a", 11);
        assert_eq!(sub.line(), r#"a {"n":11}"#);
        sub.signal(signal);
        assert_eq!(edge.closed(), None);
        let (code, out, err) = sub.end();
        assert_eq!((code, out), (0, vec![]), "{err:?}");
        assert!(
            err.last().unwrap().ends_with(&format!("1 event; to go on from here: --since {}", position(11)))
        );
    }
}

/// As `trestle sub | head -1` does it, which would else wait for another event.
#[test]
fn an_output_that_nobody_reads_any_more_is_a_quiet_end() {
    for more in [0, 3] {
        let fake = Fake::start();
        let mut sub = Sub::start_unread(&fake.url());
        let mut edge = fake.accept();
        edge.serve(1, 10);
        edge.event("a", 11);
        sub.says("connected");
        sub.close_output();
        (0..more).for_each(|n| edge.event_if_there("a", 12 + n));
        let (code, _, err) = sub.end();
        assert_eq!(code, 0);
        assert_eq!(err.len(), 1, "{err:?}");
    }
}

/// A file is no pipe, and nobody leaves it.
#[test]
fn output_to_a_file_is_whole() {
    let fake = Fake::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = crate::program::command();
    command
        .args([&fake.url(), "--count", "1000"])
        .stdout(file.reopen().unwrap())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut edge = fake.accept();
    edge.serve(1, 10);
    (0..1000).for_each(|n| edge.event("a", 11 + n));
    assert!(child.wait().unwrap().success());
    let expected: String = (0..1000).map(|n| format!("a {{\"n\":{}}}\n", 11 + n)).collect();
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), expected);
}

/// A held terminal must not hold the process.
#[test]
fn a_signal_ends_it_while_nobody_reads() {
    let fake = Fake::start();
    let sub = Sub::start_unread(&fake.url());
    let mut edge = fake.accept();
    edge.serve(1, 10);
    // More than a pipe holds, so that the rest of it waits.
    let long = "x".repeat(1 << 20);
    edge.say(json!({ "event": { "topic": "a", "time_ms": 1, "text": long } }));
    sub.says("connected");
    sub.signal("TERM");
    assert_eq!(sub.end().0, 0);
}
