//! How many may be connected, in all and from an address, and how long and large a request may be.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::client::{Client, JSON};
use crate::fixture::{TestEdge, until};
use crate::http::{Answer, Request, connect, read_more};

/// An edge whose publisher never says anything.
fn edge(flags: &str) -> TestEdge {
    TestEdge::start(&format!("--source tcp://127.0.0.1:1 {flags}"))
}

fn refused(edge: &TestEdge, cause: &str) -> u64 {
    edge.metric(&format!("handshake_refusals_total{{cause=\"{cause}\"}}"))
}

/// Waits until a WebSocket opens, for those who went have gone only when the edge has seen it.
fn opens(edge: &TestEdge, request: &Request) -> Client {
    until("a place", || {
        let mut stream = connect(edge.address());
        stream.write_all(&request.bytes()).unwrap();
        let answer = Answer::read(&mut stream);
        (answer.status == 101).then(|| Client::of(stream, answer))
    })
}

#[test]
fn so_many_connections_are_open_and_one_more_is_told_that_there_is_no_room() {
    let edge = edge("--connections-max 3");
    let websocket = Request::websocket("/ws", JSON);
    let mut clients: Vec<_> = (0..2).map(|_| Client::json(&edge, "/ws")).collect();
    // One that has said nothing yet counts as well. It finds no place as long as one that has gone is not noticed.
    let (silent, answer) = until("the silent one's place to be taken", || {
        let silent = connect(edge.address());
        Some((silent, websocket.to(edge.address()))).filter(|(_, answer)| answer.status != 101)
    });
    assert_eq!((answer.status, answer.header("connection")), (503, Some("close")));
    assert!(answer.text().contains("as many connections"), "{}", answer.text());
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(Request::get("/").to(edge.address()).status, 503, "a page is a connection too");
    assert!(refused(&edge, "connections") >= 2);
    drop(silent);
    clients.push(opens(&edge, &websocket));
    clients.pop().unwrap().hang_up();
    clients.push(opens(&edge, &websocket));
    assert_eq!(clients.len(), 3);
}

#[test]
fn an_address_has_so_many_connections_whatever_it_claims_to_be() {
    let edge = edge("--address-connections-max 2");
    let claiming = |address: &str| Request::websocket("/ws", JSON).with("X-Forwarded-For", address);
    let first = Client::open(&edge, &claiming("203.0.113.1"));
    let (stream, answer) = until("the address to be full", || {
        let stream = connect(edge.address());
        Some((stream, claiming("203.0.113.2").to(edge.address()))).filter(|(_, answer)| answer.status != 101)
    });
    assert_eq!(answer.status, 429);
    assert!(answer.text().contains("from this address"), "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert!(refused(&edge, "address_connections") >= 1);
    drop(stream);
    let second = opens(&edge, &claiming("203.0.113.3"));
    drop((first, second));
}

#[test]
fn behind_a_trusted_proxy_each_client_has_its_own_places() {
    let edge = edge("--address-connections-max 2 --trusted-proxy 127.0.0.0/8");
    let from = |address: &str| Request::websocket("/ws", JSON).with("X-Forwarded-For", address);
    let stream = |address: &str| Request::get("/events?topic=a").with("X-Forwarded-For", address);
    let clients: Vec<_> = (1..=8).map(|n| Client::open(&edge, &from(&format!("203.0.113.{n}")))).collect();
    // A /64 of IPv6 is one client, and so is an address with another claimed to its left.
    let _one = Client::open(&edge, &from("2001:db8::1"));
    let _two = Client::open(&edge, &from("[2001:db8::2]:4711"));
    assert_eq!(from("2001:db8::3").to(edge.address()).status, 429);
    assert_eq!(from("203.0.113.77, 2001:db8::4").to(edge.address()).status, 429);
    assert_eq!(stream("2001:db8::3").to(edge.address()).status, 429);
    assert_eq!(refused(&edge, "address_connections"), 3);
    // An event stream takes a place, and gives it back.
    let mut events = connect(edge.address());
    events.write_all(&stream("203.0.113.1").bytes()).unwrap();
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(read_more(&mut events, &mut bytes));
    }
    assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(from("203.0.113.1").to(edge.address()).status, 429);
    drop(events);
    let again = opens(&edge, &from("203.0.113.1"));
    drop((clients, again));
}

#[test]
fn a_request_that_does_not_come_is_not_waited_for() {
    let edge = edge("--handshake-timeout 200ms");
    let mut silent = connect(edge.address());
    let mut slow = connect(edge.address());
    slow.write_all(b"GET /ws HTTP/1.1\r\nHost: ").unwrap();
    for stream in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        ended(stream, &mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
    }
    edge.until_metric("handshake_refusals_total{cause=\"handshake_timeout\"}", |n| n == 2);
    // Who asked for something and asks for nothing more is no attack.
    let mut kept = connect(edge.address());
    kept.write_all(&Request::get("/client.js").bytes()).unwrap();
    assert_eq!(Answer::read(&mut kept).status, 200);
    ended(&mut kept, &mut Vec::new());
    let mut client = Client::json(&edge, "/ws");
    client.subscribe(&["a"]);
    assert_eq!(refused(&edge, "handshake_timeout"), 2);
}

fn ended(stream: &mut TcpStream, rest: &mut Vec<u8>) {
    let end = stream.read_to_end(rest);
    assert!(end.is_ok() || end.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_head_has_so_many_bytes_and_headers() {
    let edge = edge("--head-bytes-max 8KiB");
    let with = |bytes: usize| Request::websocket("/ws", JSON).with("X-Padding", &"x".repeat(bytes));
    let overhead = with(0).bytes().len();
    assert_eq!(with((8 << 10) - overhead - 1).to(edge.address()).status, 101);
    assert_eq!(with(8 << 10).to(edge.address()).status, 431);
    let many =
        (0..200).fold(Request::websocket("/ws", JSON), |request, n| request.with(&format!("X-{n}"), ""));
    assert_eq!(many.to(edge.address()).status, 431);
    edge.until_metric("handshake_refusals_total{cause=\"head\"}", |n| n == 2);
}
