//! Between the first byte of a connection and its first message.

use std::io::{Read as _, Write as _};
use std::time::Instant;

use serde_json::json;
use trestle_hub::ws::{Opcode, client_frame};

use crate::client::{Client, JSON, RAW, Said};
use crate::fixture::{DEADLINE, Feed, TestEdge};
use crate::http::{Answer, Request, connect, read_more};

/// The promise to whoever publishes once a browser's `onopen` has fired.
#[test]
fn what_is_published_after_the_101_arrives() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    for n in 0..200 {
        let (protocol, target) = if n % 2 == 0 { (RAW, "/") } else { (JSON, "/ws?topic=t/") };
        let mut client = Client::open(&edge, &Request::websocket(target, protocol));
        feed.send(&["t/1".to_owned(), n.to_string()]);
        if protocol == RAW {
            assert_eq!(client.next(), Said::Text(n.to_string()));
        } else {
            assert_eq!(client.welcomed().event()["text"], n.to_string());
        }
    }
}

#[test]
fn what_a_client_sends_with_its_handshake_is_not_lost() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut bytes = Request::websocket("/ws", JSON).bytes();
    for id in 1..=100 {
        let command = json!({"id": id, "subscribe": {"topics": [format!("{id}/")]}}).to_string();
        bytes.extend(client_frame(Opcode::Text, true, [9, 8, 7, 6], command.as_bytes()));
    }
    // And half of one more.
    let last = client_frame(Opcode::Text, true, [1, 1, 1, 1], br#"{"id":101,"subscribe":{"topics":["x"]}}"#);
    bytes.extend(&last[..7]);
    let mut client = Client::upgrade(connect(edge.address()), &bytes).welcomed();
    client.send_bytes(&last[7..]);
    for id in 1..=101 {
        assert_eq!(client.named("reply")["id"], id);
        assert_eq!(client.named("caught_up")["id"], id);
    }
    feed.send(&["100/", "here"]);
    assert_eq!(client.event()["text"], "here");
}

#[test]
fn a_handshake_and_a_close_at_once_are_both_answered() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1");
    let mut bytes = Request::websocket("/ws", RAW).bytes();
    bytes.extend(client_frame(Opcode::Close, true, [1, 2, 3, 4], b"\x03\xe8"));
    let mut client = Client::upgrade(connect(edge.address()), &bytes);
    assert_eq!(client.next(), Said::Close(Some(1000), String::new()));
    assert_eq!(client.next(), Said::End);
    edge.until_connections(0);
}

/// `recorded` in the reply to a subscription is right from the first connection on.
#[test]
fn the_first_client_is_told_what_is_recorded() {
    for _ in 0..5 {
        let edge = TestEdge::start("--source tcp://127.0.0.1:1");
        edge.wait_ready();
        assert_eq!(Client::json(&edge, "/ws").subscribe(&["a"])["recorded"], "all");
    }
}

#[test]
fn whoever_does_not_finish_a_request_is_cut() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1 --handshake-timeout 300ms");
    let request = Request::websocket("/ws", RAW).bytes();
    for sent in [&b""[..], b"GET", &request[..request.len() - 2]] {
        let mut stream = connect(edge.address());
        stream.write_all(sent).unwrap();
        let start = Instant::now();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("the end, before the deadline");
        assert!(start.elapsed() < DEADLINE / 4, "{:?}", start.elapsed());
        assert!(!rest.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&rest));
    }
    // Whoever did is left alone, however long it stays.
    let mut client = Client::raw(&edge, "/");
    let mut slow = connect(edge.address());
    assert!(!read_more(&mut slow, &mut Vec::new()), "another is cut meanwhile");
    client.send(Opcode::Ping, b"still here");
    assert_eq!(client.next(), Said::Pong(b"still here".to_vec()));
}

#[test]
fn a_head_over_the_limit_is_refused() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1");
    let huge = Request::websocket("/ws", RAW).with("X-Huge", &"x".repeat(20 << 10));
    let mut stream = connect(edge.address());
    stream.write_all(&huge.bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 431);
    let many = (0..200).fold(Request::get("/"), |request, n| request.with(&format!("X-{n}"), "x"));
    assert_eq!(many.to(edge.address()).status, 431);
    assert_eq!(Request::get("/").to(edge.address()).status, 200, "others are served");
}
