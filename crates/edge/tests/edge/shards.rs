//! Several shards on one port.

use std::thread;

use crate::client::{Client, Said};
use crate::fixture::{Feed, TestEdge};
use crate::http::Request;

#[test]
fn clients_of_every_shard_get_everything_in_order() {
    const CLIENTS: usize = 40;
    const MESSAGES: usize = 500;
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--shards 2");
    let mut json: Vec<_> = (0..CLIENTS / 2).map(|_| Client::json(&edge, "/ws?topic=a/")).collect();
    let mut raw: Vec<_> = (0..CLIENTS / 2).map(|_| Client::raw(&edge, "/?topic=a/&topic=a/1")).collect();
    // A session's name ends in its shard's number and its own.
    let shard =
        |client: &Client| client.welcome["session"].as_str().unwrap().rsplit('-').nth(1).unwrap().to_owned();
    let shards: std::collections::BTreeSet<_> = json.iter().map(shard).collect();
    assert_eq!(shards.len(), 2, "the kernel spreads 20 connections over both, but for one time in 500,000");
    edge.until_connections(CLIENTS as u64);
    edge.until_metric("subscriptions", |n| n == (CLIENTS / 2 * 3) as u64);

    for n in 0..MESSAGES {
        feed.send(&["a/1".to_owned(), n.to_string()]);
        feed.send(&["b/1".to_owned(), n.to_string()]);
    }
    let expected: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            json.iter_mut().for_each(|client| {
                let events = (0..MESSAGES).map(|_| client.event());
                let got: Vec<_> = events.map(|event| event["text"].as_str().unwrap().to_owned()).collect();
                assert_eq!(got, expected);
            })
        });
        scope.spawn(|| raw.iter_mut().for_each(|client| assert_eq!(client.texts(MESSAGES), expected)));
    });
    edge.until_metric("deliveries_total", |n| n == (CLIENTS * MESSAGES) as u64);
    assert_eq!(edge.metric("upstream_messages_total"), 2 * MESSAGES as u64);
    drop((json, raw));
    edge.until_connections(0);
    edge.until_metric("subscriptions", |n| n == 0);
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--shards 2");
    for n in 0..200 {
        match n % 4 {
            // Hung up without a word, closed in order, never finished, never a WebSocket.
            0 => Client::json(&edge, "/ws?topic=a").hang_up(),
            1 => {
                let mut client = Client::raw(&edge, "/?topic=quiet");
                client.send(trestle_hub::ws::Opcode::Close, b"");
                assert_eq!(client.next(), Said::Close(None, String::new()));
            }
            2 => drop(crate::http::connect(edge.address())),
            _ => assert_eq!(Request::get("/ws").to(edge.address()).status, 426),
        }
        feed.send(&["a", "traffic meanwhile"]);
    }
    edge.until_connections(0);
    edge.until_metric("subscriptions", |n| n == 0);
    edge.until_metric("outbox_bytes", |n| n == 0);
    for code in [1000, 1006] {
        edge.until_metric(&format!("sessions_closed_total{{code=\"{code}\"}}"), |n| n == 50);
    }
}
