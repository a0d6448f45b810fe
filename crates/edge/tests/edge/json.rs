//! The commands of `trestle.v1.json` and their answers, and which topics reach whom.

use serde_json::json;
use trestle_hub::ws::{Opcode, client_frame};

use crate::client::{Client, JSON, Said};
use crate::fixture::{Feed, TestEdge};

#[test]
fn a_client_is_welcomed_subscribes_and_unsubscribes() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--ping-interval 7s");
    let mut client = Client::json(&edge, "/ws");
    assert_eq!(client.welcome["heartbeat_ms"], 7_000);
    assert!(client.welcome["session"].as_str().is_some_and(|name| !name.is_empty()));
    assert!(client.welcome["position"].is_string());

    let reply = client.command(&json!({"id": 9, "subscribe": {"topics": ["jobs/", "jobs/", "chat/7"]}}));
    let position = &reply["subscribed"]["position"];
    assert!(position.is_string());
    let subscribed = json!({"topics": ["jobs/", "jobs/", "chat/7"], "recorded": "all", "position": position});
    assert_eq!(reply, json!({"id": 9, "subscribed": subscribed}));
    assert_eq!(client.named("caught_up"), json!({"id": 9, "position": position, "replayed": 0}));
    edge.until_metric("subscriptions", |n| n == 2);

    let send = |topic: &str| feed.send(&[topic, "body"]);
    send("job");
    send("jobs/42");
    send("chat/");
    send("chat/77");
    let topics = [client.event(), client.event()].map(|mut event| event["topic"].take());
    assert_eq!(topics, ["jobs/42", "chat/77"]);

    let reply = client.command(&json!({"id": 10, "unsubscribe": {"topics": ["jobs/", "never"]}}));
    assert_eq!(reply, json!({"id": 10, "unsubscribed": {"topics": ["jobs/", "never"]}}));
    send("jobs/43");
    send("chat/78");
    assert_eq!(client.event()["topic"], "chat/78");
}

#[test]
fn a_message_that_several_subscriptions_match_arrives_once() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut client = Client::json(&edge, "/ws?topic=jobs/&topic=j");
    client.subscribe(&["", "jobs/42"]);
    client.command(&json!({"id": 2, "subscribe": {"topics": ["jobs/42"], "exact": true}}));
    client.named("caught_up");
    feed.send(&["jobs/42", "1"]);
    feed.send(&["x", "2"]);
    assert_eq!([client.event(), client.event()].map(|mut event| event["text"].take()), ["1", "2"]);
    for (topics, exact) in [(json!([""]), false), (json!(["j", "jobs/"]), false), (json!(["jobs/42"]), false)]
    {
        client.command(&json!({"id": 3, "unsubscribe": {"topics": topics, "exact": exact}}));
    }
    feed.send(&["jobs/421", "3"]);
    feed.send(&["jobs/42", "4"]);
    assert_eq!(client.event()["text"], "4", "the exact subscription is left");
}

#[test]
fn topics_in_the_url_are_percent_decoded() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut client = Client::json(&edge, "/ws?topic=%FF%00&topic=a%2Fb&topic=c+d%2B&topic=%");
    let reply = client.command(&json!({"id": 1, "unsubscribe": {"topics_base64": ["/wA="]}}));
    assert_eq!(reply["unsubscribed"], json!({"topics_base64": ["/wA="]}));
    client.command(&json!({"id": 2, "subscribe": {"topics_base64": ["/wE="]}}));
    client.named("caught_up");
    for topic in [&b"\xff\0"[..], b"\xff\x01", b"a/b/c", b"a%2Fb", b"c d+e", b"%x", b"c+d"] {
        feed.send(&[topic, b"x"]);
    }
    let names = ["topic_base64", "topic", "topic", "topic"];
    let got = names.map(|name| client.event()[name].take());
    assert_eq!(got, ["/wE=", "a/b/c", "c d+e", "%x"]);
}

#[test]
fn the_original_clients_topics_are_in_its_url_or_all() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut all = Client::raw(&edge, "/");
    let mut some = Client::raw(&edge, "/ws?topic=a/&topic=%FF&topic=a/1");
    let mut empty = Client::raw(&edge, "/?topic=");
    all.send(Opcode::Text, b"what it says concerns nobody");
    for (topic, body) in [(&b"a/1"[..], "1"), (b"b", "2"), (b"\xff!", "3"), (b"", "4"), (b"a/", "5")] {
        feed.send(&[topic, body.as_bytes()]);
    }
    assert_eq!(all.texts(5), ["1", "2", "3", "4", "5"]);
    assert_eq!(empty.texts(5), ["1", "2", "3", "4", "5"]);
    assert_eq!(some.texts(3), ["1", "3", "5"]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1 --subscriptions-max 2");
    let mut client = Client::json(&edge, "/ws");
    let long = "x".repeat(256);
    for (command, code, named) in [
        (json!({"id": 1, "subscribe": {"topics": ["\0trestle"]}}), "invalid_topic", "reserved"),
        (json!({"id": 1, "subscribe": {"topics": [long]}}), "invalid_topic", "255"),
        (json!({"id": 1, "subscribe": {"topics": ["a", "b", "c"]}}), "too_many_subscriptions", "2"),
        (json!({"id": 1, "subscribe": {"topics": ["a"], "speed": 1}}), "unknown_field", "speed"),
        (json!({"id": 1, "subscribe": {"topic": ["a"]}}), "unknown_field", "topic"),
        (json!({"id": 1, "subscribe": {"topics": "a"}}), "bad_request", "topics"),
        (json!({"id": 1, "dance": {}}), "unknown_command", "dance"),
        (json!({"id": 1, "publish": {"topic": "a", "text": "b"}}), "forbidden", "publish"),
        (json!({"id": 1, "authenticate": {"token": "t"}}), "unavailable", "token"),
        (json!({"id": 1}), "bad_request", ""),
    ] {
        let reply = client.command(&command);
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(1), &json!(code)), "{command}: {reply}");
        let reason = reply["error"]["reason"].as_str().unwrap();
        assert!(reason.contains(named) && !reason.is_empty(), "{command}: {reason}");
        assert!(reply["error"]["retry"].is_boolean());
    }
    assert_eq!(client.subscribe(&["a", "b"])["topics"], json!(["a", "b"]), "it goes on");
    // What was refused left nothing.
    edge.until_metric("subscriptions", |n| n == 2);
}

