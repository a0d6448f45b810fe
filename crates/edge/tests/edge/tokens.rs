//! Who may come in with which token, and what it may do then.

use std::io::Write as _;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use trestle_auth::{Claims, SigningKey};

use crate::client::{Client, JSON, Said};
use crate::fixture::{Feed, Forwarder, TestEdge, until};
use crate::http::{Answer, Request};

const SECRET: &[u8] = b"a secret for tests, of more than 32 bytes";

fn key() -> SigningKey {
    SigningKey::read(SECRET).unwrap()
}

/// A token of ann, for so many seconds.
fn token(subscribe: &[&str], publish: &[&str], ttl: u64) -> String {
    key().sign(&Claims::new("ann", subscribe.iter().copied(), publish.iter().copied(), ttl)).unwrap()
}

/// The file of the secret, and the flags of an edge that asks for tokens.
fn key_file(more: &str) -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(SECRET).unwrap();
    let flags = format!("--auth jwt --auth-key-file {} {more}", file.path().display());
    (file, flags)
}

/// An edge that asks for tokens, and a feed for it.
fn edge(flags: &str) -> (TestEdge, Feed, NamedTempFile) {
    let (file, flags) = key_file(flags);
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, &flags);
    (edge, feed, file)
}

fn refused(edge: &TestEdge, cause: &str) -> u64 {
    edge.metric(&format!("auth_failures_total{{cause=\"{cause}\"}}"))
}

fn bearer(request: Request, token: &str) -> Request {
    request.with("Authorization", &format!("Bearer {token}"))
}

fn unauthorized(answer: &Answer) -> String {
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"trestle\""));
    answer.text().to_owned()
}

#[test]
fn by_each_carrier_a_token_lets_in_and_decides() {
    let (edge, feed, _file) = edge("--auth-cookie session --auth-query");
    let token = token(&["jobs/", "users/{sub}/"], &[], 60);
    let websocket = |target: &str| Request::websocket(target, JSON);
    let offered = format!("{JSON}, bearer.{token}");
    for request in [
        bearer(websocket("/ws"), &token),
        Request::websocket("/ws", &offered),
        websocket("/ws").with("Cookie", &format!("a=b; session={token}")),
        websocket(&format!("/ws?access_token={token}")),
    ] {
        let mut client = Client::open(&edge, &request).welcomed();
        assert!(client.welcome["expires_at"].as_u64().is_some(), "{}", client.welcome);
        for topic in ["jobs/", "jobs/7", "users/ann/"] {
            let reply = client.command(&json!({"id": 1, "subscribe": {"topics": [topic]}}));
            assert_eq!(reply["subscribed"]["topics"], json!([topic]), "{reply}");
            client.named("caught_up");
        }
        for topic in ["", "job", "users/", "users/eve/"] {
            let reply = client.command(&json!({"id": 2, "subscribe": {"topics": [topic], "snapshot": true}}));
            assert_eq!(reply["error"]["code"], "forbidden", "{reply}");
            assert!(reply["error"]["reason"].as_str().unwrap().contains("`jobs/`"), "{reply}");
        }
        feed.send(&["secret/1", "not for ann"]);
        feed.send(&["jobs/1", "for ann"]);
        assert_eq!(client.event()["text"], "for ann");
    }
}

