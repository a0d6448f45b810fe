//! Messages over a bound, and the bound of what is kept.

use crate::client::{Client, Said};
use crate::fixture::{Feed, TestEdge};

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
    let edge = TestEdge::on(&feed, "--log-bytes-max 1MiB");
    let mut client = Client::raw(&edge, "/");
    let body = "x".repeat(64 << 10);
    for _ in 0..64 {
        feed.send(&["a", &body]);
        assert_eq!(client.next(), Said::text(&body));
    }
    let bytes = edge.metric("log_bytes");
    assert!(bytes > 256 << 10 && bytes <= 2 << 20, "{bytes}");
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
