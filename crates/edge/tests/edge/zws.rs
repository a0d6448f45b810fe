//! ZWS 2.0 (ZeroMQ RFC 45): what a SUB or XSUB over a WebSocket says and hears.

use trestle_hub::ws::Opcode;

use crate::client::{Client, Said};
use crate::fixture::{Feed, TestEdge};
use crate::http::Request;

const READY: &[u8] = b"\x02\x05READY\x0bSocket-Type\0\0\0\x03SUB";

fn greeted(edge: &TestEdge, protocol: &str) -> Client {
    let (ours, theirs): (&[u8], &[u8]) = match protocol {
        "ZWS2.0" => (b"\0", b"\0"),
        _ => (READY, b"\x02\x05READY\x0bSocket-Type\0\0\0\x04XPUB"),
    };
    let mut client = Client::open(edge, &Request::websocket("/ws", protocol));
    assert_eq!(client.message(), Said::Binary(theirs.to_vec()));
    client.send(Opcode::Binary, ours);
    client
}

fn says(client: &mut Client, payloads: &[&[u8]]) {
    payloads.iter().for_each(|payload| client.send(Opcode::Binary, payload));
}

#[test]
fn subscriptions_are_a_set() {
    for protocol in ["ZWS2.0", "ZWS2.0/NULL"] {
        let feed = Feed::bound();
        let edge = TestEdge::on(&feed, "");
        let mut client = greeted(&edge, protocol);
        says(&mut client, &[b"\0\x01a", b"\0\x01b", b"\0\x01a", b"\0\0a", b"\0\0never"]);
        // The greeting is one, too.
        edge.until_metric("received_messages_total", |n| n == 6);
        feed.send(&["a", "no"]);
        feed.send(&[&b"b"[..], b"", b"\xff\0"]);
        for frame in [&b"\x01b"[..], b"\x01", b"\0\xff\0"] {
            assert_eq!(client.message(), Said::Binary(frame.to_vec()), "{protocol}");
        }
    }
}

#[test]
fn what_is_malformed_closes() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let too_long = [&b"\0\x01"[..], &[b'x'; 256]].concat();
    for bad in [&b""[..], b"\0", b"\0\x02a", b"\x01\x01a", b"\x02\x05OTHER", &too_long] {
        let mut client = greeted(&edge, "ZWS2.0");
        says(&mut client, &[bad]);
        assert!(matches!(client.message(), Said::Close(Some(4500), _)), "{bad:?}");
    }
    let mut publisher = Client::open(&edge, &Request::websocket("/ws", "ZWS2.0/NULL"));
    assert!(matches!(publisher.message(), Said::Binary(_)));
    says(&mut publisher, &[b"\x02\x05READY\x0bSocket-Type\0\0\0\x03PUB"]);
    assert!(matches!(publisher.message(), Said::Close(Some(4500), _)));
    let mut writer = greeted(&edge, "ZWS2.0");
    writer.send(Opcode::Text, b"{}");
    assert!(matches!(writer.message(), Said::Close(Some(1003), _)));
}

#[test]
fn one_subprotocol_is_echoed_and_nothing_compressed() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let request = Request::websocket("/ws", "ZWS2.0,ZWS2.0/NULL")
        .with("Sec-WebSocket-Extensions", "permessage-deflate");
    let answer = request.to(edge.address());
    assert!(answer.head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{}", answer.head);
    assert_eq!(answer.header("sec-websocket-protocol"), Some("ZWS2.0/NULL"));
    assert_eq!(answer.header("connection"), Some("upgrade"));
    assert_eq!(answer.header("sec-websocket-extensions"), None);
}

#[test]
fn a_client_that_answers_no_ping_stays() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--ping-interval 100ms --half-open-timeout 300ms");
    let mut client = greeted(&edge, "ZWS2.0");
    says(&mut client, &[b"\0\x01a"]);
    edge.until_metric("subscriptions", |n| n == 1);
    for _ in 0..8 {
        assert_eq!(client.next(), Said::Ping(Vec::new()));
    }
    feed.send(&["a", "still"]);
    loop {
        match client.next() {
            Said::Ping(_) => {}
            said => return assert_eq!(said, Said::Binary(b"\x01a".to_vec())),
        }
    }
}
