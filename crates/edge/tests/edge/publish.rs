//! The other side of the bridge: what clients publish comes out of ØMQ, and they hear what became of it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use trestle_hub::ws::{Opcode, client_frame};

use crate::client::Client;
use crate::fixture::{Feed, Forwarder, Subscriber, TestEdge, until};
use crate::http::{Answer, Request};

const ALLOW: &str = "--allow-publish chat/ --allow-publish x";

fn post(edge: &TestEdge, target: &str, body: &[u8]) -> (u16, Value) {
    answered(&Request::post(target, body).to(edge.address()))
}

fn answered(answer: &Answer) -> (u16, Value) {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.head);
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

/// Publishes until the edge has its forwarder; of what it says until then each is to be tried again.
fn until_published(client: &mut Client, publish: &Value) -> Value {
    until("a forwarder", || {
        let reply = client.command(&json!({"id": 7, "publish": publish}));
        if let Some(error) = reply.get("error") {
            assert_eq!((&error["code"], &error["retry"]), (&json!("unavailable"), &json!(true)), "{error}");
        }
        reply.get("published").cloned()
    })
}

fn error(client: &mut Client, publish: &Value) -> (String, String) {
    let reply = client.command(&json!({"id": 9, "publish": publish}));
    assert_eq!(reply["id"], 9);
    let word = |name: &str| reply["error"][name].as_str().expect("it is refused").to_owned();
    (word("code"), word("reason"))
}

