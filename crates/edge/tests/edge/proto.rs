//! `trestle.v1.proto`: what a client that has only the definition says and hears.

use bytes::Bytes;
use prost::Message as _;
use trestle_hub::ws::Opcode;
use trestle_messages::v1::client_message::{Command, Policy, Publish, Subscribe, Unsubscribe, publish};
use trestle_messages::v1::server_message::event::Body;
use trestle_messages::v1::server_message::reply::Outcome;
use trestle_messages::v1::server_message::{
    Error, ErrorCode, Event, Goodbye, GoodbyeReason, Message, Recorded, Reply, Unrecovered, Welcome,
};
use trestle_messages::v1::{ClientMessage, ServerMessage};

use crate::client::{Client, Said};
use crate::fixture::{Feed, TestEdge};
use crate::http::Request;

const PROTO: &str = "trestle.v1.proto";

struct Typed {
    client: Client,
    welcome: Welcome,
}

impl Typed {
    fn open(edge: &TestEdge, target: &str) -> Self {
        Self::by(edge, &Request::websocket(target, PROTO))
    }

    fn by(edge: &TestEdge, request: &Request) -> Self {
        let mut typed = Self { client: Client::open(edge, request), welcome: Welcome::default() };
        let Message::Welcome(welcome) = typed.next() else { panic!("a welcome comes first") };
        typed.welcome = welcome;
        typed
    }

    /// The next message but heartbeats. Each body begins where a larger number may.
    fn next(&mut self) -> Message {
        loop {
            let Said::Binary(payload) = self.client.message() else { panic!("all messages are binary") };
            let payload = Bytes::from(payload);
            let message = ServerMessage::decode(payload.clone()).unwrap().message.expect("it is known here");
            if let Message::Event(event) = &message {
                let single = event.body.iter().filter_map(|body| match body {
                    Body::Bytes(bytes) => Some(bytes),
                    _ => None,
                });
                // Decoded bytes are a part of the message's; an empty one is nowhere.
                for body in single.chain(&event.parts).filter(|body| !body.is_empty()) {
                    assert_eq!((body.as_ptr() as usize - payload.as_ptr() as usize) % 8, 0);
                }
            }
            if !matches!(message, Message::Heartbeat(_)) {
                return message;
            }
        }
    }

    fn event(&mut self) -> Event {
        match self.next() {
            Message::Event(event) => event,
            other => panic!("no event: {other:?}"),
        }
    }

