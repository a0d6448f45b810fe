//! `ZWS2.0/PLAIN`: a token before anything else lets a client in, or does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trestle_recorder::Log;

use super::client::masked;
use super::tokens::Reader;
use crate::hub::{Hub, SessionId};
use crate::limits::Limits;
use crate::protocol::{Protocol, Role};
use crate::ws::Opcode;
use crate::{ErrorCode, Grant, Unverified, Verifier};

const WELCOME: &[u8] = b"\x02\x07WELCOME";
const ERROR: &[u8] = b"\x02\x05ERROR\x03400";

struct Client {
    hub: Hub,
    id: SessionId,
    start: Instant,
}

impl Client {
    /// Of an edge that asks for tokens.
    fn open(role: Role) -> Self {
        let start = Instant::now();
        Self::asked_by(Some(Reader::new(start)), role, Grant::nothing(), start)
    }

    fn asked_by(verifier: Option<Arc<dyn Verifier>>, role: Role, grant: Grant, start: Instant) -> Self {
        let mut hub = Hub::new("test".to_owned(), Limits::default(), Arc::new(Log::new(0)), start);
        if let Some(verifier) = verifier {
            hub.set_verifier(verifier);
        }
        let id = match role {
            Role::Subscriber => hub.open(Protocol::ZwsPlain, None, Arc::new(grant), []),
            Role::Publisher => hub.open_publisher(Protocol::ZwsPlain, Arc::new(grant)),
        };
        Self { hub, id, start }
    }

    fn say(&mut self, payload: &[u8]) {
        self.hub.receive(self.id, &mut masked(Opcode::Binary, payload));
    }

    fn hello(&mut self, password: &str) {
        self.say(&[b"\x02\x05HELLO\x03ann", &[password.len() as u8][..], password.as_bytes()].concat());
    }

    fn initiate(&mut self, socket: &[u8]) {
        self.say(&[b"\x02\x08INITIATE\x0bSocket-Type\0\0\0", &[socket.len() as u8][..], socket].concat());
    }

