//! What edges see: stamps, aliases, splits, beats, epochs.

use std::time::{Duration, Instant, SystemTime};

use crate::fixture::{Edge, Publisher, TestForwarder, frames};

#[test]
fn recorded_messages_are_numbered_from_1_without_a_hole() {
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let forwarder = TestForwarder::start(&[]);
    let (edge, publishers) = (forwarder.edge(&[b""]), [forwarder.publisher(), forwarder.publisher()]);
    publishers.iter().for_each(|publisher| publisher.wait_asked(b""));
    const N: u64 = 5_000;
    for n in 0..N {
        publishers[n as usize % 2].send(&[b"topic", &n.to_le_bytes()]);
    }
    let stamps: Vec<_> = (0..N).map(|_| edge.next().1).collect();
    let epoch = stamps[0].epoch;
    assert_ne!(epoch, 0);
    let mut time = before;
    for (n, stamp) in stamps.iter().enumerate() {
        assert_eq!((stamp.epoch, stamp.offset), (epoch, n as u64 + 1));
        assert!(stamp.time_unix_ns >= time, "{} then {}", time, stamp.time_unix_ns);
        time = stamp.time_unix_ns;
    }
    let beat = edge.next_beat();
    assert_eq!((beat.epoch, beat.head, beat.tail, beat.recorded.len()), (epoch, N, 1, 1));
}

#[test]
fn unrecorded_topics_carry_offset_0_and_come_on_demand_only() {
    let forwarder = TestForwarder::start(&["--record", "jobs/"]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b"jobs/", b"chat/"]));
    let subscriber = forwarder.subscriber(&[b"news/"]);
    publisher.wait_asked(b"news/");
    for topic in [&b"jobs/1"[..], b"chat/1", b"news/1", b"jobs/2"] {
        publisher.send(&[topic, b"body"]);
    }
    let seen: Vec<_> =
        (0..3).map(|_| edge.next()).map(|(frames, stamp)| (frames[0].clone(), stamp.offset)).collect();
    let expected =
        [(&b"jobs/1"[..], 1), (b"chat/1", 0), (b"jobs/2", 2)].map(|(topic, n)| (topic.to_vec(), n));
    assert_eq!(seen, expected);
    assert_eq!(subscriber.next(), frames(&[b"news/1", b"body"]));
}

#[test]
fn no_record_numbers_nothing() {
    let forwarder = TestForwarder::start(&["--no-record"]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b"a"]));
    publisher.wait_asked(b"a");
    publisher.send(&[b"a", b"body"]);
    let (message, stamp) = edge.next();
    assert_eq!((message, stamp.offset), (frames(&[b"a", b"body"]), 0));
    assert_ne!(stamp.epoch, 0);
    let beat = edge.next_beat();
    assert_eq!((beat.head, beat.recorded.len()), (0, 0));
}

#[test]
fn an_alias_stands_in_front_on_the_link_alone() {
    let (publisher, endpoint) = Publisher::bound(&zmq::Context::new());
    let forwarder = TestForwarder::start(&["--source", &format!("eddn={endpoint}")]);
    let (edge, subscriber) =
        (forwarder.edge(&[b"eddn"]), forwarder.subscriber(&[b"x", b"\0trestle", b"end"]));
    // `\0trestle` is not asked for, but everything is, for the record.
    publisher.wait_asked(b"end");
    publisher.send(&[b"x one frame"]);
    publisher.send(&[b"x", b"y"]);
    publisher.send(&[b"\0trestle looks reserved, but is no topic here"]);
    for raw in
        [&[&b"x one frame"[..]][..], &[b"x", b"y"], &[b"\0trestle looks reserved, but is no topic here"]]
    {
        let (message, stamp) = edge.next();
        assert_eq!(message, frames(&[&[&b"eddn"[..]], raw].concat()));
        assert!(stamp.original_frames && stamp.body_start == 0 && stamp.offset > 0);
        assert_eq!(subscriber.next(), frames(raw));
    }
}

#[test]
fn a_split_puts_the_topic_in_front_and_says_where_the_body_begins() {
    let forwarder = TestForwarder::start(&["--split", r"=\x20", "--split", r"salt/=\n\n"]);
    let (edge, subscriber) =
        (forwarder.edge(&[b"10001", b"salt/a b", b"plain"]), forwarder.subscriber(&[b"", b"end"]));
    let publisher = forwarder.publisher();
    publisher.wait_asked(b"end");
    let sent =
        [&[&b"10001 23 45"[..]][..], &[b"salt/a b\n\nbody"], &[b"plain"], &[b"10001 5", b"two frames"]];
    sent.iter().for_each(|message| publisher.send(message));
    let topics = [Some((&b"10001"[..], 6)), Some((b"salt/a b", 10)), None, None];
    for (raw, split) in sent.into_iter().zip(topics) {
        let (message, stamp) = edge.next();
        let front: Vec<&[u8]> = split.iter().map(|(topic, _)| *topic).collect();
        assert_eq!(message, frames(&[&front, raw].concat()));
        let body_start = split.map_or(0, |(_, body_start)| body_start);
        assert_eq!((stamp.original_frames, stamp.body_start), (split.is_some(), body_start));
    }
    for message in sent {
        assert_eq!(subscriber.next(), frames(message), "the backend's frames are untouched");
    }
}