    fn reply(&mut self) -> Reply {
        match self.next() {
            Message::Reply(reply) => reply,
            other => panic!("no reply: {other:?}"),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.client.send(Opcode::Binary, bytes);
    }

    fn say(&mut self, id: u64, command: Command) -> Outcome {
        self.send(&ClientMessage { id: Some(id), command: Some(command) }.encode_to_vec());
        let reply = self.reply();
        assert_eq!(reply.id, Some(id));
        reply.outcome.expect("a reply has one")
    }

    /// The reply's position, whether it recovered and why not, and what was replayed.
    fn subscribe(
        &mut self,
        subscribe: Subscribe,
    ) -> (Option<String>, Option<bool>, Option<Unrecovered>, Vec<Event>) {
        let topics = subscribe.topics.clone();
        let Outcome::Subscribed(subscribed) = self.say(1, Command::Subscribe(subscribe)) else {
            panic!("it stands")
        };
        assert_eq!((&subscribed.topics, subscribed.recorded()), (&topics, Recorded::All));
        let mut events = Vec::new();
        loop {
            match self.next() {
                Message::Event(event) => events.push(event),
                Message::CaughtUp(caught_up) => {
                    assert_eq!(caught_up.id, 1);
                    let reason = subscribed.reason.is_some().then(|| subscribed.reason());
                    return (subscribed.position, subscribed.recovered, reason, events);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Sends what is refused.
    fn refused(&mut self, bytes: &[u8]) -> (Option<u64>, ErrorCode, String) {
        self.send(bytes);
        let reply = self.reply();
        let Some(Outcome::Error(error)) = reply.outcome else { panic!("{bytes:?} is refused: {reply:?}") };
        assert!(!error.reason.is_empty());
        (reply.id, error.code(), error.reason)
    }
}

fn topics(topics: &[&str]) -> Vec<Bytes> {
    topics.iter().map(|topic| Bytes::copy_from_slice(topic.as_bytes())).collect()
}

fn to(names: &[&str]) -> Subscribe {
    Subscribe { topics: topics(names), ..Subscribe::default() }
}

#[test]
fn bodies_come_byte_for_byte_single_and_multipart() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut client = Typed::open(&edge, "/ws?topic=");
    assert_eq!(edge.metric("connections{protocol=\"trestle.v1.proto\"}"), 1);
    assert!(client.welcome.position.is_some() && client.welcome.heartbeat_ms == 25_000);
    let all: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..1 << 20).map(|n: u32| (n * 7) as u8).collect();
    for body in [&b""[..], b"hello", b" {\"a\": 1.0}", &all, &large] {
        feed.send(&[&b"t/\xff"[..], body]);
        let event = client.event();
        assert_eq!(event.topic.as_deref(), Some(&b"t/\xff"[..]));
        assert_eq!(event.body, Some(Body::Bytes(Bytes::copy_from_slice(body))));
        assert!(event.position.is_some() && event.time_ms > 1_700_000_000_000 && event.parts.is_empty());
        feed.send(&[&b"t"[..], &all[..3], b"", body, &all]);
        let event = client.event();
        assert_eq!(
            (event.parts, event.body),
            ([&all[..3], b"", body, &all].map(Bytes::copy_from_slice).into(), None)
        );
    }
    feed.send(&["alone"]);
    let event = client.event();
    assert_eq!((event.topic, event.body), (None, Some(Body::Bytes("alone".into()))));
}

#[test]
fn a_client_subscribes_and_unsubscribes() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut client = Typed::open(&edge, "/ws");
    let (position, recovered, ..) = client.subscribe(Subscribe {
        policy: Policy::Conflate.into(),
        max_hz: Some(1_000.0),
        ..to(&["jobs/", "chat/7"])
    });
    assert_eq!((position, recovered), (client.welcome.position.clone(), None));
    feed.send(&["chat/8", "no"]);
    feed.send(&["jobs/42", "yes"]);
    assert_eq!(client.event().topic.as_deref(), Some(&b"jobs/42"[..]));
    let gone = client.say(2, Command::Unsubscribe(Unsubscribe { topics: topics(&["jobs/"]), exact: false }));
    assert!(matches!(gone, Outcome::Unsubscribed(gone) if gone.topics == topics(&["jobs/"])));
    feed.send(&["jobs/43", "no"]);
    feed.send(&["chat/7", "yes"]);
    assert_eq!(client.event().topic.as_deref(), Some(&b"chat/7"[..]));
}

#[test]
fn who_comes_back_gets_what_it_missed_or_hears_why_not() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut client = Typed::open(&edge, "/ws");
    client.subscribe(to(&["jobs/"]));
    feed.send(&["jobs/1", "first"]);
    let first = client.event();
    client.client.hang_up();
    for n in 2..5 {
        feed.send(&[format!("jobs/{n}"), "missed".to_owned()]);
    }
    let mut probe = Client::json(&edge, "/ws?topic=");
    feed.send(&["other", "is it there?"]);
    while probe.event()["topic"] != "other" {}

    let mut again = Typed::open(&edge, "/ws");
    let since = Subscribe { since: first.position.clone(), ..to(&["jobs/"]) };
    let (position, recovered, reason, missed) = again.subscribe(since);
    assert_eq!((position, recovered, reason), (first.position, Some(true), None));
    let names: Vec<_> = missed.iter().map(|event| event.topic.clone().unwrap()).collect();
    assert_eq!(names, topics(&["jobs/2", "jobs/3", "jobs/4"]));
    assert!(missed.iter().all(|event| event.snapshot.is_none()));

    // A position of nowhere, and last values instead.
    let mut stranger = Typed::open(&edge, "/ws");
    let elsewhere = trestle_messages::Position { epoch: 1, offset: 1 }.to_string();
    let wanted = Subscribe { since: Some(elsewhere), snapshot: true, ..to(&["jobs/"]) };
    let (_, recovered, reason, values) = stranger.subscribe(wanted);
    assert_eq!((recovered, reason), (Some(false), Some(Unrecovered::EpochChanged)));
    assert_eq!(values.len(), 4);
    assert!(values.iter().all(|event| event.snapshot == Some(true)));
}

#[test]
fn what_cannot_be_done_is_said() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1 --subscriptions-max 2");
    let mut client = Typed::open(&edge, "/ws");
    let command = |command| ClientMessage { id: Some(1), command: Some(command) }.encode_to_vec();
    let subscribe = command(Command::Subscribe(to(&["a"])));
    for (bytes, code, named) in [
        // Field 9 beside the command, 99 within it, 9 for a command.
        ([&subscribe[..], b"\x48\x01"].concat(), ErrorCode::UnknownField, "9"),
        (b"\x08\x01\x12\x06\x0a\x01a\x98\x06\x01".to_vec(), ErrorCode::UnknownField, "99 of `subscribe`"),
        (b"\x08\x01\x4a\x00".to_vec(), ErrorCode::UnknownCommand, "9"),
        (b"\x08\x01\x12\x02\x08\x01".to_vec(), ErrorCode::BadRequest, "`subscribe.topics`"),
        (command(Command::Subscribe(to(&[]))), ErrorCode::BadRequest, "topics"),
        (command(Command::Subscribe(to(&["\0trestle"]))), ErrorCode::InvalidTopic, "reserved"),
        (command(Command::Subscribe(to(&["a", "b", "c"]))), ErrorCode::TooManySubscriptions, "2"),
        (
            command(Command::Publish(Publish {
                topic: Some("a".into()),
                body: Some(publish::Body::Text("b".into())),
                ..Publish::default()
            })),
            ErrorCode::Forbidden,
            "",
        ),
        (b"\x08\x01".to_vec(), ErrorCode::BadRequest, "command"),
    ] {
        let (id, said, reason) = client.refused(&bytes);
        assert_eq!((id, said), (Some(1), code), "{bytes:?}: {reason}");
        assert!(reason.contains(named), "{reason}");
    }
    let (id, code, reason) = client.refused(&subscribe[2..]);
    assert_eq!((id, code), (None, ErrorCode::BadRequest), "{reason}");
    client.subscribe(to(&["a", "b"]));
    edge.until_metric("subscriptions", |n| n == 2);
}

