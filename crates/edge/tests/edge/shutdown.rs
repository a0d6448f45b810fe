//! How an edge leaves.

use std::thread;
use std::time::{Duration, Instant};

use trestle_hub::ws::Opcode;

use crate::client::{Client, Said};
use crate::fixture::{Feed, TestEdge};
use crate::http::connect;

#[test]
fn everybody_is_told_that_the_edge_restarts() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut json: Vec<_> = (0..8).map(|_| Client::json(&edge, "/ws?topic=a")).collect();
    let mut raw = Client::raw(&edge, "/");
    let _silent = connect(edge.address());
    feed.send(&["a", "the last message"]);
    let clients = thread::spawn(move || {
        let restart = Said::Close(Some(1012), "service restart".to_owned());
        let mut after = Vec::new();
        assert_eq!(raw.next(), Said::text("the last message"));
        assert_eq!(raw.next(), restart);
        raw.send(Opcode::Close, b"\x03\xf4");
        assert_eq!(raw.next(), Said::End);
        for client in &mut json {
            assert_eq!(client.event()["text"], "the last message");
            let goodbye = client.named("goodbye");
            assert_eq!(goodbye["reason"], "restarting");
            after.push(goodbye["reconnect_after_ms"].as_u64().unwrap());
            assert_eq!(client.next(), restart);
            client.send(Opcode::Close, b"\x03\xf4");
            assert_eq!(client.next(), Said::End);
        }
        after
    });
    edge.until_metric("deliveries_total", |n| n == 9);
    edge.shutdown();
    let mut after = clients.join().unwrap();
    after.sort_unstable();
    after.dedup();
    assert!(after.len() >= 4, "they come back spread: {after:?}");
    // Nine at a hundred a second, and a tick.
    assert!(after.iter().all(|ms| *ms <= 90 + 250), "{after:?}");
}

#[test]
fn one_that_does_not_answer_holds_nothing_up() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1");
    let mut client = Client::raw(&edge, "/");
    let address = edge.address();
    let start = Instant::now();
    edge.shutdown();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(client.next(), Said::Close(Some(1012), "service restart".to_owned()));
    assert_eq!(client.next(), Said::End);
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}
