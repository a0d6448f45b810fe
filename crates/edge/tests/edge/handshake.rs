//! What opens a WebSocket and what does not.

use crate::client::{Client, JSON, RAW, Said};
use crate::fixture::{Feed, TestEdge};
use crate::http::{ACCEPT, Request};

/// An edge whose publisher never says anything.
fn edge() -> TestEdge {
    TestEdge::start("--source tcp://127.0.0.1:1")
}

#[test]
fn a_handshake_is_answered_to_the_letter() {
    let edge = edge();
    for (target, offer, chosen) in [
        ("/ws", JSON, JSON),
        ("/", RAW, RAW),
        ("/ws", "mqtt, rust-websocket,trestle.v1.json", RAW),
        ("/", "trestle.v2.json, trestle.v1.json", JSON),
    ] {
        let answer = Request::websocket(target, offer).to(edge.address());
        assert!(answer.head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{}", answer.head);
        let headers = ["upgrade", "connection", "sec-websocket-accept", "sec-websocket-protocol"];
        let values = headers.map(|name| answer.header(name).unwrap());
        assert_eq!(values, ["websocket", "upgrade", ACCEPT, chosen], "{}", answer.head);
        // RFC 9110 §8.6: neither belongs to a 101.
        assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, None));
        assert_eq!(answer.head.matches("sec-websocket-protocol").count(), 1);
    }
}

#[test]
fn upgrade_and_connection_are_lists_in_any_case() {
    let edge = edge();
    for (name, value) in [
        ("Connection", "keep-alive, Upgrade"),
        ("Connection", "UPGRADE"),
        ("Upgrade", "WebSocket"),
        ("Upgrade", "h2c, websocket"),
    ] {
        let request = Request::websocket("/ws", RAW).replacing(name, value);
        assert_eq!(request.to(edge.address()).status, 101, "{name}: {value}");
    }
    let twice = Request::websocket("/ws", "mqtt").with("Sec-WebSocket-Protocol", JSON);
    assert_eq!(twice.to(edge.address()).header("sec-websocket-protocol"), Some(JSON));
}

#[test]
fn without_a_subprotocol_that_is_spoken_here_the_answer_names_them() {
    let edge = edge();
    let none = Request::websocket("/ws", "").without("Sec-WebSocket-Protocol");
    for request in [none, Request::websocket("/", "mqtt"), Request::websocket("/ws", "Rust-WebSocket")] {
        let answer = request.to(edge.address());
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(RAW) && answer.text().contains(JSON), "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    edge.until_metric("handshake_refusals_total{cause=\"subprotocol\"}", |n| n == 3);
}

#[test]
fn another_version_is_told_ours() {
    let edge = edge();
    for version in ["8", "13, 8", "14"] {
        let request = Request::websocket("/ws", JSON).replacing("Sec-WebSocket-Version", version);
        let answer = request.to(edge.address());
        assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")), "{version}");
        assert_eq!(
            (answer.header("upgrade"), answer.header("connection")),
            (Some("websocket"), Some("upgrade"))
        );
    }
    edge.until_metric("handshake_refusals_total{cause=\"version\"}", |n| n == 3);
}

#[test]
fn what_is_no_upgrade_is_told_to_upgrade() {
    let edge = edge();
    let plain = Request::get("/ws");
    let other = Request::websocket("/ws", JSON).replacing("Upgrade", "h2c");
    let unconnected = Request::websocket("/", JSON).replacing("Connection", "keep-alive");
    for request in [plain, other, unconnected] {
        assert_eq!(request.to(edge.address()).status, 426, "{request:?}");
    }
}

#[test]
fn a_key_is_sixteen_bytes() {
    let edge = edge();
    let missing = Request::websocket("/ws", JSON).without("Sec-WebSocket-Key");
    let short = Request::websocket("/ws", JSON).replacing("Sec-WebSocket-Key", "c2hvcnQ=");
    let two = Request::websocket("/ws", JSON).with("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==");
    for request in [missing, short, two] {
        let answer = request.to(edge.address());
        assert_eq!(answer.status, 400, "{request:?}");
        assert!(answer.text().contains("Sec-WebSocket-Key"), "{}", answer.text());
    }
}

/// RFC 6455 §9.1.
#[test]
fn a_malformed_list_of_extensions_fails_the_handshake() {
    let edge = edge();
    for list in
        ["permessage-deflate;", "permessage-deflate, a b", "permessage-deflate; server_max_window_bits=\"9"]
    {
        let answer =
            Request::websocket("/ws", JSON).with("Sec-WebSocket-Extensions", list).to(edge.address());
        assert_eq!(answer.status, 400, "{list}");
        assert!(answer.text().contains("Sec-WebSocket-Extensions"), "{}", answer.text());
    }
    let unknown =
        Request::websocket("/ws", JSON).with("Sec-WebSocket-Extensions", "bbf-usp-protocol; eid=\"me\"");
    let answer = unknown.to(edge.address());
    assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
}

#[test]
fn http_1_0_cannot_upgrade() {
    let edge = edge();
    let answer = Request::websocket("/ws", JSON).by_http_1_0().to(edge.address());
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("HTTP/1.1"), "{}", answer.text());
}

