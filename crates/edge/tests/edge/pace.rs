//! Clients that want less than there is, and an edge that lets messages gather.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::fixture::{Feed, TestEdge};

const CONFLATED: &str = "conflated_messages_total";

/// Publishes `n` messages in turn on `topics`, each with its number, one each `every`.
fn publish(feed: &Feed, topics: &[&str], n: usize, every: Duration) {
    for number in 0..n {
        feed.send(&[topics[number % topics.len()], &number.to_string()]);
        thread::sleep(every);
    }
}

fn number(event: &serde_json::Value) -> usize {
    event["text"].as_str().unwrap().parse().unwrap()
}

#[test]
fn max_hz_sends_at_once_then_the_latest_of_each_topic() {
    const MESSAGES: usize = 200;
    const HZ: usize = 10;
    const TOPICS: [&str; 2] = ["cpu/0", "cpu/1"];
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--shards 1");
    let (mut paced, mut plain) = (Client::json(&edge, "/ws"), Client::json(&edge, "/ws?topic=cpu/"));
    paced.command(&json!({"id": 1, "subscribe": {"topics": ["cpu/"], "max_hz": HZ}}));
    paced.named("caught_up");

    let start = Instant::now();
    publish(&feed, &TOPICS, MESSAGES, Duration::from_millis(5));
    let mut got = Vec::new();
    let mut last = [0; TOPICS.len()];
    while last != [MESSAGES - 2, MESSAGES - 1] {
        let event = paced.event();
        last[number(&event) % TOPICS.len()] = number(&event);
        got.push(number(&event));
    }
    // As many as the rate allows in the time that it took, however long that was, and the first of each.
    let intervals = start.elapsed().as_millis() as usize * HZ / 1_000 + 1;
    assert_eq!(got[0], 0, "the first comes at once");
    assert!(got.len() <= TOPICS.len() * (intervals + 1), "{} in {intervals} intervals", got.len());
    for parity in 0..TOPICS.len() {
        let of_topic: Vec<_> = got.iter().filter(|n| *n % TOPICS.len() == parity).collect();
        assert!(of_topic.is_sorted_by(|a, b| a < b), "{got:?}");
    }
    edge.until_metric(CONFLATED, |n| n as usize + got.len() == MESSAGES);
    // Who asked for everything got it.
    (0..MESSAGES).for_each(|n| assert_eq!(number(&plain.event()), n));
}

#[test]
fn what_gathers_in_a_flush_window_goes_out_together() {
    const MESSAGES: usize = 200;
    const WINDOW: Duration = Duration::from_millis(100);
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, "--shards 1 --flush-window 100ms");
    let mut client = Client::raw(&edge, "/");
    let before = edge.metric("socket_writes_total");
    let start = Instant::now();
    publish(&feed, &["a"], MESSAGES, Duration::from_millis(2));
    let expected: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(client.texts(MESSAGES), expected, "none is lost, and in order");
    let windows = start.elapsed().as_millis() / WINDOW.as_millis() + 2;
    let writes = u128::from(edge.until_metric("socket_writes_total", |n| n > before) - before);
    assert!(writes <= windows, "{writes} writes in {windows} windows");
}
