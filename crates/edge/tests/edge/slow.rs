//! Clients that do not read, beside others that do.

use std::thread;

use crate::client::{Client, JSON, RAW, Said};
use crate::fixture::{Feed, TestEdge};

const OUTBOX_BYTES_MAX: u64 = 256 << 10;
const BODY_BYTES: usize = 16 << 10;
const MESSAGES: usize = 160;
/// Published before the readers have read those before.
const BATCH: usize = 8;

const DROPPED: &str = "dropped_messages_total{hop=\"session\",cause=\"slow_consumer\"}";

/// The nth message: its number, and ballast.
fn body(n: usize) -> String {
    let number = n.to_string();
    number.clone() + &"x".repeat(BODY_BYTES - number.len())
}

fn number(body: &str) -> usize {
    body.trim_end_matches('x').parse().unwrap()
}

/// An edge with one shard and a small bound, and its publisher.
fn edge() -> (Feed, TestEdge) {
    let feed = Feed::bound();
    let edge = TestEdge::on(&feed, &format!("--shards 1 --outbox-bytes-max {OUTBOX_BYTES_MAX}B"));
    (feed, edge)
}

/// Publishes all messages; each of `readers` gets every one in order, batch by batch.
fn publish_to(feed: &Feed, mut readers: Vec<Client>) {
    for batch in 0..MESSAGES / BATCH {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        numbers.clone().for_each(|n| feed.send(&["t".to_owned(), body(n)]));
        let expected: Vec<_> = numbers.collect();
        thread::scope(|scope| {
            for readers in readers.chunks_mut(10) {
                let expected = &expected;
                scope.spawn(move || {
                    for reader in readers {
                        let got: Vec<_> = reader.texts(BATCH).iter().map(|text| number(text)).collect();
                        assert_eq!(got, *expected);
                    }
                });
            }
        });
    }
}

#[test]
fn one_that_cannot_be_told_loses_whole_messages_which_are_counted() {
    let (feed, edge) = edge();
    let mut slow = Client::with_small_buffer(&edge, "/?topic=t", RAW);
    publish_to(&feed, (0..20).map(|_| Client::raw(&edge, "/")).collect());
    edge.until_metric(DROPPED, |n| n > 0);
    let waiting = edge.until_metric("outbox_bytes", |bytes| bytes > 0);
    assert!(waiting <= OUTBOX_BYTES_MAX, "{waiting} bytes wait");
    assert!(waiting > OUTBOX_BYTES_MAX / 2, "no more is dropped than must be: {waiting}");

    feed.send(&["t", "last"]);
    let mut got = Vec::new();
    loop {
        match slow.message() {
            Said::Text(text) if text == "last" => break,
            Said::Text(text) => {
                let n = number(&text);
                assert_eq!(text, body(n), "whole");
                got.push(n);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
    assert_eq!(got.last(), Some(&(MESSAGES - 1)), "the newest stay");
    assert_eq!(got.len() as u64 + edge.metric(DROPPED), MESSAGES as u64, "each message is read or counted");
    edge.until_metric("outbox_bytes", |bytes| bytes == 0);
    feed.send(&["t", "and on"]);
    assert_eq!(slow.message(), Said::text("and on"));
}

#[test]
fn one_that_can_be_told_is_closed_with_4008() {
    let (feed, edge) = edge();
    let mut slow = Client::with_small_buffer(&edge, "/ws?topic=t", JSON);
    let _never = Client::with_small_buffer(&edge, "/ws?topic=t", JSON);
    publish_to(&feed, (0..4).map(|_| Client::raw(&edge, "/")).collect());
    // What it was sent before it fell behind comes whole and in order, then the reason.
    let mut next = 0;
    loop {
        match slow.next() {
            Said::Text(text) => {
                let event: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(number(event["event"]["text"].as_str().unwrap()), next);
                next += 1;
            }
            Said::Close(code, reason) => {
                assert_eq!((code, &reason[..]), (Some(4008), "slow consumer"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(0 < next && next < MESSAGES);
    slow.send(trestle_hub::ws::Opcode::Close, &4008u16.to_be_bytes());
    assert_eq!(slow.next(), Said::End);
    // The other one never reads its close, and is cut.
    edge.until_metric("sessions_closed_total{code=\"4008\"}", |n| n == 2);
    edge.until_connections(0);
    edge.until_metric("outbox_bytes", |bytes| bytes == 0);
}

/// Whoever asks and does not read the answers is not listened to any more, and then silent, which ends it.
#[test]
fn one_that_asks_without_reading_is_bounded() {
    let flags = "--source tcp://127.0.0.1:1 --shards 1 --ping-interval 1s --half-open-timeout 6s";
    let edge = TestEdge::start(flags);
    let mut client = Client::with_small_buffer(&edge, "/ws", JSON);
    let command = br#"{"id":1,"unsubscribe":{"topics":["a"]}}"#;
    let frame = trestle_hub::ws::client_frame(trestle_hub::ws::Opcode::Text, true, [1, 2, 3, 4], command);
    let sender = thread::spawn(move || {
        // Ends when the edge cuts it; until then its writes come to a stand.
        let many = frame.repeat(1_000);
        (0..10_000).take_while(|_| client.try_send_bytes(&many)).count()
    });
    // The metric is two seconds old at most, and the client lives longer.
    let waits = edge.until_metric("outbox_bytes", |bytes| bytes > 0);
    assert!(waits < 4 << 20, "{waits} bytes wait");
    assert!(sender.join().unwrap() < 10_000, "it is cut");
    edge.until_connections(0);
}