#[test]
fn three_messages_that_do_not_parse_close() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1");
    let mut client = Typed::open(&edge, "/ws");
    assert_eq!(client.refused(b"\x08").1, ErrorCode::BadRequest);
    client.client.send(Opcode::Text, b"{\"id\":1,\"subscribe\":{\"topics\":[\"a\"]}}");
    let Some(Outcome::Error(Error { reason, .. })) = client.reply().outcome else { panic!("it is refused") };
    assert!(reason.contains("binary frames"), "{reason}");
    client.subscribe(to(&["a"]));
    for _ in 0..3 {
        assert_eq!(client.refused(b"{\"id\":1}").1, ErrorCode::BadRequest);
    }
    assert_eq!(client.client.message(), Said::Close(Some(4500), "bad request".to_owned()));

    let mut json = Client::json(&edge, "/ws");
    json.send(Opcode::Binary, b"\x08\x01");
    let reason = json.named("reply")["error"]["reason"].take();
    assert!(reason.as_str().is_some_and(|reason| reason.contains("text frames")), "{reason}");
}

#[test]
fn compressed_messages_are_the_same_inside() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--shards 1");
    let request = Request::websocket("/ws?topic=t", PROTO);
    let request = request.with("Sec-WebSocket-Extensions", "permessage-deflate");
    let mut clients: Vec<_> = (0..5).map(|_| Typed::by(&edge, &request)).collect();
    clients.push(Typed::open(&edge, "/ws?topic=t"));
    let body = Bytes::from(vec![0xfe; 5_000]);
    feed.send(&[&b"t"[..], &body, b"x"]);
    for (nth, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.event().parts, [body.clone(), "x".into()]);
        assert_eq!(client.client.n_compressed, usize::from(nth < 5));
    }
}

#[test]
fn everybody_is_told_that_the_edge_restarts() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut client = Typed::open(&edge, "/ws?topic=a");
    feed.send(&["a", "the last message"]);
    edge.until_metric("deliveries_total", |n| n == 1);
    let client = std::thread::spawn(move || {
        assert_eq!(client.event().body, Some(Body::Bytes("the last message".into())));
        let Message::Goodbye(Goodbye { reason, reconnect_after_ms }) = client.next() else {
            panic!("goodbye")
        };
        assert_eq!(reason, i32::from(GoodbyeReason::Restarting));
        assert!(reconnect_after_ms.is_some());
        assert_eq!(client.client.next(), Said::Close(Some(1012), "service restart".to_owned()));
        client.client.send(Opcode::Close, b"\x03\xf4");
        assert_eq!(client.client.next(), Said::End);
    });
    edge.shutdown();
    client.join().unwrap();
}
