//! A connection that ends, and the next one.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fake::{Fake, position};
use crate::program::Sub;

#[test]
fn each_subscription_goes_on_where_it_stood() {
    let fake = Fake::start();
    let sub = Sub::start(&format!("{} a b", fake.url()));
    let mut edge = fake.accept();
    edge.serve(2, 10);
    edge.event("a", 11);
    edge.event("a", 12);
    sub.lines(2);
    drop(edge);
    let mut edge = fake.accept();
    let commands = edge.serve(2, 12);
    assert_eq!(commands[0]["subscribe"], json!({ "topics": ["a"], "since": position(12) }));
    assert_eq!(commands[1]["subscribe"], json!({ "topics": ["b"], "since": position(10) }));
    edge.event("b", 13);
    assert_eq!(sub.line(), r#"b {"n":13}"#);
    sub.says("the connection broke");
    sub.says("connected");
    sub.says("a: caught up, nothing had come meanwhile");
}

#[test]
fn what_was_missed_is_counted_and_without_recovery_not_asked_for() {
    for (flag, since) in [("", json!(position(10))), ("--no-recover", json!(null))] {
        let fake = Fake::start();
        let sub = Sub::start(&format!("{} a {flag}", fake.url()));
        fake.accept().serve(1, 10);
        let mut edge = fake.accept();
        edge.welcome();
        let command = edge.command();
        assert_eq!(command["subscribe"]["since"], since);
        if since.is_string() {
            let subscribed =
                json!({ "topics": ["a"], "position": position(10), "recorded": "all", "recovered": true });
            edge.say(json!({ "reply": { "id": 2, "subscribed": subscribed } }));
            edge.event("a", 11);
            edge.event("a", 12);
            edge.say(json!({ "caught_up": { "id": 2, "position": position(12), "replayed": 2 } }));
            assert_eq!(sub.lines(2), [r#"a {"n":11}"#, r#"a {"n":12}"#]);
            sub.says("a: caught up, the 2 messages above had come meanwhile");
        }
    }
}

#[test]
fn a_goodbye_says_when_to_come_back() {
    let fake = Fake::start();
    let sub = Sub::start(&fake.url());
    let mut edge = fake.accept();
    edge.serve(1, 10);
    let start = Instant::now();
    edge.say(json!({ "goodbye": { "reason": "restarting", "reconnect_after_ms": 2_500 } }));
    // Until it is closed all goes on.
    edge.event("a", 11);
    assert_eq!(sub.line(), r#"a {"n":11}"#);
    edge.close(1012, "service restart");
    sub.says("the edge will close the connection in 2.5 s: it restarts (restarting)");
    sub.says("closed by the server with 1012 service restart; reconnecting in 2.");
    let commands = fake.accept().serve(1, 11);
    assert_eq!(commands[0]["subscribe"]["since"], position(11));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(2_450), "{took:?}");
}

#[test]
fn a_connection_on_which_nothing_comes_is_given_up() {
    let fake = Fake::start();
    let sub = Sub::start(&fake.url());
    let mut edge = fake.accept();
    edge.welcome_with(json!({ "session": "s", "heartbeat_ms": 100 }));
    edge.grant(10);
    sub.says("the connection is dead: nothing came for too long; reconnecting");
    assert_eq!(fake.accept().serve(1, 10)[0]["subscribe"]["since"], position(10));
}

#[test]
fn a_subscription_that_is_refused_for_now_is_asked_for_again() {
    let fake = Fake::start();
    let sub = Sub::start(&format!("{} a b", fake.url()));
    let mut edge = fake.accept();
    edge.welcome();
    edge.grant(10);
    let id = edge.command()["id"].clone();
    edge.say(json!({ "reply": { "id": id, "error": { "code": "unavailable", "reason": "not now", "retry": true } } }));
    assert_eq!(edge.grant(10)["subscribe"]["topics"], json!(["b"]));
    edge.event("b", 11);
    assert_eq!(sub.line(), r#"b {"n":11}"#);
    sub.says("b: not subscribed (unavailable: not now); asking again in ");
}

#[test]
fn an_edge_that_is_full_at_first_says_when_to_come() {
    let fake = Fake::start();
    let sub = Sub::start(&fake.url());
    let start = Instant::now();
    fake.answer("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: text/plain\r\n\r\ntoo many clients\n");
    fake.accept().serve(1, 10);
    assert!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
    sub.says("refused with HTTP 503: too many clients; reconnecting in ");
    sub.says("connected");
}

#[test]
fn wait_keeps_trying_for_an_edge_that_is_not_there_yet() {
    let address = Fake::start().address();
    let sub = Sub::start(&format!("ws://{address} --wait"));
    sub.says(&format!("cannot connect to {address}: Connection refused; reconnecting in "));
    let fake = Fake::at(address);
    let mut edge = fake.accept();
    edge.serve(1, 10);
    edge.event("a", 11);
    assert_eq!(sub.line(), r#"a {"n":11}"#);
}
