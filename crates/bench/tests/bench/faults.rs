//! What a server can do wrong with messages.

use std::collections::BTreeMap;

use trestle_bench::report::Delivery;

use crate::server::{Client, Message, Server};
use crate::{delivery, flags, measure, only};

/// Three clients, 40 messages, on a schedule.
const FORTY: &str = "latency --clients 3 --rate 400 --messages 40 --warm-up 2";

fn against(
    deliver: impl FnMut(&mut Client, &Message<'_>) + Send + 'static,
    line: &str,
) -> trestle_bench::report::Report {
    let server = Server::start(deliver);
    measure(&format!("{line} {}", server.flags()))
}

/// Lost, duplicated, out of order, misrouted, corrupted, disconnected.
fn troubles(delivery: &Delivery) -> [u64; 6] {
    let Delivery { lost, duplicated, out_of_order, misrouted, corrupted, disconnected, .. } = *delivery;
    [lost, duplicated, out_of_order, misrouted, corrupted, disconnected]
}

#[test]
fn a_sound_server_has_no_trouble() {
    let report = against(|client, message| client.send(message.frame), FORTY);
    let delivery = delivery(&report);
    assert_eq!(troubles(delivery), [0; 6]);
    assert_eq!(
        (delivery.published, delivery.expected, delivery.delivered, delivery.complete),
        (40, 120, 120, 40)
    );
    assert_eq!((delivery.latency.count, delivery.last_client.count, delivery.frames), (120, 40, 120));
    // A frame of 128 B has a header of four.
    assert_eq!(delivery.wire_bytes, 120 * 132);
    assert!(!delivery.stalled && delivery.reads > 0);
    assert_eq!((only(&report).connect.ready, only(&report).connect.failed), (3, 0));
    assert!(delivery.latency.p50_us > 0.0 && delivery.latency.max_us < 5e6);
    trestle_bench::verdict(&report, true).unwrap();
}

#[test]
fn frames_in_pieces_and_frames_in_one_piece_are_the_same() {
    let pieces = |client: &mut Client, message: &Message<'_>| {
        // Held back until eight are together, and then cut where no frame ends.
        client.held.extend_from_slice(message.frame);
        if message.seq % 8 == 7 {
            let held = std::mem::take(&mut client.held);
            held.chunks(37 + client.nth).for_each(|piece| client.send(piece));
        }
    };
    let report = against(pieces, &format!("{FORTY} --verify"));
    let delivery = delivery(&report);
    assert_eq!((troubles(delivery), delivery.delivered, delivery.frames), ([0; 6], 120, 120));
}

#[test]
fn every_trouble_is_counted_exactly() {
    let faulty = |client: &mut Client, message: &Message<'_>| match (client.nth, message.seq) {
        // 0, 7, 14, 21, 28 and 35.
        (1, seq) if seq % 7 == 0 => {}
        // 0, 10, 20 and 30.
        (0, seq) if seq % 10 == 0 => {
            client.send(message.frame);
            client.send(message.frame);
        }
        // 3, 13, 23 and 33 come behind the next.
        (2, seq) if seq % 10 == 3 => client.held = message.frame.to_vec(),
        (2, seq) if seq % 10 == 4 => {
            client.send(message.frame);
            let held = std::mem::take(&mut client.held);
            client.send(&held);
        }
        _ => client.send(message.frame),
    };
    let report = against(faulty, FORTY);
    let delivery = delivery(&report);
    assert_eq!(troubles(delivery), [6, 4, 4, 0, 0, 0]);
    assert_eq!((delivery.delivered, delivery.expected, delivery.complete), (114, 120, 34));
    assert!(delivery.stalled);
    let verdict = trestle_bench::verdict(&report, false).unwrap_err();
    assert_eq!((verdict.code, verdict.reason.as_str()), (1, "run 1: 4 duplicated, run 1: 4 out of order"));
    let strict = trestle_bench::verdict(&report, true).unwrap_err();
    assert!(strict.reason.ends_with("run 1: 6 lost"));
}

#[test]
fn the_last_message_twice_is_seen_though_all_have_come() {
    let twice = |client: &mut Client, message: &Message<'_>| {
        client.send(message.frame);
        if message.seq == 39 {
            client.send(message.frame);
        }
    };
    assert_eq!(troubles(delivery(&against(twice, FORTY))), [0, 3, 0, 0, 0, 0]);
}