#[test]
fn three_messages_that_are_no_json_close() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1");
    let mut client = Client::json(&edge, "/ws");
    let refused = |client: &mut Client, text: &[u8]| {
        client.send(Opcode::Text, text);
        assert_eq!(client.named("reply")["error"]["code"], "bad_request");
    };
    refused(&mut client, b"hello?");
    refused(&mut client, b"{");
    client.subscribe(&["a"]);
    refused(&mut client, b"");
    refused(&mut client, b"{\"id\":1,}");
    refused(&mut client, b"\"");
    assert_eq!(client.message(), Said::Close(Some(4500), "bad request".to_owned()));
    client.send(Opcode::Close, b"\x11\x94");
    assert_eq!(client.message(), Said::End);
    edge.until_metric("sessions_closed_total{code=\"4500\"}", |n| n == 1);
}

#[test]
fn broken_frames_are_answered_by_a_close_that_says_why() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1 --message-bytes-max 1KiB");
    let frame = |opcode, payload: &[u8]| client_frame(opcode, true, [1, 2, 3, 4], payload);
    let reserved_bits = [0xc1, 0x80, 0, 0, 0, 0].to_vec();
    for (bytes, code) in [
        (b"\x81\x05hello".to_vec(), 1002),
        (reserved_bits, 1002),
        (frame(Opcode::Continuation, b"x"), 1002),
        (frame(Opcode::Ping, &[0; 126]), 1002),
        (frame(Opcode::Close, b"\x03"), 1002),
        (frame(Opcode::Text, b"\xff"), 1007),
        (frame(Opcode::Text, &[b'x'; 1025]), 1009),
        (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(), 1009),
    ] {
        let mut client = Client::json(&edge, "/ws?topic=");
        client.send_bytes(&bytes);
        let Said::Close(Some(said), _) = client.message() else { panic!("{bytes:?}: no close") };
        assert_eq!(said, code, "{bytes:?}");
        client.hang_up();
    }
    edge.until_connections(0);
    edge.until_metric("sessions_closed_total{code=\"1002\"}", |n| n == 5);
    edge.until_metric("subscriptions", |n| n == 0);
}

#[test]
fn messages_may_come_in_fragments_and_byte_by_byte() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1");
    let mut client = Client::json(&edge, "/ws");
    let text = br#"{"id":1,"subscribe":{"topics":["a"]}}"#;
    let mut bytes = client_frame(Opcode::Text, false, [5, 6, 7, 8], &text[..10]);
    bytes.extend(client_frame(Opcode::Ping, true, [1, 0, 1, 0], b"between"));
    bytes.extend(client_frame(Opcode::Continuation, false, [0, 0, 0, 0], b""));
    bytes.extend(client_frame(Opcode::Continuation, true, [3, 3, 3, 3], &text[10..]));
    bytes.iter().for_each(|byte| client.send_bytes(&[*byte]));
    assert_eq!(client.next(), Said::Pong(b"between".to_vec()));
    assert_eq!(client.named("reply")["subscribed"]["topics"], json!(["a"]));
}

#[test]
fn a_close_is_answered_with_its_code_and_the_connection_ends() {
    let edge = TestEdge::start("--source tcp://127.0.0.1:1");
    for (body, code) in [(&b""[..], None), (b"\x03\xe8bye", Some(1000)), (b"\x0f\xa0", Some(4000))] {
        for protocol in [JSON, "rust-websocket"] {
            let request = crate::http::Request::websocket("/ws?topic=a", protocol);
            let mut client = Client::open(&edge, &request);
            let client = if protocol == JSON { &mut client.welcomed() } else { &mut client };
            client.send(Opcode::Close, body);
            assert_eq!(client.next(), Said::Close(code, String::new()));
            assert_eq!(client.next(), Said::End);
        }
    }
    edge.until_connections(0);
    edge.until_metric("subscriptions", |n| n == 0);
    edge.until_metric("sessions_closed_total{code=\"1000\"}", |n| n == 6);
}
