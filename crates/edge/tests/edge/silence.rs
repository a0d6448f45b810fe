//! Heartbeats, pings, and clients that are gone without a word.

use serde_json::Value;
use trestle_hub::ws::Opcode;

use crate::client::{Client, Said};
use crate::fixture::{Feed, TestEdge, until};

const SHORT: &str = "--ping-interval 500ms --half-open-timeout 1500ms";

/// The next heartbeat's position.
fn heartbeat(client: &mut Client) -> Value {
    client.json_message()["heartbeat"]["position"].take()
}

#[test]
fn a_heartbeat_has_the_position_of_what_was_sent() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, SHORT);
    let mut client = Client::json(&edge, "/ws?topic=jobs/");
    assert_eq!(heartbeat(&mut client), client.welcome["position"]);
    feed.send(&["jobs/1", "x"]);
    let sent = client.event()["position"].take();
    assert_eq!(heartbeat(&mut client), sent);
    // What a client did not subscribe to moves it on, too.
    feed.send(&["quiet/1", "x"]);
    let moved = until("a heartbeat that moved", || Some(heartbeat(&mut client)).filter(|at| *at != sent));
    assert!(moved.as_str().is_some());
}

#[test]
fn a_silent_client_is_pinged_and_stays_while_it_answers() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, SHORT);
    let mut client = Client::raw(&edge, "/");
    // Longer than a silent client would live.
    for _ in 0..5 {
        let Said::Ping(payload) = client.next() else { panic!("no ping") };
        client.send(Opcode::Pong, &payload);
    }
    feed.send(&["a", "still here"]);
    assert_eq!(client.next(), Said::text("still here"));
}

#[test]
fn a_client_that_answers_nothing_is_gone() {
    let edge = TestEdge::start(&format!("--source tcp://127.0.0.1:1 {SHORT}"));
    let (mut raw, mut json) = (Client::raw(&edge, "/"), Client::json(&edge, "/ws?topic=a"));
    edge.until_connections(2);
    let pings = |client: &mut Client| {
        let said = std::iter::from_fn(|| Some(client.next()).filter(|said| *said != Said::End));
        said.filter(|said| matches!(said, Said::Ping(_))).count()
    };
    assert!(pings(&mut raw) > 0 && pings(&mut json) > 0, "each was asked before");
    edge.until_connections(0);
    edge.until_metric("sessions_closed_total{code=\"1006\"}", |n| n == 2);
    edge.until_metric("subscriptions", |n| n == 0);
}
