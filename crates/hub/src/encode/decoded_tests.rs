//! Decoded bodies as clients see them, and who pays for them.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use prost::Message as _;
use trestle_messages::EVENT_MARKER;
use trestle_messages::v1::event::Body as TypedBody;
use trestle_messages::v1::{Event, Stamp};

use super::tests::segment;
use super::*;
use crate::decode::{BodyKind, Compression, Decoder, Decoders};

const BYTES_MAX: usize = 1_000;

fn decoders(decompress: Option<Compression>, body: BodyKind) -> Decoders {
    Decoders::new(vec![Decoder { prefix: b"t".to_vec(), decompress, body }], BYTES_MAX).unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn stamp() -> Stamp {
    Stamp { time_unix_ns: 5_000_000, ..Stamp::default() }
}

/// What stands behind the topic.
fn body(frames: &[&[u8]], decoders: &Decoders) -> String {
    let segment = segment(&[&[&b"t"[..]], frames].concat(), stamp());
    let mut out = Vec::new();
    event(&segment.message(0), decoders, false, &mut out);
    let text = String::from_utf8(out).unwrap();
    let text = text.strip_prefix(r#"{"event":{"topic":"t","#).unwrap().strip_suffix("}}").unwrap();
    text.replace(r#""time_ms":5,"#, "")
}

fn counted(decoders: &Decoders) -> (u64, u64) {
    let undecoded = decoders.undecoded().map(|(_, _, n)| n).sum();
    (decoders.decoded().map(|(_, n)| n).sum(), undecoded)
}

#[test]
fn each_kind_has_its_field() {
    let json = decoders(None, BodyKind::Json);
    assert_eq!(body(&[b" {\"a\": 1} "], &json), r#""data": {"a": 1} "#);
    assert_eq!(body(&[b"42"], &json), r#""data":42"#);
    assert_eq!(body(&[b"{}"], &decoders(None, BodyKind::Text)), r#""text":"{}""#);
    assert_eq!(body(&[b"{}"], &decoders(None, BodyKind::Binary)), r#""base64":"e30=""#);
    let zipped = decoders(Some(Compression::Zlib), BodyKind::Json);
    assert_eq!(body(&[&zlib(b"[1]")], &zipped), r#""data":[1]"#);
    let event = Event { id: "7".to_owned(), body: Some(TypedBody::Text("x".to_owned())), ..Event::default() };
    let event = event.encode_to_vec();
    assert_eq!(body(&[&event], &decoders(None, BodyKind::Event)), r#""id":"7","text":"x""#);
}

#[test]
fn what_does_not_decode_goes_out_as_it_came_with_the_reason() {
    let decoders = decoders(None, BodyKind::Json);
    assert_eq!(body(&[b"\xff"], &decoders), r#""base64":"/w==","undecoded":"no UTF-8 at byte 0""#);
    let zipped = self::decoders(Some(Compression::Zlib), BodyKind::Text);
    let expected = r#""base64":"e30=","undecoded":"zlib: incorrect header check"#;
    assert!(body(&[b"{}"], &zipped).starts_with(expected), "{}", body(&[b"{}"], &zipped));
    assert_eq!(counted(&decoders), (0, 1));
}

#[test]
fn each_frame_is_decoded_by_itself() {
    let decoders = decoders(None, BodyKind::Json);
    let expected = r#""parts":[{"data":1},{"base64":"eA==","undecoded":"no JSON: expected value at line 1 column 1"},{"text":""}]"#;
    assert_eq!(body(&[b"1", b"x", b""], &decoders), expected);
    assert_eq!(counted(&decoders), (1, 1));
}

/// It removes its topic's last value, and looks so to everybody.
#[test]
fn an_empty_body_is_no_error() {
    for kind in [BodyKind::Json, BodyKind::Text, BodyKind::Binary, BodyKind::Event] {
        for decompress in [None, Some(Compression::Gzip)] {
            let decoders = decoders(decompress, kind.clone());
            assert_eq!(body(&[b""], &decoders), r#""text":"""#);
            assert_eq!(counted(&decoders), (0, 0));
        }
    }
}

#[test]
fn topics_without_a_decoder_are_as_ever() {
    let segment = segment(&[b"u", b"\xff"], stamp());
    let decoders = decoders(None, BodyKind::Json);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    event(&segment.message(0), &decoders, false, &mut with);
    event(&segment.message(0), &Decoders::default(), false, &mut without);
    assert_eq!(with, without);
}

/// Its body is what clients match, and by which they know their place.
#[test]
fn a_message_without_a_topic_is_not_decoded() {
    let segment = segment(&[b"t: 1"], stamp());
    let (decoders, mut out) = (decoders(None, BodyKind::Binary), Vec::new());
    event(&segment.message(0), &decoders, false, &mut out);
    assert_eq!(out, br#"{"event":{"time_ms":5,"text":"t: 1"}}"#);
    assert_eq!(counted(&decoders), (0, 0));
}

#[test]
fn an_alias_gives_it_one() {
    let stamp = Stamp { original_frames: true, ..stamp() };
    let segment = segment(&[b"t", &zlib(b"[1]")], stamp);
    let mut out = Vec::new();
    event(&segment.message(0), &decoders(Some(Compression::Zlib), BodyKind::Json), false, &mut out);
    assert_eq!(out, br#"{"event":{"topic":"t","time_ms":5,"data":[1]}}"#);
}

#[test]
fn a_typed_event_is_found_whatever_the_decoder() {
    let text = Some(TypedBody::Text("x".to_owned()));
    let event = Event { time_unix_ns: 9_000_000, body: text, ..Event::default() }.encode_to_vec();
    for kind in [BodyKind::Json, BodyKind::Binary, BodyKind::Event] {
        let decoders = decoders(None, kind);
        assert_eq!(body(&[EVENT_MARKER, &event], &decoders), r#""time_ms":9,"text":"x""#);
    }
    let zipped = decoders(Some(Compression::Zlib), BodyKind::Event);
    for frames in [&[EVENT_MARKER, &zlib(&event)][..], &[&zlib(&event)]] {
        assert_eq!(body(frames, &zipped), r#""time_ms":9,"text":"x""#);
    }
    assert!(body(&[EVENT_MARKER, &event], &zipped).contains(r#""undecoded":"zlib: "#));
    let two = body(&[&zlib(&event), &zlib(&event)], &zipped);
    assert_eq!(two, r#""parts":[{"text":"x"},{"text":"x"}]"#, "the time is of a message with one");
}

#[test]
fn it_is_decoded_once_for_all_who_see_it_and_never_for_those_who_do_not() {
    let decoders = decoders(Some(Compression::Zlib), BodyKind::Json);
    let zipped = zlib(br#"{"a":1}"#);
    let segment = segment(&[b"t", &zipped], stamp());
    let message = segment.message(0);
    for format in [Format::Raw, Format::Proto, Format::Zws] {
        let plain =
            frame(&self::segment(&[b"t", &zipped], stamp()).message(0), format, &Decoders::default()).clone();
        assert_eq!(frame(&message, format, &decoders), &plain, "the bytes as they came");
        assert_eq!(
            snapshot_frame(&message, format, &decoders).len(),
            snapshot_frame(&message, format, &Decoders::default()).len()
        );
    }
    assert_eq!(counted(&decoders), (0, 0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for format in [Format::Json, Format::Sse] {
                    for frame in [
                        frame(&message, format, &decoders).clone(),
                        snapshot_frame(&message, format, &decoders),
                    ] {
                        assert!(memchr::memmem::find(&frame, br#""data":{"a":1}"#).is_some());
                    }
                }
            });
        }
    });
    assert_eq!(counted(&decoders), (1, 0));
}