#[test]
fn a_sub_gets_topic_and_body_and_every_client_the_position_of_the_reply() {
    let forwarder = Forwarder::start("--record chat/");
    let (one, other) = (TestEdge::behind(&forwarder, ALLOW), TestEdge::behind(&forwarder, ""));
    let subscriber = forwarder.subscriber(b"");
    let (mut sender, mut reader) = (Client::json(&one, "/ws"), Client::json(&other, "/ws"));
    let wanted = forwarder.wanted();
    reader.subscribe(&["chat/", "x"]);
    until("the subscription upward", || (forwarder.wanted() > wanted).then_some(()));
    let data = r#"{"n" : 1.50, "s":"\u00e9"}"#;
    let first = until_published(&mut sender, &json!({"topic": "chat/1", "text": "hello"}));
    assert_eq!(subscriber.next(), [&b"chat/1"[..], b"hello"]);
    let event = reader.event();
    assert_eq!((&event["position"], &event["text"]), (&first["position"], &json!("hello")));

    sender
        .send(Opcode::Text, format!(r#"{{"id":2,"publish":{{"topic":"chat/1","data":{data}}}}}"#).as_bytes());
    let second = sender.named("reply")["published"].take();
    assert_eq!(subscriber.next(), [&b"chat/1"[..], data.as_bytes()]);
    assert_eq!(reader.event()["position"], second["position"]);
    assert_ne!(first["position"], second["position"]);

    let parts = json!({"topic_base64": "eP8=", "parts": [{"base64": "AAE="}, {"text": ""}, {"data": [1]}]});
    assert_eq!(until_published(&mut sender, &parts), json!({}), "x is not recorded");
    assert_eq!(subscriber.next(), [&b"x\xff"[..], b"\0\x01", b"", b"[1]"]);
    assert_eq!(reader.event()["parts"], json!([{"base64": "AAE="}, {"text": ""}, {"data": [1]}]));
    one.until_metric("publications_total{outcome=\"published\"}", |n| n == 3);
    assert_eq!(forwarder.metric("publications_total{outcome=\"published\"}"), 3);
}

#[test]
fn post_publish_is_for_whatever_can_send_a_request() {
    let forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, ALLOW);
    let subscriber = forwarder.subscriber(b"");
    until_published(&mut Client::json(&edge, "/ws"), &json!({"topic": "x", "text": ""}));
    subscriber.next();
    let (status, answer) = post(&edge, "/publish?topic=chat%2Flobby", b"hi \xff\0");
    assert_eq!(status, 200, "{answer}");
    assert!(answer["published"]["position"].is_string(), "{answer}");
    assert_eq!(subscriber.next(), [&b"chat/lobby"[..], b"hi \xff\0"]);
    // A retry with the same key, as a parameter or as a header, is the same.
    let again = post(&edge, "/publish?topic=x&key=k1", b"once");
    assert_eq!(post(&edge, "/publish?topic=x&key=k1", b"once"), again);
    let header =
        Request::post("/publish?topic=x", b"once").with("Idempotency-Key", "\"k1\"").to(edge.address());
    assert_eq!(answered(&header), again);
    assert_eq!(subscriber.next(), [b"x".to_vec(), b"once".to_vec()]);
    assert!(subscriber.has_nothing());
    let large = vec![b'-'; (64 << 10) + 1];
    for (target, body, expected, code, named) in [
        ("/publish", &b""[..], 400, "bad_request", "`topic`"),
        ("/publish?topic=x&qos=1", b"", 400, "unknown_field", "`qos`"),
        ("/publish?topic=%00trestle", b"", 400, "invalid_topic", "reserved"),
        ("/publish?topic=jobs/1", b"", 403, "forbidden", "`chat/` or `x`"),
        ("/publish?topic=x", &large, 413, "too_large", "65536"),
    ] {
        let (status, answer) = post(&edge, target, body);
        assert_eq!((status, &answer["error"]["code"]), (expected, &json!(code)), "{target}: {answer}");
        assert!(answer["error"]["reason"].as_str().unwrap().contains(named), "{target}: {answer}");
    }
    edge.until_metric("publications_total{outcome=\"forbidden\"}", |n| n == 1);
    // A body in chunks, as curl sends what it reads from a pipe.
    let chunked = Request::new("POST", "/publish?topic=x").with("Transfer-Encoding", "chunked");
    let mut stream = crate::http::connect(edge.address());
    stream.write_all(&[&chunked.bytes()[..], b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"].concat()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);
    assert_eq!(subscriber.next(), [b"x".to_vec(), b"abcde".to_vec()]);
}

#[test]
fn without_a_flag_nothing_may_be_published_and_with_it_only_what_it_names() {
    let forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, "");
    let mut client = Client::json(&edge, "/ws");
    let publish = json!({"topic": "chat/1", "text": "hi"});
    let refused = ("forbidden".to_owned(), "publishing is not allowed here".to_owned());
    assert_eq!(error(&mut client, &publish), refused);
    assert_eq!(post(&edge, "/publish?topic=chat/1", b"hi").0, 403);

    let edge = TestEdge::behind(&forwarder, ALLOW);
    let (code, reason) = error(&mut Client::json(&edge, "/ws"), &json!({"topic": "jobs/1", "text": "hi"}));
    assert_eq!((&*code, &*reason), ("forbidden", "topics to publish to begin with `chat/` or `x`"));
}

#[test]
fn a_forwarder_that_is_away_is_unavailable_and_one_that_comes_back_is_used() {
    let (mut forwarder, flags) = Forwarder::absent("");
    let edge = TestEdge::start(&format!("{flags} {ALLOW}"));
    let publish = json!({"topic": "chat/1", "text": "hi"});
    let refused = post(&edge, "/publish?topic=x", b"");
    assert_eq!((refused.0, &refused.1["error"]["code"]), (503, &json!("unavailable")));
    forwarder.appear();
    edge.wait_ready();
    let mut client = Client::json(&edge, "/ws");
    let position = until_published(&mut client, &publish)["position"].clone();
    assert!(position.is_string());
    forwarder.restart(|| {
        let (code, reason) = error(&mut client, &publish);
        assert!(["unavailable", "unconfirmed"].contains(&&*code), "{code}: {reason}");
        assert_eq!(error(&mut client, &publish), ("unavailable".into(), "the forwarder is away".into()));
    });
    assert_ne!(until_published(&mut client, &publish)["position"], position, "a new epoch");
}

#[test]
fn a_link_that_breaks_meanwhile_leaves_it_unconfirmed_and_a_key_makes_the_retry_safe() {
    let forwarder = Forwarder::start("");
    let wire = Wire::start(forwarder.recorder().strip_prefix("http://").unwrap().parse().unwrap());
    let edge =
        TestEdge::start(&format!("--link {} --recorder http://{} {ALLOW}", forwarder.link(), wire.address));
    edge.wait_ready();
    let subscriber = forwarder.subscriber(b"");
    let mut client = Client::json(&edge, "/ws");
    until_published(&mut client, &json!({"topic": "x", "text": "first"}));
    subscriber.next();

    // It arrives, and its answer does not.
    wire.hold();
    let publish = json!({"topic": "x", "text": "once", "key": "k1"});
    client.say(&json!({"id": 1, "publish": publish}));
    assert_eq!(subscriber.next(), [b"x".to_vec(), b"once".to_vec()]);
    wire.cut();
    let reply = client.named("reply");
    assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(1), &json!("unconfirmed")), "{reply}");
    assert_eq!(reply["error"]["retry"], true);

    // By another edge, that makes no difference.
    let other = TestEdge::behind(&forwarder, ALLOW);
    let position = until_published(&mut Client::json(&other, "/ws"), &publish);
    assert_eq!(until_published(&mut client, &publish), position);
    until_published(&mut client, &json!({"topic": "x", "text": "last"}));
    assert_eq!(subscriber.next()[1], b"last", "it was sent once");
    assert!(forwarder.metric("publications_total{outcome=\"repeated\"}") >= 2);
    edge.until_metric("publications_total{outcome=\"unconfirmed\"}", |n| n == 1);
}

