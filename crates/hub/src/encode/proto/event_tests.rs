//! Events in protobuf: what JSON has, untouched and aligned.

use proptest::prelude::*;
use prost::Message as _;
use trestle_messages::EVENT_MARKER;
use trestle_messages::v1::event::Body as TypedBody;
use trestle_messages::v1::progress::State;
use trestle_messages::v1::server_message::{Event, Message, event::Body};
use trestle_messages::v1::{self, Progress, ServerMessage, Stamp, Status};

use super::super::tests::segment;
use super::super::{Format, event as json_event, frame, snapshot_frame};
use super::event::{ALIGNMENT, payload};
use super::twin;
use crate::decode::Decoders;
use crate::ws::{Opcode, server_frame};

const TIME_UNIX_NS: u64 = 1_790_000_000_123_999_999;

fn recorded() -> Stamp {
    Stamp { epoch: 7, offset: 42, time_unix_ns: TIME_UNIX_NS, ..Stamp::default() }
}

fn decoded(payload: &[u8]) -> Event {
    match ServerMessage::decode(payload).unwrap().message {
        Some(Message::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

/// Where each body begins in the payload, by a walk over its fields.
fn body_starts(payload: &[u8]) -> Vec<usize> {
    let [event] = &super::wire::fields_of(payload).unwrap()[..] else { panic!("one event") };
    let offset = |bytes: &[u8]| bytes.as_ptr() as usize - payload.as_ptr() as usize;
    let fields = super::wire::fields_of(event.bytes).unwrap();
    let bodies = fields.iter().filter(|field| [9, 12].contains(&field.number));
    bodies.map(|field| offset(field.bytes)).collect()
}

/// Checks a message against what JSON has of it; returns the event.
fn check(frames: &[&[u8]], stamp: Stamp, snapshot: bool) -> Event {
    let segment = segment(frames, stamp);
    let message = segment.message(0);
    let payload = payload(&message, snapshot);
    let mut json = Vec::new();
    json_event(&message, &Decoders::default(), snapshot, &mut json);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(twin::json(&payload), json, "{frames:?}");
    for start in body_starts(&payload) {
        assert_eq!(start % ALIGNMENT, 0, "{frames:?}");
    }
    decoded(&payload)
}

#[test]
fn bodies_are_untouched() {
    for body in [&b""[..], b"hi", b" {\"a\" : 1}\n", b"\xff\x00", &[b'x'; 1000]] {
        let event = check(&[b"t", body], recorded(), false);
        assert_eq!(event.body, Some(Body::Bytes(bytes::Bytes::copy_from_slice(body))));
        assert_eq!((event.topic.as_deref(), event.time_ms), (Some(&b"t"[..]), 1_790_000_000_123));
        let event = check(&[b"t", body, b"", body], recorded(), true);
        assert_eq!(event.parts, [body, b"", body]);
        assert_eq!((event.body, event.snapshot), (None, Some(true)));
    }
}

#[test]
fn what_is_not_there_is_unset() {
    let alone = check(&[b"alone"], Stamp { offset: 0, ..recorded() }, false);
    assert_eq!((alone.topic, alone.position, alone.snapshot), (None, None, None));
    assert_eq!(check(&[b"", b"x"], recorded(), false).topic.as_deref(), Some(&b""[..]));
    let alias = Stamp { original_frames: true, ..recorded() };
    let split = Stamp { body_start: 6, ..alias };
    assert_eq!(
        check(&[b"10001", b"10001 23 45"], split, false).body,
        Some(Body::Bytes(bytes::Bytes::from_static(b"23 45")))
    );
    assert_eq!(check(&[b"eddn"], alias, false).body, Some(Body::Bytes(bytes::Bytes::new())));
    check(&[b"\xff\x00", b"x"], recorded(), false);
}

#[test]
fn typed_events_keep_their_kind() {
    let progress = |state| {
        let (job, unit) = ("42".into(), "files".into());
        Some(TypedBody::Progress(Progress { job, done: 1 << 60, total: 0, unit, state }))
    };
    let gauges = [("b\"", 1.5), ("a", f64::NAN), ("", 0.0)].map(|(name, value)| (name.to_owned(), value));
    for body in [
        None,
        Some(TypedBody::Json("{\"a\":\n1}".into())),
        Some(TypedBody::Json("1.50".into())),
        Some(TypedBody::Json("{a:1}".into())),
        Some(TypedBody::Text("{}\0".into())),
        Some(TypedBody::Bytes(bytes::Bytes::from_static(b"\0"))),
        progress(State::Unspecified as i32),
        progress(State::Started as i32),
        progress(99),
        Some(TypedBody::Status(Status { gauges: gauges.into() })),
        Some(TypedBody::Status(Status::default())),
    ] {
        let sent = v1::Event { id: "e1".into(), time_unix_ns: 5_999_999, source: "host".into(), body };
        let event = check(&[b"t", EVENT_MARKER, &sent.encode_to_vec()], recorded(), false);
        assert_eq!((event.id.as_deref(), event.source.as_deref()), (Some("e1"), Some("host")));
        assert_eq!(event.time_ms, 5);
    }
    check(&[b"t", EVENT_MARKER, b"\xff"], recorded(), false);
}

/// The event's length is as long as it must be around each power of 128, whatever the padding adds.
#[test]
fn every_length_is_aligned_and_in_its_shortest_form() {
    for topic in 0..9 {
        for body in (0..300).chain(16_200..16_420) {
            let (topic, body) = (vec![b't'; topic], vec![b'x'; body]);
            let segment = segment(&[&topic, &body], recorded());
            let payload = payload(&segment.message(0), false);
            assert_eq!(body_starts(&payload)[0] % ALIGNMENT, 0);
            let event = decoded(&payload);
            assert_eq!(event.body, Some(Body::Bytes(body.into())));
            let length = prost::encoding::encoded_len_varint(payload.len() as u64 - 2);
            assert!(payload.len() < 2 + 128 || payload[length] & 0x80 == 0, "the last byte of the length");
            assert!(payload[..length].iter().skip(1).all(|byte| byte & 0x80 != 0));
        }
    }
}

#[test]
fn a_frame_is_binary_shared_and_its_last_value_is_marked() {
    let segment = segment(&[b"t", b"hi"], recorded());
    let message = segment.message(0);
    let shared = frame(&message, Format::Proto, &Decoders::default());
    assert_eq!(*shared, server_frame(Opcode::Binary, &payload(&message, false)));
    assert!(std::ptr::eq(shared, frame(&message, Format::Proto, &Decoders::default())));
    let last_value = snapshot_frame(&message, Format::Proto, &Decoders::default());
    assert_eq!(last_value, server_frame(Opcode::Binary, &payload(&message, true)));
}

/// What the documentation shows a JavaScript programmer: numbers without a copy.
#[test]
fn the_payload_of_numbers_as_it_goes_out() {
    let segment =
        segment(&[b"adc", &1.5f64.to_le_bytes()], Stamp { time_unix_ns: 0, offset: 0, ..recorded() });
    let expected = [
        &[0x22, 22][..], // event, 22 bytes
        &[0x0a, 3],
        b"adc",              // topic
        &[0x18, 0],          // time_ms
        &[0x7a, 3, 0, 0, 0], // padding
        &[0x4a, 8],
        &1.5f64.to_le_bytes(), // bytes, at 16
    ];
    assert_eq!(payload(&segment.message(0), false), expected.concat());
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![any::<Vec<u8>>(), ".{0,40}".prop_map(String::into_bytes), Just(b"{\"a\":[1,2.5]}".to_vec())]
}

proptest! {
    #[test]
    fn whatever_comes_says_the_same_in_both_formats(
        frames in proptest::collection::vec(any_frame(), 1..6), offset in 0..3u64, time_unix_ns: u64,
        original_frames: bool, body_start in 0..4u32, snapshot: bool,
    ) {
        let stamp = Stamp { epoch: 9, offset, time_unix_ns, original_frames, body_start };
        let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
        prop_assume!(frames.get(1) != Some(&EVENT_MARKER));
        check(&frames, stamp, snapshot);
    }

    /// Whoever sends typed events writes them as it likes.
    #[test]
    fn whatever_looks_like_a_typed_event_says_the_same(
        fields in proptest::collection::vec((1..9u32, "[a-z\\[\\]]{0,8}"), 0..8), tail in any::<Vec<u8>>(), cut in 0..40usize,
    ) {
        let mut event = Vec::new();
        for (number, text) in fields {
            match number {
                2 => prost::encoding::fixed64::encode(number, &7_000_000, &mut event),
                6 => prost::encoding::bytes::encode(number, &vec![0, 1], &mut event),
                7 => {
                    let progress = Progress { job: text, state: cut as i32, ..Progress::default() };
                    prost::encoding::message::encode(number, &progress, &mut event);
                }
                8 => {
                    let status = Status { gauges: [(text, cut as f64)].into() };
                    prost::encoding::message::encode(number, &status, &mut event);
                }
                number => prost::encoding::string::encode(number, &text, &mut event),
            }
        }
        check(&[b"t", EVENT_MARKER, &event], recorded(), false);
        event.extend(&tail);
        event.drain(..cut.min(event.len()) / 8);
        let segment = segment(&[b"t", EVENT_MARKER, &event], recorded());
        decoded(&payload(&segment.message(0), false));
    }
}
