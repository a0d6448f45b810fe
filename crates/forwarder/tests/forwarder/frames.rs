//! Frames come out as they went in.

use crate::fixture::{Frames, Publisher, TestForwarder, frames};

/// What real publishers send, and what they might.
fn foreign() -> Vec<Frames> {
    let sixteen: Frames = (0..16u8).map(|n| vec![n; usize::from(n)]).collect();
    let large = vec![b"large".to_vec(), (0..1 << 20).map(|n| (n % 251) as u8).collect()];
    // Bitcoin Core: topic, body, a sequence number of 32 bits, little-endian.
    let bitcoin = |n: u32| frames(&[b"hashblock", &[0xab; 32], &n.to_le_bytes()]);
    vec![
        frames(&[b"topic", b"body"]),
        frames(&[b"alone"]),
        frames(&[b""]),
        frames(&[b"", b"", b""]),
        frames(&[b"after", b"", b"empty", b""]),
        frames(&[b"\xff\xfe\x00topic", b"\x80body"]),
        frames(&[b"\x01looks like", b"\x00a subscription"]),
        sixteen,
        large,
        bitcoin(0),
        bitcoin(u32::MAX),
    ]
}

fn send_all(publisher: &Publisher, messages: &[Frames]) {
    for message in messages {
        publisher.send(&message.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }
}

#[test]
fn a_subscriber_receives_every_message_byte_for_byte() {
    let forwarder = TestForwarder::start(&["--no-record"]);
    let (publisher, subscriber) = (forwarder.publisher(), forwarder.subscriber(&[b""]));
    publisher.wait_asked(b"");
    let messages = foreign();
    send_all(&publisher, &messages);
    for expected in &messages {
        assert!(subscriber.next() == *expected, "{:?}", expected[0]);
    }
}

#[test]
fn an_edge_receives_the_same_with_one_more_frame() {
    let forwarder = TestForwarder::start(&[]);
    // A subscriber beside it, so that frames are shared and not only moved.
    let (edge, subscriber) = (forwarder.edge(&[b""]), forwarder.subscriber(&[b"", b"both"]));
    let publisher = forwarder.publisher();
    publisher.wait_asked(b"both");
    let messages = foreign();
    send_all(&publisher, &messages);
    for (n, expected) in messages.iter().enumerate() {
        let (received, stamp) = edge.next();
        assert!(received == *expected && subscriber.next() == *expected, "{:?}", expected[0]);
        assert_eq!((stamp.offset, stamp.original_frames, stamp.body_start), (n as u64 + 1, false, 0));
    }
}

#[test]
fn a_source_that_binds_is_connected_to() {
    let (publisher, endpoint) = Publisher::bound(&zmq::Context::new());
    let forwarder = TestForwarder::start(&["--no-record", "--source", &endpoint]);
    let subscriber = forwarder.subscriber(&[b"hash"]);
    publisher.wait_asked(b"hash");
    publisher.send(&[b"hashtx", b"body", &7u32.to_le_bytes()]);
    assert_eq!(subscriber.next(), frames(&[b"hashtx", b"body", b"\x07\0\0\0"]));
    forwarder.metric(&format!("trestle_forwarder_messages_in_total{{port=\"{endpoint}\"}}"), |n| n == 1);
}

#[test]
fn a_source_may_come_later() {
    let context = zmq::Context::new();
    let (publisher, endpoint) = Publisher::bound(&context);
    drop(publisher);
    let forwarder = TestForwarder::start(&["--no-record", "--source", &endpoint]);
    let subscriber = forwarder.subscriber(&[b"a"]);
    let publisher = Publisher(context.socket(zmq::XPUB).unwrap());
    // The port is free again as soon as the first socket's thread has closed it.
    let deadline = std::time::Instant::now() + crate::fixture::DEADLINE;
    while publisher.0.bind(&endpoint).is_err() {
        assert!(std::time::Instant::now() < deadline, "{endpoint} stays busy");
        std::thread::yield_now();
    }
    publisher.wait_asked(b"a");
    publisher.send(&[b"a", b"late"]);
    assert_eq!(subscriber.next(), frames(&[b"a", b"late"]));
}

#[test]
fn what_has_come_in_goes_out_before_the_end() {
    let forwarder = TestForwarder::start(&["--no-record"]);
    let (publisher, subscriber) = (forwarder.publisher(), forwarder.subscriber(&[b"n"]));
    publisher.wait_asked(b"n");
    const N: usize = 20_000;
    (0..N).for_each(|n| publisher.send(&[b"n", &n.to_le_bytes()]));
    // Everything has reached the forwarder's thread; the subscriber has read nothing yet.
    forwarder.metric("trestle_forwarder_messages_in_total{port=\"frontend\"}", |n| n == N as u64);
    let context = forwarder.context.clone();
    let took = forwarder.shutdown();
    assert!(took.as_secs() < 5, "{took:?}");
    for n in 0..N {
        assert_eq!(subscriber.next()[1], n.to_le_bytes());
    }
    drop(context);
}