#[test]
fn who_has_none_or_a_wrong_one_is_told_so_at_the_door() {
    let (edge, _feed, _file) = edge("");
    let good = token(&["jobs/"], &[], 60);
    let expired = {
        let claims = Claims { exp: 1_000, ..Claims::new("ann", ["jobs/"], [""; 0], 60) };
        key().sign(&claims).unwrap()
    };
    let forged = format!("{}x", &good[..good.len() - 1]);
    for target in ["/ws", "/events?topic=jobs/", "/ws?topic=jobs/"] {
        let request = |token: &str| match target {
            "/events?topic=jobs/" => bearer(Request::get(target), token),
            _ => bearer(Request::websocket(target, JSON), token),
        };
        let (before, forgeries) = (refused(&edge, "expired"), refused(&edge, "bad_signature"));
        assert!(unauthorized(&request(&expired).to(edge.address())).contains("expired"));
        let text = unauthorized(&request(&forged).to(edge.address()));
        assert!(!text.contains(&forged[..20]), "the token itself is not said: {text}");
        assert_eq!(refused(&edge, "expired"), before + 1);
        assert!(refused(&edge, "bad_signature") + refused(&edge, "malformed") > forgeries);
    }
    // Who cannot show one later needs it now; whoever can, and wants nothing yet, has a while.
    for request in [
        Request::websocket("/", "rust-websocket"),
        Request::websocket("/ws", "ZWS2.0/NULL"),
        Request::websocket("/ws?topic=jobs/", JSON),
        Request::get("/events?topic=jobs/"),
        // Not a carrier here: an unknown parameter.
        Request::websocket("/ws", "rust-websocket").with("Cookie", &format!("session={good}")),
    ] {
        assert!(unauthorized(&request.to(edge.address())).contains("a token is needed"));
    }
    assert_eq!(refused(&edge, "missing"), 5);
    let query = Request::get(&format!("/events?topic=jobs/&access_token={good}")).to(edge.address());
    assert_eq!(query.status, 400, "it is not switched on: {}", query.text());
    assert!(!query.text().contains(&good[..20]));
    assert_eq!(Request::get("/").to(edge.address()).status, 200, "the page is anybody's");

    let mut late = Client::json(&edge, "/ws");
    let denied = late.command(&json!({"id": 1, "subscribe": {"topics": ["jobs/"]}}));
    assert_eq!(denied["error"]["code"], "unauthorized");
    let taken = late.command(&json!({"id": 2, "authenticate": {"token": good}}));
    assert!(taken["authenticated"]["expires_at"].as_u64().is_some(), "{taken}");
    let stands = late.command(&json!({"id": 3, "subscribe": {"topics": ["jobs/"]}}));
    assert!(stands["subscribed"].is_object(), "{stands}");
}

#[test]
fn topics_in_a_url_and_event_streams_are_decided_alike() {
    let (edge, feed, _file) = edge("");
    let token = token(&["jobs/"], &[], 60);
    let mut client =
        Client::open(&edge, &bearer(Request::websocket("/ws?topic=jobs/1", "rust-websocket"), &token));
    feed.send(&["jobs/1", "in the URL"]);
    assert_eq!(client.next(), Said::Text("in the URL".into()));
    let mut denied =
        Client::open(&edge, &bearer(Request::websocket("/ws?topic=secret/", "rust-websocket"), &token));
    assert!(matches!(denied.next(), Said::Close(Some(4503), _)));
    // Without a topic it would get everything.
    let mut everything = Client::open(&edge, &bearer(Request::websocket("/", "rust-websocket"), &token));
    assert!(matches!(everything.next(), Said::Close(Some(4503), _)));
    for target in [
        "/events",
        "/events?topic=secret/",
        "/events?topic=jobs/1&topic=secret/",
        "/events?topic=&snapshot=true",
    ] {
        let answer = bearer(Request::get(target), &token).to(edge.address());
        assert_eq!(answer.status, 403, "{target}: {}", answer.text());
        assert!(answer.text().contains("`jobs/`"), "{}", answer.text());
    }
    drop(feed);
}

#[test]
fn a_token_says_what_may_be_published() {
    let forwarder = Forwarder::start("");
    let (_file, flags) = key_file("");
    let edge = TestEdge::behind(&forwarder, &flags);
    let token = token(&["chat/"], &["chat/"], 60);
    let post = |topic: &str| Request::post(&format!("/publish?topic={topic}"), b"hi");
    let answer = bearer(post("chat/1"), &token).to(edge.address());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = bearer(post("jobs/1"), &token).to(edge.address());
    assert_eq!(answer.status, 403, "{}", answer.text());
    let text = unauthorized(&post("chat/1").to(edge.address()));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["error"]["code"], "unauthorized", "{text}");
    // It was counted as "internal" once.
    edge.until_metric("publications_total{outcome=\"unauthorized\"}", |n| n == 1);
    assert_eq!(edge.metric("publications_total{outcome=\"internal\"}"), 0);

    let mut client = Client::open(&edge, &bearer(Request::websocket("/ws", JSON), &token)).welcomed();
    let published = client.command(&json!({"id": 1, "publish": {"topic": "chat/1", "text": "hi"}}));
    assert!(published["published"]["position"].is_string(), "{published}");
    let denied = client.command(&json!({"id": 2, "publish": {"topic": "jobs/1", "text": "hi"}}));
    assert_eq!(denied["error"]["code"], "forbidden", "{denied}");
}

