//! Clients that do not read, beside others that do.

use std::thread;

use serde_json::json;

use crate::client::{Client, JSON, RAW, Said};
use crate::fixture::{Feed, TestEdge};
use crate::http::{Request, connect};
use crate::program::Program;

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

/// What comes until `last`: the number of each event, and how many were declared lost right before it.
fn read_to_last(client: &mut Client) -> Vec<(usize, u64)> {
    let (mut got, mut lost) = (Vec::new(), 0);
    loop {
        let message = client.json_message();
        if let Some(gap) = message.get("lost") {
            assert_eq!(gap["cause"], "slow_consumer");
            lost += gap["count"].as_u64().expect("an exact count");
        } else if message["event"]["text"] == "last" {
            assert_eq!(lost, 0, "the newest stay");
            return got;
        } else if let Some(text) = message["event"]["text"].as_str() {
            got.push((number(text), std::mem::take(&mut lost)));
        }
    }
}

/// One client of each policy that does not read, at once, beside fifty who do.
#[test]
fn each_policy_does_as_it_says_and_nobody_else_notices() {
    let (feed, edge) = edge();
    let subscriber = |policy: &str| {
        let mut client = Client::with_small_buffer(&edge, "/ws", JSON);
        client.command(&json!({"id": 1, "subscribe": {"topics": ["t"], "policy": policy}}));
        client.named("caught_up");
        client
    };
    let [_closed, mut oldest, mut latest] = ["disconnect", "drop_oldest", "conflate"].map(subscriber);
    publish_to(&feed, (0..50).map(|_| Client::raw(&edge, "/")).collect());
    edge.until_metric("sessions_closed_total{code=\"4008\"}", |n| n == 1);
    let waiting = edge.until_metric("outbox_bytes", |bytes| bytes > 0);
    assert!(waiting <= 3 * OUTBOX_BYTES_MAX, "{waiting} bytes wait");
    feed.send(&["t", "last"]);

    let got = read_to_last(&mut oldest);
    let mut next = 0;
    for (n, lost) in &got {
        assert_eq!(*n as u64, next + lost, "each is sent or declared lost, in order: {got:?}");
        next = *n as u64 + 1;
    }
    assert_eq!(next, MESSAGES as u64, "the newest stay");
    assert_eq!(edge.metric(DROPPED), got.iter().map(|(_, lost)| lost).sum::<u64>());
    assert_ne!(edge.metric(DROPPED), 0, "it was slow");

    let got = read_to_last(&mut latest);
    assert!(got.is_sorted_by(|a, b| a.0 < b.0), "{got:?}");
    assert!(got.iter().all(|(_, lost)| *lost == 0), "what a newer one replaces is not lost");
    edge.until_metric("conflated_messages_total", |n| n as usize + got.len() == MESSAGES);
    edge.until_metric("outbox_bytes", |bytes| bytes == 0);
}

/// Recorded messages wait in the log, once for all; others in the outboxes, of which each has its bound.
#[test]
fn memory_is_bounded_whatever_nobody_reads() {
    const SLOW: u64 = 20;
    const BOUND: u64 = 64 << 10;
    const LOG: u64 = 1 << 20;
    const RING: u64 = 1 << 20;
    const SLACK: u64 = 4 << 20;
    for record in ["--record==1MiB", "--no-record"] {
        let feed = Feed::bound();
        let source = format!("--source={}", feed.endpoint);
        let program = Program::start(&[&source, record, "--outbox-bytes-max=64KiB", "--log-bytes-max=1MiB"]);
        let request = Request::websocket("/?topic=t", RAW).bytes();
        let mut reader = Client::upgrade(connect(program.address), &request);
        let _slow: Vec<_> =
            (0..SLOW).map(|_| Client::upgrade(Client::small_buffer(program.address), &request)).collect();
        feed.wait_for(if record == "--no-record" { "+t" } else { "+" });
        let round = |reader: &mut Client| {
            (0..MESSAGES).for_each(|n| {
                feed.send(&["t".to_owned(), body(n)]);
                assert_eq!(reader.message(), Said::Text(body(n)));
            });
        };
        // What the kernel takes is no memory of the process; it is full after this, and the log, too.
        round(&mut reader);
        program.until_metric("dropped_messages_total", |n| n > 0);
        let before = program.rss_bytes();
        (0..4).for_each(|_| round(&mut reader));
        let grown = program.rss_bytes().saturating_sub(before);
        assert!(grown < SLOW * BOUND + LOG + 2 * RING + SLACK, "{record}: grown by {grown} bytes");
        assert!(program.metric("outbox_bytes") <= SLOW * BOUND, "{record}");
    }
}