#[test]
fn a_client_that_is_closed_loses_the_rest_and_the_code_is_told() {
    let closing = |client: &mut Client, message: &Message<'_>| match (client.nth, message.seq) {
        (0, 20) => client.close(4008),
        (0, 21..) => {}
        _ => client.send(message.frame),
    };
    let report = against(closing, FORTY);
    let delivery = delivery(&report);
    assert_eq!(troubles(delivery), [20, 0, 0, 0, 0, 1]);
    assert_eq!(delivery.closes, BTreeMap::from([("4008".to_owned(), 1)]));
}

#[test]
fn a_damaged_mark_is_seen_and_a_damaged_body_with_verify() {
    let damaging = |client: &mut Client, message: &Message<'_>| {
        let mut frame = message.frame.to_vec();
        match (client.nth, message.seq) {
            // A digit of the time; the number cannot be trusted any more, so the message is lost as well.
            (0, 5) => frame[4 + 30] = b'x',
            // A letter of the padding.
            (1, 6) => frame[4 + 100] = b'#',
            _ => {}
        }
        client.send(&frame);
    };
    let report = against(damaging, FORTY);
    assert_eq!(troubles(delivery(&report)), [1, 0, 0, 0, 1, 0]);
    let report = against(damaging, &format!("{FORTY} --verify"));
    // The mark, whose digits are no part of the body, and the other's body.
    assert_eq!(troubles(delivery(&report)), [1, 0, 0, 0, 2, 0]);
}

#[test]
fn frames_that_are_forbidden_are_seen_with_verify() {
    let reserved = |client: &mut Client, message: &Message<'_>| {
        let mut frame = message.frame.to_vec();
        frame[0] |= if (client.nth, message.seq) == (2, 39) { 0x40 } else { 0 };
        client.send(&frame);
    };
    assert_eq!(troubles(delivery(&against(reserved, FORTY))), [0; 6]);
    let report = against(reserved, &format!("{FORTY} --verify"));
    assert_eq!(troubles(delivery(&report)), [0, 0, 0, 0, 1, 0]);
}

#[test]
fn a_topic_for_each_client_and_strays_among_them() {
    let line = "topics --clients 4 --topic t/{i} --in-flight 8 --messages 100 --warm-up 1";
    let routing = |client: &mut Client, message: &Message<'_>| {
        if message.topic == Some(client.nth) {
            client.send(message.frame);
        }
    };
    let report = against(routing, line);
    assert_eq!((troubles(delivery(&report)), delivery(&report).delivered), ([0; 6], 100));
    assert_eq!(report.settings.topics, 4);
    let strays = |client: &mut Client, message: &Message<'_>| {
        if message.topic == Some(client.nth) || message.seq == 8 {
            client.send(message.frame);
        }
    };
    let report = against(strays, line);
    assert_eq!(troubles(delivery(&report)), [0, 0, 0, 3, 0, 0]);
}

#[test]
fn a_closed_loop_that_loses_as_much_as_it_may_have_in_flight_stops_and_fails() {
    let losing = |client: &mut Client, message: &Message<'_>| match message.seq {
        10 | 12 | 15 | 19 => {}
        _ => client.send(message.frame),
    };
    let line = "fanout --clients 2 --in-flight 4 --seconds 60 --warm-up 1";
    let report = against(losing, line);
    let delivery = delivery(&report);
    // Each takes a place for good; with the fourth there is no room any more.
    assert_eq!((delivery.lost, delivery.stalled), (8, true));
    assert_eq!((delivery.published, delivery.complete), (20, 16));
    let verdict = trestle_bench::verdict(&report, flags(line).is_strict()).unwrap_err();
    assert_eq!((verdict.code, verdict.reason.as_str()), (1, "run 1: 8 lost"));
}

#[test]
fn a_closed_loop_never_has_more_in_flight() {
    // The server looks at how far the slowest client is behind when a message comes.
    let mut sent = BTreeMap::<usize, u32>::new();
    let report = against(
        move |client, message| {
            let far = sent.entry(client.nth).or_default();
            assert!(message.seq <= *far, "messages come in order");
            *far = message.seq + 1;
            client.send(message.frame);
        },
        "fanout --clients 3 --in-flight 1 --seconds 0.2 --warm-up 1",
    );
    let delivery = delivery(&report);
    assert_eq!((delivery.lost, delivery.delivered), (0, delivery.published * 3));
    assert!(delivery.published > 5, "{delivery:?}");
}

#[test]
fn pings_are_answered() {
    let pinging = |client: &mut Client, message: &Message<'_>| {
        if message.seq.is_multiple_of(10) {
            client.send(b"\x89\x02hi");
        }
        client.send(message.frame);
    };
    let report = against(pinging, &format!("{FORTY} --verify"));
    let delivery = delivery(&report);
    assert_eq!((troubles(delivery), delivery.pings, delivery.frames), ([0; 6], 12, 132));
}