#[test]
fn a_token_that_ends_is_warned_of_and_ends_the_connection_and_another_one_keeps_it() {
    let (edge, feed, _file) = edge("--auth-leeway 1s");
    let short = token(&["jobs/"], &[], 3);
    let open = || Client::open(&edge, &bearer(Request::websocket("/ws", JSON), &short)).welcomed();
    let (mut ends, mut stays) = (open(), open());
    for client in [&mut ends, &mut stays] {
        client.command(&json!({"id": 1, "subscribe": {"topics": ["jobs/"]}}));
        client.named("caught_up");
    }
    let long = token(&["jobs/"], &[], 60);
    let taken = stays.command(&json!({"id": 2, "authenticate": {"token": long}}));
    assert!(taken["authenticated"].is_object(), "{taken}");
    assert_eq!(ends.named("goodbye")["reason"], "token_expired");
    loop {
        match ends.next() {
            Said::Close(code, _) => break assert_eq!(code, Some(4401)),
            Said::End => panic!("it ended without a word"),
            _ => {}
        }
    }
    feed.send(&["jobs/1", "after"]);
    assert_eq!(stays.event()["text"], "after");
}

#[test]
fn a_subject_has_no_more_connections_than_its_token_says() {
    let (edge, _feed, _file) = edge("");
    let token = {
        let mut claims = Claims::new("ann", ["jobs/"], [""; 0], 60);
        claims.trestle.max_connections = Some(2);
        key().sign(&claims).unwrap()
    };
    let request = bearer(Request::websocket("/ws", JSON), &token);
    let first = Client::open(&edge, &request).welcomed();
    let mut second = Client::json(&edge, "/ws");
    let taken = second.command(&json!({"id": 1, "authenticate": {"token": token}}));
    assert!(taken["authenticated"].is_object(), "{taken}");
    let third = request.to(edge.address());
    assert_eq!(third.status, 429, "{}", third.text());
    let stream = bearer(Request::get("/events?topic=jobs/"), &token).to(edge.address());
    assert_eq!(stream.status, 429, "{}", stream.text());
    let mut late = Client::json(&edge, "/ws");
    late.say(&json!({"id": 1, "authenticate": {"token": token}}));
    loop {
        match late.next() {
            Said::Close(code, _) => break assert_eq!(code, Some(4029)),
            Said::Text(text) => assert!(!text.contains("authenticated"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(edge.metric("handshake_refusals_total{cause=\"subject_connections\"}"), 3);
    first.hang_up();
    until("a place", || {
        let mut stream = crate::http::connect(edge.address());
        stream.write_all(&request.bytes()).unwrap();
        (Answer::read(&mut stream).status == 101).then_some(())
    });
}

#[test]
fn flags_that_make_no_sense_are_named() {
    let start = |flags: &str| {
        let line = format!(
            "trestle-edge --listen 127.0.0.1:0 --control 127.0.0.1:0 --metrics 127.0.0.1:0 --source tcp://127.0.0.1:1 {flags}"
        );
        let config = trestle_process::config::parse(line.split_whitespace(), &Default::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(trestle_edge::start(config)).unwrap_err().to_string()
    };
    for (flags, named) in [
        ("--auth jwt", "--auth-key-file"),
        ("--auth jwt --auth-key short", "--auth-key"),
        ("--auth jwt --auth-key-file /nowhere", "/nowhere"),
        ("--auth-issuer me", "--auth-issuer needs --auth jwt"),
        ("--auth-key 0123456789012345678901234567890123456789", "--auth-key needs --auth jwt"),
        (
            "--auth jwt --auth-key 0123456789012345678901234567890123456789 --allow-publish x --publish-to tcp://127.0.0.1:1",
            "--allow-publish",
        ),
    ] {
        let error = start(flags);
        assert!(error.contains(named), "{flags}: {error}");
        assert!(!error.contains("0123456789"), "{error}");
    }
}