#[test]
fn reserved_topics_of_publishers_are_dropped_and_counted() {
    let forwarder = TestForwarder::start(&[]);
    let (publisher, subscriber) = (forwarder.publisher(), forwarder.subscriber(&[b"", b"mark"]));
    let edge = forwarder.edge(&[b""]);
    let epoch = edge.next_beat().epoch;
    publisher.wait_asked(b"mark");
    publisher.send(&[b"\0trestle", b"trestle.v1.Beat", b"forged"]);
    publisher.send(&[b"\0trestle/more"]);
    publisher.send(&[b"fine", b"body"]);
    let (message, stamp) = edge.next();
    assert_eq!((message, stamp.offset), (frames(&[b"fine", b"body"]), 1));
    assert_eq!(subscriber.next(), frames(&[b"fine", b"body"]));
    assert_eq!(edge.next_beat().epoch, epoch);
    forwarder.metric("trestle_forwarder_dropped_messages_total{cause=\"reserved_topic\"}", |n| n == 2);
}

/// If beats came only with the second, each of these would wait for the next.
const ROUNDS: u32 = 8;
const WELL_BELOW_A_BEAT_EACH: Duration = Duration::from_secs(4);

#[test]
fn every_new_edge_gets_a_beat_at_once() {
    let forwarder = TestForwarder::start(&[]);
    let start = Instant::now();
    let edges: Vec<Edge> = (0..ROUNDS).map(|_| forwarder.edge(&[b""])).collect();
    assert!(start.elapsed() < WELL_BELOW_A_BEAT_EACH, "{:?}", start.elapsed());
    drop(edges);
}

#[test]
fn a_beat_follows_each_burst() {
    let forwarder = TestForwarder::start(&[]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b""]));
    publisher.wait_asked(b"");
    let start = Instant::now();
    for burst in 1..=u64::from(ROUNDS) {
        (0..10).for_each(|_| publisher.send(&[b"a", b"b"]));
        while edge.next_beat().head != burst * 10 {}
    }
    assert!(start.elapsed() < WELL_BELOW_A_BEAT_EACH, "{:?}", start.elapsed());
}

#[test]
fn beats_are_few_beside_messages() {
    let forwarder = TestForwarder::start(&[]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b""]));
    publisher.wait_asked(b"");
    const N: u64 = 20_000;
    let start = Instant::now();
    (0..N).for_each(|_| publisher.send(&[b"a", b"b"]));
    let mut beats = 0;
    while edge.next_beat().head != N {
        beats += 1;
    }
    // At most one in 50 ms, and the ones that a new edge gets.
    let most = start.elapsed().as_millis() / 50 + 3;
    assert!(beats <= most, "{beats} beats in {:?}", start.elapsed());
}

#[test]
fn a_restart_is_a_new_epoch() {
    let epochs = [(); 2].map(|()| {
        let forwarder = TestForwarder::start(&[]);
        let epoch = forwarder.edge(&[]).next_beat().epoch;
        forwarder.shutdown();
        epoch
    });
    assert_ne!(epochs[0], epochs[1]);
}

/// What was lost before it came here has no number, and no edge can tell.
#[test]
fn a_publishers_own_counter_tells_what_never_came() {
    let forwarder = TestForwarder::start(&["--sequence", "hash", "--record", "hash", "--record", "other"]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b"hash", b"other"]));
    publisher.wait_asked(b"hash");
    publisher.wait_asked(b"other");
    let send = |topic: &[u8], counter: u32| publisher.send(&[topic, b"body", &counter.to_le_bytes()]);
    for counter in [7, 8, 11, 12] {
        send(b"hashtx", counter);
    }
    send(b"hashblock", 3);
    send(b"hashblock", 8);
    // Followed by no flag.
    send(b"other", 1);
    send(b"other", 9);
    let offsets: Vec<_> = (0..8).map(|_| edge.next().1.offset).collect();
    assert_eq!(offsets, (1..9).collect::<Vec<_>>());
    let line = "trestle_forwarder_dropped_messages_total{cause=\"sequence_gap\"}";
    assert_eq!(forwarder.metric(line, |missing| missing >= 6), 6);
}
