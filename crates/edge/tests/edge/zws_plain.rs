//! `ZWS2.0/PLAIN` (ZeroMQ RFC 45 and 24): a socket that shows its token as a password, at an edge that asks for one.

use std::io::Write as _;

use tempfile::NamedTempFile;
use trestle_auth::{Claims, SigningKey};
use trestle_hub::ws::Opcode;

use crate::client::{Client, Said};
use crate::fixture::{Feed, Forwarder, TestEdge};
use crate::http::Request;

const PROTOCOL: &str = "ZWS2.0/PLAIN";
const SECRET: &[u8] = b"a secret for tests, of more than 32 bytes";
const WELCOME: &[u8] = b"\x02\x07WELCOME";

fn secret() -> (String, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(SECRET).unwrap();
    (format!("--auth jwt --auth-key-file {}", file.path().display()), file)
}

fn token(claims: &Claims) -> String {
    SigningKey::read(SECRET).unwrap().sign(claims).unwrap()
}

fn hello(name: &str, password: &str) -> Vec<u8> {
    let [name_bytes, password_bytes] = [name, password].map(|word| u8::try_from(word.len()).unwrap());
    [b"\x02\x05HELLO", &[name_bytes][..], name.as_bytes(), &[password_bytes], password.as_bytes()].concat()
}

fn initiate(socket: &str) -> Vec<u8> {
    [b"\x02\x08INITIATE\x0bSocket-Type\0\0\0", &[socket.len() as u8][..], socket.as_bytes()].concat()
}

fn open(edge: &TestEdge, target: &str, hello: &[u8]) -> Client {
    let mut client = Client::open(edge, &Request::websocket(target, PROTOCOL));
    client.send(Opcode::Binary, hello);
    client
}

/// A socket that is let in.
fn greeted(edge: &TestEdge, target: &str, hello: &[u8], socket: &str) -> Client {
    let mut client = open(edge, target, hello);
    assert_eq!(client.message(), Said::Binary(WELCOME.to_vec()));
    client.send(Opcode::Binary, &initiate(socket));
    assert!(matches!(client.message(), Said::Binary(ready) if ready.starts_with(b"\x02\x05READY")));
    client
}

#[test]
fn a_token_as_the_password_lets_a_subscriber_in() {
    let (flags, _file) = secret();
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, &flags);
    let short = token(&Claims::new("ann", ["jobs/"], [""; 0], 60));
    let long = token(&Claims::new(&"a".repeat(200), ["jobs/"], [""; 0], 60));
    assert!(short.len() < 255 && long.len() > 255, "{} {}", short.len(), long.len());
    for hello in [hello("", &short), hello("ann", &short), hello(&long[..255], &long[255..])] {
        let mut client = greeted(&edge, "/ws", &hello, "SUB");
        client.send(Opcode::Binary, b"\0\x01jobs/");
        edge.until_metric("subscriptions", |n| n == 1);
        feed.send(&["secret/1", "no"]);
        feed.send(&["jobs/1", "yes"]);
        for frame in [&b"\x01jobs/1"[..], b"\0yes"] {
            assert_eq!(client.message(), Said::Binary(frame.to_vec()));
        }
        client.send(Opcode::Binary, b"\0\x01secret/");
        assert!(matches!(client.message(), Said::Close(Some(4503), _)));
        edge.until_metric("subscriptions", |n| n == 0);
    }
}

#[test]
fn a_wrong_one_is_an_error_and_counted() {
    let (flags, _file) = secret();
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, &flags);
    let claims = Claims::new("ann", ["jobs/"], [""; 0], 60);
    let forged =
        SigningKey::read(b"another secret, of more than 32 bytes, too").unwrap().sign(&claims).unwrap();
    let expired = token(&Claims { exp: 1_000, ..Claims::new("ann", ["jobs/"], [""; 0], 60) });
    for (password, cause, code) in
        [("", "malformed", 4501), (&forged, "bad_signature", 4501), (&expired, "expired", 4401)]
    {
        let counted = format!("auth_failures_total{{cause=\"{cause}\"}}");
        assert_eq!(edge.metric(&counted), 0);
        let mut client = open(&edge, "/ws", &hello("ann", password));
        assert_eq!(client.message(), Said::Binary(b"\x02\x05ERROR\x03400".to_vec()), "{cause}");
        assert!(matches!(client.message(), Said::Close(Some(said), _) if said == code), "{cause}");
        assert_eq!(edge.metric(&counted), 1);
    }
    // Messages before the end of a handshake would break it.
    let answer = Request::websocket("/ws?topic=jobs/", PROTOCOL).to(edge.address());
    assert_eq!(answer.status, 400, "{}", answer.text());
    // The token of a handshake is asked for where there is no other way to show one.
    assert_eq!(Request::websocket("/ws", "ZWS2.0/NULL").to(edge.address()).status, 401);
}

#[test]
fn a_publisher_is_let_in_where_its_token_lets_it_publish() {
    let (flags, _file) = secret();
    let forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, &flags);
    let none = token(&Claims::new("ann", ["jobs/"], [""; 0], 60));
    let mut denied = open(&edge, "/pub", &hello("", &none));
    assert_eq!(denied.message(), Said::Binary(b"\x02\x05ERROR\x03400".to_vec()));
    assert!(matches!(denied.message(), Said::Close(Some(4503), _)));

    let some = token(&Claims::new("ann", [""; 0], ["chat/"], 60));
    let subscriber = forwarder.subscriber(b"chat/");
    let mut client = greeted(&edge, "/pub", &hello("ann", &some), "PUB");
    assert_eq!(client.message(), Said::Binary(b"\0\x01chat/".to_vec()));
    crate::fixture::until("a forwarder", || {
        client.send(Opcode::Binary, b"\x01chat/1");
        client.send(Opcode::Binary, b"\0\0\xff");
        (edge.metric("publications_total{outcome=\"published\"}") > 0).then_some(())
    });
    assert_eq!(subscriber.next(), [&b"chat/1"[..], b"\0\xff"]);
}

#[test]
fn an_edge_that_publishes_nothing_says_so_before_any_token() {
    let (flags, _file) = secret();
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, &flags);
    let answer = Request::websocket("/pub", PROTOCOL).to(edge.address());
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(answer.text().contains("nothing is published from here"), "{}", answer.text());
}

#[test]
fn a_subject_has_no_more_sockets_than_its_token_says() {
    let (flags, _file) = secret();
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, &flags);
    let mut claims = Claims::new("ann", ["jobs/"], [""; 0], 60);
    claims.trestle.max_connections = Some(1);
    let hello = hello("ann", &token(&claims));
    let _first = greeted(&edge, "/ws", &hello, "SUB");
    let mut second = open(&edge, "/ws", &hello);
    assert!(matches!(second.message(), Said::Close(Some(4029), _)));
}
