//! Messages over a bound, and the bound of what is kept.

use trestle_messages::Position;

use crate::client::{Client, Said};
use crate::fixture::{Feed, TestEdge, until};

/// Sixteen frames at the bound of one may pass; more are dropped as a whole, and their publisher stays.
#[test]
fn a_message_of_too_many_bytes_is_dropped_and_counted() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--frame-bytes-max 4KiB");
    let mut client = Client::raw(&edge, "/");
    let frame = "x".repeat(4 << 10);
    feed.send(&vec![&frame[..]; 17]);
    feed.send(&vec![&frame[..]; 15]);
    feed.send(&["a", "after"]);
    assert_eq!(client.next(), Said::Text(frame));
    assert_eq!(client.next(), Said::text("after"));
    assert_eq!(edge.metric("dropped_messages_total{hop=\"ingest\",cause=\"too_large\"}"), 1);
    assert_eq!(edge.metric("upstream_disconnects_total"), 0);
}

#[test]
fn the_log_stays_within_its_bound() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--log-bytes-max 1MiB --record =1MiB");
    let mut client = Client::raw(&edge, "/");
    let body = "x".repeat(64 << 10);
    for _ in 0..256 {
        feed.send(&["a", &body]);
        assert_eq!(client.next(), Said::text(&body));
    }
    let bytes = edge.metric("log_bytes");
    // The newest, and the ring with as much again of what it has let go.
    assert!(bytes > 256 << 10 && bytes <= 5 << 20, "{bytes}");
}

#[test]
fn reserved_topics_reach_nobody() {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "");
    let mut client = Client::raw(&edge, "/");
    feed.send(&["\0trestle", "x"]);
    feed.send(&["\0trestle/y", "x"]);
    feed.send(&["a", "after"]);
    assert_eq!(client.next(), Said::text("after"));
    assert_eq!(edge.metric("dropped_messages_total{hop=\"ingest\",cause=\"reserved\"}"), 2);
}

/// A shard that is too slow for the log loses messages, and says to a client exactly between which positions.
#[test]
fn what_falls_off_the_log_is_declared_lost() {
    /// With bodies of 1,000 bytes the socket takes all of a batch: a client that is itself too slow is another matter.
    const BATCH: u64 = 100;
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--shards 1 --log-bytes-max 1KiB");
    let mut client = Client::json(&edge, "/ws?topic=");
    let overruns = "dropped_messages_total{hop=\"session\",cause=\"shard_overrun\"}";
    let body = "x".repeat(1_000);
    let position = |text: &serde_json::Value| text.as_str().unwrap().parse::<Position>().unwrap();
    let mut at = position(&client.welcome["position"]);
    let (mut sent, mut events, mut lost) = (at.offset, 0, 0);
    until("an overrun", || {
        (0..BATCH).for_each(|_| feed.send(&["a", &body]));
        sent += BATCH;
        while at.offset < sent {
            let message = client.json_message();
            if let Some(event) = message.get("event") {
                let next = position(&event["position"]).offset;
                assert_eq!(next, at.offset + 1, "nothing is missing that was not told");
                at.offset = next;
                events += 1;
            } else if let Some(gap) = message.get("lost") {
                assert_eq!((&gap["cause"], position(&gap["from"])), (&"shard_overrun".into(), at), "{gap}");
                let until = position(&gap["position"]);
                assert_eq!(gap["at_most"], until.offset - at.offset);
                lost += until.offset - at.offset;
                at = until;
            } else {
                assert!(message.get("heartbeat").is_some(), "{message}");
            }
        }
        (lost > 0).then_some(())
    });
    edge.until_metric(overruns, |n| n == lost);
    edge.until_metric("deliveries_total", |n| n == events);
}
