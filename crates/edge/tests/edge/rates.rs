//! How fast clients may say things, how long they may say nothing, and how much may wait for all of them.

use serde_json::json;
use trestle_hub::ws::Opcode;

use crate::client::{Client, JSON, Said};
use crate::fixture::{Feed, TestEdge, until};
use crate::http::Request;

/// An edge whose publisher never says anything.
fn edge(flags: &str) -> TestEdge {
    TestEdge::start(&format!("--source tcp://127.0.0.1:1 {flags}"))
}

#[test]
fn who_says_too_much_is_told_and_who_goes_on_is_closed() {
    let edge = edge("--commands-per-second 1 --commands-burst 5");
    let mut client = Client::json(&edge, "/ws");
    let unsubscribe = |id: u32| json!({"id": id, "unsubscribe": {"topics": ["a"]}});
    for id in 1..=5 {
        assert_eq!(client.command(&unsubscribe(id))["id"], id);
    }
    let mut refused = client.command(&unsubscribe(6));
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["retry"]),
        (&"rate_limited".into(), &true.into())
    );
    until("a token", || {
        refused = client.command(&unsubscribe(7));
        refused.get("unsubscribed").is_some().then_some(())
    });
    (0..1_200).for_each(|_| client.send(Opcode::Ping, b""));
    let close =
        until("the end of a flood", || Some(client.next()).filter(|said| matches!(said, Said::Close(..))));
    assert_eq!(close, Said::Close(Some(4029), "too many requests".to_owned()));
    edge.until_metric("commands_refused_total{code=\"rate_limited\"}", |n| n >= 1_000);
    edge.until_metric("sessions_closed_total{code=\"4029\"}", |n| n == 1);
}

#[test]
fn publications_are_bounded_by_client_and_by_address() {
    let edge = edge(
        "--publications-per-second 2 --allow-publish chat/ --publish-to tcp://127.0.0.1:1 --trusted-proxy 127.0.0.1",
    );
    let publish = |id: u32| json!({"id": id, "publish": {"topic": "chat/1", "text": "x"}});
    let mut client = Client::json(&edge, "/ws");
    let codes: Vec<_> = (1..=3).map(|id| client.command(&publish(id))["error"]["code"].clone()).collect();
    // Nobody subscribes there.
    assert_eq!(codes, ["unavailable", "unavailable", "rate_limited"]);
    let post = |from: &str| {
        let request = Request::post("/publish?topic=chat/1", b"x").with("X-Forwarded-For", from);
        request.to(edge.address())
    };
    let statuses: Vec<_> = (0..3).map(|_| post("203.0.113.1").status).collect();
    assert_eq!(statuses, [503, 503, 429]);
    let refused = post("203.0.113.1");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert!(refused.text().contains("rate_limited"), "{}", refused.text());
    assert_eq!(post("203.0.113.2").status, 503, "another has its own");
    edge.until_metric("commands_refused_total{code=\"rate_limited\"}", |n| n == 3);
}

#[test]
fn a_topic_is_as_long_as_the_flag_says() {
    let edge = edge("--topic-bytes-max 8 --allow-publish '' --publish-to tcp://127.0.0.1:1");
    for (topic, is_short) in [("12345678", true), ("123456789", false)] {
        let status = |request: Request| request.to(edge.address()).status;
        assert_eq!(status(Request::websocket(&format!("/ws?topic={topic}"), JSON)) == 101, is_short);
        let post = Request::post(&format!("/publish?topic={topic}"), b"x").to(edge.address());
        assert_eq!(post.text().contains("invalid_topic"), !is_short, "{}", post.text());
        let mut client = Client::json(&edge, "/ws");
        let reply = client.command(&json!({"id": 1, "subscribe": {"topics": [topic]}}));
        assert_eq!(reply.get("subscribed").is_some(), is_short, "{reply}");
    }
}

#[test]
fn who_wants_nothing_is_closed_after_a_while() {
    let edge = edge("--idle-timeout 400ms --ping-interval 100ms --half-open-timeout 20s");
    let mut idle = Client::json(&edge, "/ws");
    let mut busy = Client::json(&edge, "/ws?topic=a");
    let end = until("its end", || Some(idle.message()).filter(|said| matches!(said, Said::Close(..))));
    assert_eq!(end, Said::Close(Some(1001), "going away".to_owned()));
    busy.subscribe(&["b"]);
    assert_eq!(
        edge.metric("sessions_closed_total{code=\"1001\"}"),
        0,
        "its connection still waits for the answer"
    );
    idle.send(Opcode::Close, &1001u16.to_be_bytes());
    edge.until_metric("sessions_closed_total{code=\"1001\"}", |n| n == 1);
}

/// Of each of the two who read nothing less waits than one may have, and of both together more than all may.
#[test]
fn what_waits_for_all_together_is_bounded() {
    let feed = Feed::bound();
    let flags = "--shards 1 --no-record --outbox-bytes-max 64MiB --outboxes-bytes-max 2MiB";
    let edge = TestEdge::start(&format!("--source {} {flags}", feed.endpoint));
    let mut reads = Client::json(&edge, "/ws?topic=a");
    let _stalled = [(); 2].map(|()| Client::with_small_buffer(&edge, "/ws?topic=a", JSON));
    feed.wait_for("+a");
    let body = "x".repeat(10_000);
    until("both who do not read to be closed", || {
        for _ in 0..20 {
            feed.send(&["a", &body]);
            assert_eq!(reads.event()["text"], body.as_str());
        }
        (edge.metric("outboxes_closed_total") >= 1 && edge.metric("outbox_bytes") < 2 << 20).then_some(())
    });
    edge.until_metric("sessions_closed_total{code=\"4008\"}", |n| n >= 1);
    feed.send(&["a", "after"]);
    assert_eq!(reads.event()["text"], "after");
}