    /// The payload of each WebSocket frame.
    fn heard(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        let _ = self.hub.visit(self.id, |slices| {
            slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        let mut payloads = Vec::new();
        let mut rest = &bytes[..];
        while let [_, len, behind @ ..] = rest {
            let (payload, behind) = behind.split_at(usize::from(*len));
            payloads.push(payload.to_vec());
            rest = behind;
        }
        payloads
    }

    /// The code that it was closed with, and what was counted.
    fn refused(&self) -> (Option<u16>, Vec<ErrorCode>) {
        let code = self.hub.sessions[self.id as usize].close_code.map(|code| code.value());
        let counts = self.hub.counts().refused;
        (code, ErrorCode::ALL.into_iter().filter(|code| counts[*code as usize] > 0).collect())
    }
}

#[test]
fn a_subscriber_is_let_in_by_its_token_and_has_what_that_grants() {
    let mut client = Client::open(Role::Subscriber);
    assert_eq!(client.heard(), Vec::<Vec<u8>>::new(), "the client begins");
    client.hello("ann;jobs/;-");
    assert_eq!(client.heard(), [WELCOME]);
    client.initiate(b"SUB");
    assert_eq!(client.heard(), [b"\x02\x05READY\x0bSocket-Type\0\0\0\x04XPUB"]);
    assert_eq!(client.hub.take_admitted(), [client.id]);
    client.say(b"\0\x01jobs/1");
    assert_eq!((client.hub.n_subscriptions(), client.refused()), (1, (None, vec![])));
    client.say(b"\0\x01secret/");
    assert_eq!(client.refused(), (Some(4503), vec![ErrorCode::Forbidden]));
}

#[test]
fn a_publisher_hears_what_its_token_lets_it_publish() {
    let mut client = Client::open(Role::Publisher);
    client.hello("ann;-;chat/,x");
    client.initiate(b"PUB");
    let ready = &b"\x02\x05READY\x0bSocket-Type\0\0\0\x04XSUB"[..];
    assert_eq!(client.heard(), [WELCOME, ready, b"\0\x01chat/", b"\0\x01x"]);
    client.say(b"\x01chat/1");
    client.say(b"\0hi");
    assert_eq!(client.hub.take_publications().len(), 1);
}

#[test]
fn whose_token_does_not_count_hears_that_and_is_closed() {
    for (role, password, code, counted) in [
        (Role::Subscriber, "wrong", 4501, ErrorCode::Unauthorized),
        (Role::Subscriber, "", 4501, ErrorCode::Unauthorized),
        (Role::Subscriber, "old", 4401, ErrorCode::TokenExpired),
        (Role::Publisher, "ann;jobs/;-", 4503, ErrorCode::Forbidden),
    ] {
        let mut client = Client::open(role);
        client.hello(password);
        assert_eq!(client.refused(), (Some(code), vec![counted]), "{password}");
        assert_eq!(client.heard()[0], ERROR, "{password}");
        // What it says behind that is nothing.
        client.initiate(b"SUB");
        client.say(b"\0\x01jobs/");
        assert_eq!((client.heard().len(), client.hub.n_subscriptions()), (0, 0));
    }
}

/// Nobody knows whether its token counts.
#[derive(Debug)]
struct Unknowing;

impl Verifier for Unknowing {
    fn verify(&self, _token: &str) -> Result<Grant, Unverified> {
        Err(Unverified { code: ErrorCode::Unavailable, reason: "no keys yet".to_owned() })
    }
}

#[test]
fn who_may_be_let_in_later_is_only_closed() {
    let verifier = Some(Arc::new(Unknowing) as _);
    let mut client = Client::asked_by(verifier, Role::Subscriber, Grant::nothing(), Instant::now());
    client.hello("ann;jobs/;-");
    assert_eq!(client.refused(), (Some(1013), vec![ErrorCode::Unavailable]));
    assert_eq!(client.heard().len(), 1, "the Close frame alone: after ERROR libzmq would not come again");
}

#[test]
fn each_word_has_its_time() {
    let initiate = b"\x02\x08INITIATE\x0bSocket-Type\0\0\0\x03SUB";
    for words in [
        &[&initiate[..]][..],
        &[b"\0\x01jobs/"],
        &[b"\x02\x05HELLO"],
        &[b"\0"],
        &[b"\x02\x05HELLO\0\x0bann;jobs/;-", b"\0\x01jobs/"],
        &[b"\x02\x05HELLO\0\x0bann;jobs/;-", b"\x02\x05HELLO\0\x0bann;jobs/;-"],
        &[b"\x02\x05HELLO\0\x0bann;jobs/;-", b"\x02\x08INITIATE\x0bSocket-Type\0\0\0\x03PUB"],
    ] {
        let mut client = Client::open(Role::Subscriber);
        words.iter().for_each(|word| client.say(word));
        assert_eq!(client.refused().0, Some(4500), "{words:?}");
        assert_eq!(client.hub.n_subscriptions(), 0);
    }
}

#[test]
fn who_never_says_hello_is_closed() {
    let mut client = Client::open(Role::Subscriber);
    client.hub.tick(client.start + Duration::from_secs(9));
    assert_eq!(client.refused().0, None);
    client.hub.tick(client.start + Duration::from_secs(11));
    assert_eq!(client.refused(), (Some(4501), vec![ErrorCode::Unauthorized]));
}

#[test]
fn where_no_token_is_needed_whoever_says_hello_is_welcome() {
    let start = Instant::now();
    let reader = Reader::new(start);
    let shown = Grant::clone(&reader.grant("ann;jobs/;-"));
    // Nobody is asked here; or it came with the handshake.
    for (verifier, grant) in [(None, Grant::everything()), (Some(reader as _), shown)] {
        let mut client = Client::asked_by(verifier, Role::Subscriber, grant, start);
        client.hello("whatever");
        client.initiate(b"XSUB");
        client.say(b"\0\x01jobs/");
        assert_eq!((client.refused(), client.hub.n_subscriptions()), ((None, vec![]), 1));
        assert_eq!(client.heard().len(), 2);
    }
}
