//! ZeroMQ RFC 45, by properties: what goes out is what was published, what comes in is a wish or nothing.

use proptest::collection::vec;
use proptest::prelude::*;
use trestle_messages::topic::TOPIC_BYTES_MAX;
use trestle_messages::v1::Stamp;

use super::tests::segment;
use super::zws::{Wish, is_ready_of, is_routing_id, parse, part, ready, routing_id, subscription};
use super::{Format, frame, snapshot_frame};
use crate::decode::Decoders;
use crate::protocol::Role;

/// The ØMQ frames in the server's frames, which are whole, binary and not compressed.
fn decoded(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [0x82, short, rest @ ..] = bytes {
        let (len, rest) = match short {
            126 => (usize::from(u16::from_be_bytes(rest[..2].try_into().unwrap())), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            short => (usize::from(*short), rest),
        };
        frames.push((rest[0], rest[1..len].to_vec()));
        bytes = &rest[len..];
    }
    assert!(bytes.is_empty(), "{bytes:?} is no frame");
    frames
}

fn sent(frames: &[Vec<u8>], stamp: Stamp) -> Vec<(u8, Vec<u8>)> {
    let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
    let segment = segment(&frames, stamp);
    let message = segment.message(0);
    assert_eq!(
        frame(&message, Format::Zws, &Decoders::default()),
        &snapshot_frame(&message, Format::Zws, &Decoders::default())
    );
    decoded(frame(&message, Format::Zws, &Decoders::default()))
}

fn flagged(frames: &[Vec<u8>]) -> Vec<(u8, Vec<u8>)> {
    let last = frames.len() - 1;
    frames.iter().enumerate().map(|(nth, frame)| (u8::from(nth < last), frame.clone())).collect()
}

proptest! {
    #[test]
    fn all_frames_go_out_as_they_came(frames in vec(vec(any::<u8>(), 0..300), 1..6)) {
        prop_assert_eq!(sent(&frames, Stamp::default()), flagged(&frames));
    }

    #[test]
    fn alias_and_split_are_undone(frames in vec(vec(any::<u8>(), 0..300), 1..6), body_start in 0u32..400) {
        let stamp = Stamp { original_frames: true, body_start, ..Stamp::default() };
        let mut with_topic = vec![b"alias".to_vec()];
        with_topic.extend(frames.iter().cloned());
        prop_assert_eq!(sent(&with_topic, stamp), flagged(&frames));
    }

    #[test]
    fn whatever_comes_is_a_wish_or_nothing(bytes in vec(0u8..4, 0..8)) {
        let expected = match bytes.get(..2) {
            Some([0, 1]) => Some(Wish::Subscribe(&bytes[2..])),
            Some([0, 0]) => Some(Wish::Unsubscribe(&bytes[2..])),
            _ => None,
        };
        prop_assert_eq!(parse(&bytes), expected);
    }

    #[test]
    fn a_ready_cut_short_is_none(cut in 0usize..=39) {
        let ready = b"\x02\x05READY\x0bSocket-Type\0\0\0\x03SUB\x08Identity\0\0\0\0";
        let is_whole = [26, 39].contains(&cut);
        prop_assert_eq!(is_ready_of(Role::Subscriber, &ready[..cut]), is_whole);
    }

    #[test]
    fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..60)) {
        let ready = [&b"\x02\x05READY"[..], &bytes].concat();
        let _ = (is_ready_of(Role::Subscriber, &ready), is_routing_id(&bytes), parse(&bytes), part(&bytes));
    }
}

#[test]
fn frames_of_64_kib_and_more() {
    let frames = vec![vec![1; 65_534], vec![2; 65_535], vec![3; 70_000]];
    assert_eq!(sent(&frames, Stamp::default()), flagged(&frames));
}

#[test]
fn a_topic_has_its_bound() {
    let wish = |n: usize| [&[0, 1][..], &vec![7; n]].concat();
    assert!(parse(&wish(TOPIC_BYTES_MAX)).is_some());
    assert_eq!(parse(&wish(TOPIC_BYTES_MAX + 1)), None);
    assert_eq!(parse(b"\0\x01\0trestle"), None, "beats are no clients' business");
}

#[test]
fn only_subscribers_are_greeted() {
    let of =
        |socket: &[u8]| [b"\x02\x05READY\x0bsocket-type\0\0\0", &[socket.len() as u8][..], socket].concat();
    assert!(is_ready_of(Role::Subscriber, &of(b"SUB")) && is_ready_of(Role::Subscriber, &of(b"XSUB")));
    assert!(!is_ready_of(Role::Subscriber, &of(b"PUB")) && !is_ready_of(Role::Subscriber, b"\x02\x05READY"));
    assert!(!is_ready_of(Role::Subscriber, b"\0\x01topic"));
}

#[test]
fn the_servers_greetings_to_the_letter() {
    assert_eq!(routing_id()[..], [0x82, 1, 0]);
    assert_eq!(ready(Role::Subscriber)[..], *b"\x82\x1b\x02\x05READY\x0bSocket-Type\0\0\0\x04XPUB");
    assert_eq!(ready(Role::Publisher)[..], *b"\x82\x1b\x02\x05READY\x0bSocket-Type\0\0\0\x04XSUB");
    assert!(
        is_routing_id(b"\0") && is_routing_id(b"\0me") && !is_routing_id(b"") && !is_routing_id(b"\x01me")
    );
}

#[test]
fn what_publishers_say_and_are_told() {
    assert_eq!(part(b"\0last"), Some((&b"last"[..], false)));
    assert_eq!(part(b"\x01"), Some((&b""[..], true)));
    assert_eq!((part(b""), part(b"\x02\x05READY"), part(b"\x03")), (None, None, None));
    assert_eq!(subscription(b"chat/")[..], *b"\x82\x07\0\x01chat/");
}