#[test]
fn only_get_opens_a_websocket() {
    let edge = edge();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let mut request = Request::websocket("/ws", JSON);
        assert_eq!(request.to(edge.address()).status, 101);
        request = Request::new(method, "/ws").with("Upgrade", "websocket").with("Connection", "upgrade");
        let answer = request.to(edge.address());
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[test]
fn topics_in_the_url_that_nobody_may_name_are_refused() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1 --subscriptions-max 3");
    let long = "x".repeat(256);
    for (query, named) in [
        (format!("topic={long}"), "255"),
        ("topic=%00trestle".to_owned(), "reserved"),
        ("topics=jobs/".to_owned(), "`topics`"),
        ("topic=a&topic=b&topic=c&topic=d".to_owned(), "3"),
    ] {
        for protocol in [RAW, JSON] {
            let answer = Request::websocket(&format!("/ws?{query}"), protocol).to(edge.address());
            assert_eq!(answer.status, 400, "{query}");
            assert!(answer.text().contains(named), "{query}: {}", answer.text());
        }
    }
    let most = format!("/ws?topic={}&topic=b&&topic=c", &long[1..]);
    assert_eq!(Request::websocket(&most, RAW).to(edge.address()).status, 101);
    edge.until_metric("handshake_refusals_total{cause=\"topic\"}", |n| n == 8);
}

#[test]
fn a_connection_that_asked_for_the_page_may_upgrade() {
    use std::io::Write as _;
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut stream = crate::http::connect(edge.address());
    stream.write_all(&Request::get("/client.js").bytes()).unwrap();
    assert_eq!(crate::http::Answer::read(&mut stream).status, 200);
    let mut client = Client::upgrade(stream, &Request::websocket("/", RAW).bytes());
    feed.send(&["a", "b"]);
    assert_eq!(client.next(), Said::text("b"));
}

/// A proxy that frames requests by their length would take the body's bytes for the client's frames, or the other way
/// round.
#[test]
fn a_handshake_has_no_body() {
    let edge = edge();
    for (name, value) in [("Content-Length", "6"), ("Transfer-Encoding", "chunked")] {
        let answer = Request::websocket("/ws", RAW).with(name, value).to(edge.address());
        assert_eq!(answer.status, 400, "{name}");
    }
    let empty = Request::websocket("/ws", RAW).with("Content-Length", "0");
    assert_eq!(empty.to(edge.address()).status, 101);
}

/// RFC 9112 §3.2. A later check of the browser's origin compares with this header.
#[test]
fn a_handshake_names_one_host() {
    let edge = edge();
    let without = Request::websocket("/ws", RAW).without("Host");
    let twice = Request::websocket("/ws", RAW).with("Host", "other.example");
    for request in [without, twice] {
        let answer = request.to(edge.address());
        assert_eq!(answer.status, 400, "{request:?}");
        assert!(answer.text().contains("Host"), "{}", answer.text());
    }
}