#[test]
fn ten_thousand_of_one_client_are_all_answered_and_arrive_in_order() {
    let forwarder = Forwarder::start("");
    let edge = TestEdge::behind(&forwarder, ALLOW);
    let subscriber = forwarder.subscriber(b"chat/");
    let mut client = Client::json(&edge, "/ws");
    until_published(&mut client, &json!({"topic": "x", "text": ""}));
    // As many at once as its socket holds replies; the edge reads them 256 at a time.
    for thousand in 0..10 {
        let commands = (thousand * 1_000..).take(1_000).flat_map(|id| {
            let command = json!({"id": id, "publish": {"topic": "chat/1", "data": {"n": id}}});
            client_frame(Opcode::Text, true, [1, 2, 3, 4], command.to_string().as_bytes())
        });
        client.send_bytes(&commands.collect::<Vec<_>>());
        for id in (thousand * 1_000..).take(1_000) {
            let reply = client.named("reply");
            assert_eq!(reply["id"], id);
            assert!(reply["published"]["position"].is_string(), "{reply}");
            assert_eq!(subscriber.next()[1], format!("{{\"n\":{id}}}").into_bytes());
        }
    }
    assert!(subscriber.has_nothing());
}

#[test]
fn without_a_forwarder_an_endpoint_gets_it_and_the_reply_has_no_position() {
    let feed = Feed::bound();
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    let edge = TestEdge::on(&feed, &format!("{ALLOW} --publish-to {endpoint}"));
    let mut client = Client::json(&edge, "/ws");
    let publish = json!({"topic": "chat/1", "parts": [{"text": "a"}, {"base64": "AA=="}], "key": "k"});
    let (code, reason) = error(&mut client, &publish);
    assert_eq!((&*code, &*reason), ("unavailable", &*format!("nobody subscribes at {endpoint}")));
    let subscriber = Subscriber::bound(&endpoint, b"chat/");
    assert_eq!(subscriber.endpoint, endpoint);
    until("a subscription", || {
        // libzmq sends what a bound SUB wants when its thread next asks it for something.
        assert!(subscriber.has_nothing());
        let reply = client.command(&json!({"id": 7, "publish": publish}));
        (reply["published"] == json!({})).then_some(())
    });
    assert_eq!(until_published(&mut client, &publish), json!({}), "known by its key");
    assert_eq!(post(&edge, "/publish?topic=chat/2", b"b"), (200, json!({"published": {}})));
    assert_eq!(subscriber.next(), [&b"chat/1"[..], b"a", b"\0"]);
    assert_eq!(subscriber.next(), [b"chat/2".to_vec(), b"b".to_vec()]);
}

/// A TCP connection's way to the forwarder's gRPC: what comes back can be held, and everything cut.
struct Wire {
    address: SocketAddr,
    holds: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (holds, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (held, connections) = (Arc::clone(&holds), Arc::clone(&open));
        // It ends with the test's process.
        thread::spawn(move || {
            for edge in listener.incoming().map_while(Result::ok) {
                let Ok(forwarder) = TcpStream::connect(to) else { continue };
                let never = Arc::new(AtomicBool::new(false));
                for (from, into, held) in [(&edge, &forwarder, &never), (&forwarder, &edge, &held)] {
                    let (from, into) = (from.try_clone().unwrap(), into.try_clone().unwrap());
                    let held = Arc::clone(held);
                    thread::spawn(move || pump(from, into, &held));
                }
                connections.lock().unwrap().extend([edge, forwarder]);
            }
        });
        Self { address, holds, open }
    }

    /// Nothing comes back, until it is [`cut`](Self::cut).
    fn hold(&self) {
        self.holds.store(true, Ordering::SeqCst);
    }

    /// Every connection ends; the next ones are whole.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.holds.store(false, Ordering::SeqCst);
    }
}

/// Passes on what comes; what is held is lost, because only a cut ends the holding.
fn pump(mut from: TcpStream, mut into: TcpStream, holds: &AtomicBool) {
    let mut bytes = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if !holds.load(Ordering::SeqCst) && into.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = into.shutdown(Shutdown::Both);
}
