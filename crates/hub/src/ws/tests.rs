//! The reader against RFC 6455, rule by rule.

use super::properties::{Event, read, read_bytewise};
use super::*;

const LIMIT: usize = 1000;
const MASK: [u8; 4] = [0x11, 0x82, 0xf3, 0x44];

fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    client_frame(opcode, fin, MASK, payload)
}

/// Checks what `frames` give, in one piece and byte by byte.
fn check(frames: &[Vec<u8>], events: &[Event], error: Option<ReadError>) {
    let bytes = frames.concat();
    let expected = (events.to_vec(), error);
    assert_eq!(read(&mut Reader::new(LIMIT, false), [&bytes]), expected, "in one piece");
    assert_eq!(read_bytewise(&mut Reader::new(LIMIT, false), &bytes), expected, "byte by byte");
}

fn text(text: &str) -> Event {
    Event::Text(text.into())
}

use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};

#[test]
fn section_5_6_messages_of_one_frame() {
    check(
        &[frame(Text, true, "ØMQ".as_bytes()), frame(Binary, true, b"\xff\0"), frame(Text, true, b"")],
        &[text("ØMQ"), Event::Binary(b"\xff\0".into()), text("")],
        None,
    );
}

#[test]
fn section_5_4_fragments_make_one_message() {
    check(
        &[
            frame(Text, false, b"a"),
            frame(Continuation, false, b""),
            frame(Continuation, false, b"b"),
            frame(Continuation, true, b"c"),
            frame(Binary, false, b""),
            frame(Continuation, true, b""),
        ],
        &[text("abc"), Event::Binary(vec![])],
        None,
    );
}

#[test]
fn section_5_4_control_frames_come_at_once_between_fragments() {
    check(
        &[
            frame(Text, false, b"a"),
            frame(Ping, true, b"1"),
            frame(Continuation, false, b"b"),
            frame(Pong, true, b""),
            frame(Continuation, true, b"c"),
        ],
        &[Event::Ping(b"1".into()), Event::Pong(vec![]), text("abc")],
        None,
    );
}

#[test]
fn section_5_4_a_continuation_needs_a_start() {
    check(&[frame(Continuation, true, b"x")], &[], Some(ReadError::UnexpectedContinuation));
    check(
        &[frame(Text, false, b"a"), frame(Continuation, true, b"b"), frame(Continuation, false, b"c")],
        &[text("ab")],
        Some(ReadError::UnexpectedContinuation),
    );
}

#[test]
fn section_5_4_no_new_message_inside_a_fragmented_one() {
    for opcode in [Text, Binary] {
        check(
            &[frame(Text, false, b"a"), frame(opcode, true, b"b")],
            &[],
            Some(ReadError::UnfinishedMessage),
        );
    }
}

#[test]
fn section_5_5_control_payloads_up_to_125_bytes() {
    let payload = [7; 125];
    check(
        &[frame(Ping, true, &payload), frame(Pong, true, &payload)],
        &[Event::Ping(payload.into()), Event::Pong(payload.into())],
        None,
    );
    check(&[frame(Ping, true, &[7; 126])], &[], Some(ReadError::ControlTooLong));
}

#[test]
fn section_5_5_1_frames_after_a_close_are_ignored() {
    let (code, reason) = (Some(1000), "bye".to_owned());
    check(
        &[
            frame(Text, false, b"a"),
            frame(Close, true, b"\x03\xe8bye"),
            vec![0xff; 20],
            frame(Ping, true, b""),
        ],
        &[Event::Close { code, reason }],
        None,
    );
    let mut reader = Reader::new(LIMIT, false);
    assert_eq!(
        read(&mut reader, [&frame(Close, true, b"")]).0,
        [Event::Close { code: None, reason: String::new() }]
    );
    assert_eq!(read(&mut reader, [&frame(Text, true, b"late")]), (vec![], None));
    assert!(reader.is_ended());
}

#[test]
fn section_5_5_1_a_close_ends_an_unfinished_message_too() {
    let mut reader = Reader::new(LIMIT, false);
    assert_eq!(read(&mut reader, [&frame(Text, false, &[b'a'; 500])]), (vec![], None));
    assert!(reader.held_bytes() >= 500);
    read(&mut reader, [&frame(Close, true, b"")]);
    assert_eq!(reader.held_bytes(), 0);
}

#[test]
fn section_5_5_1_bad_close_frames() {
    for (body, error) in [
        (&b"\x03"[..], ReadError::CloseBodyTooShort),
        (b"\x03\xed", ReadError::CloseCodeInvalid(1005)),
        (b"\x03\xe8\xff", ReadError::InvalidUtf8),
    ] {
        check(&[frame(Close, true, body)], &[], Some(error));
    }
}

#[test]
fn section_7_1_7_nothing_is_read_after_an_error() {
    let mut reader = Reader::new(LIMIT, false);
    assert_eq!(read(&mut reader, [b"\x81\x05Hello"]), (vec![], Some(ReadError::Unmasked)));
    assert_eq!(read(&mut reader, [&frame(Text, true, b"late")]), (vec![], None));
    assert_eq!((reader.is_ended(), reader.held_bytes()), (true, 0));
}

#[test]
fn section_7_4_1_errors_have_their_close_codes() {
    for (error, code) in [
        (ReadError::Unmasked, 1002),
        (ReadError::CloseCodeInvalid(0), 1002),
        (ReadError::InvalidUtf8, 1007),
        (ReadError::TooLarge { message_bytes_max: 1 }, 1009),
    ] {
        assert_eq!(error.close_code().value(), code);
    }
}

#[test]
fn section_8_1_text_is_utf8_across_fragments() {
    let bytes = "κόσμε𝄞".as_bytes();
    for cut in 0..=bytes.len() {
        check(
            &[frame(Text, false, &bytes[..cut]), frame(Continuation, true, &bytes[cut..])],
            &[text("κόσμε𝄞")],
            None,
        );
    }
    check(&[frame(Text, true, b"\xce")], &[], Some(ReadError::InvalidUtf8));
    check(&[frame(Text, false, b"\xce"), frame(Continuation, true, b"")], &[], Some(ReadError::InvalidUtf8));
    check(&[frame(Binary, true, b"\xce")], &[Event::Binary(vec![0xce])], None);
}

/// As Autobahn's cases 6.4 want: the byte that makes the text invalid ends the connection, though neither its frame
/// nor its message is complete.
#[test]
fn section_8_1_bad_text_fails_inside_an_incomplete_frame() {
    for bad in [&b"\xf4\x90"[..], b"\xed\xa0", b"\xc0", b"\xf5", b"\xe0\x80", b"\x80", b"\xce\xba\xce\x41"] {
        let payload = [bad, &[b'x'; 100]].concat();
        let bytes = frame(Text, false, &payload);
        let fails_after = 6 + bad.len();
        let mut reader = Reader::new(LIMIT, false);
        assert_eq!(read_bytewise(&mut reader, &bytes[..fails_after - 1]), (vec![], None), "{bad:x?}");
        let last = read(&mut reader, [&bytes[fails_after - 1..fails_after]]);
        assert_eq!(last, (vec![], Some(ReadError::InvalidUtf8)), "{bad:x?}");
    }
}

#[test]
fn section_10_4_too_large_as_soon_as_it_is_announced() {
    let error = ReadError::TooLarge { message_bytes_max: LIMIT };
    let whole = frame(Binary, true, &[1; LIMIT]);
    check(&[whole], &[Event::Binary([1; LIMIT].into())], None);

    let header_only = frame(Binary, true, &[1; LIMIT + 1])[..8].to_vec();
    check(&[header_only], &[], Some(error));
    let largest = vec![0x82, 0xff, 127, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0];
    check(&[largest], &[], Some(error));

    let second_header_only = frame(Continuation, true, &[1; 301])[..8].to_vec();
    check(&[frame(Text, false, &[b'1'; 700]), second_header_only], &[], Some(error));
    let (first, second) = (frame(Binary, false, &[1; 700]), frame(Continuation, true, &[1; 300]));
    check(
        &[first, frame(Ping, true, &[2; 125]), second],
        &[Event::Ping([2; 125].into()), Event::Binary([1; LIMIT].into())],
        None,
    );
}

#[test]
fn rfc_7692_compressed_messages_are_handed_out_as_they_are() {
    let mut bytes = frame(Text, false, b"\xff");
    bytes[0] |= 0x40;
    bytes.extend(frame(Continuation, true, b"\xfe"));
    let payload = b"\xff\xfe".to_vec();
    let expected = (vec![Event::Compressed { text: true, payload }], None);
    assert_eq!(read(&mut Reader::new(LIMIT, true), [&bytes]), expected);
    assert_eq!(read_bytewise(&mut Reader::new(LIMIT, true), &bytes), expected);
    assert_eq!(read(&mut Reader::new(LIMIT, false), [&bytes]), (vec![], Some(ReadError::ReservedBits)));
}

#[test]
fn a_whole_frame_is_borrowed_from_the_input() {
    let mut bytes = [frame(Text, true, b"one"), frame(Binary, true, &[2; 300])].concat();
    let range = bytes.as_ptr_range();
    let mut reader = Reader::new(LIMIT, false);
    let mut input = &mut bytes[..];
    let mut n_messages = 0;
    while let Some(incoming) = reader.next(&mut input).unwrap() {
        let payload = match incoming {
            Incoming::Text(text) => text.as_bytes(),
            Incoming::Binary(payload) => payload,
            other => panic!("{other:?}"),
        };
        assert!(range.contains(&payload.as_ptr()));
        n_messages += 1;
    }
    assert_eq!((n_messages, reader.held_bytes()), (2, 0));
}

#[test]
fn a_caller_may_stop_between_messages() {
    let mut bytes = [frame(Text, true, b"one"), frame(Text, true, b"two")].concat();
    let half = bytes.len() / 2;
    let mut reader = Reader::new(LIMIT, false);
    let mut input = &mut bytes[..];
    assert_eq!(reader.next(&mut input), Ok(Some(Incoming::Text("one"))));
    assert_eq!(input.len(), half);
    assert_eq!(reader.next(&mut input), Ok(Some(Incoming::Text("two"))));
    assert_eq!(reader.next(&mut input), Ok(None));
}

#[test]
fn a_reader_is_small() {
    assert!(size_of::<Reader>() <= 64, "{} bytes", size_of::<Reader>());
    assert!(size_of::<Incoming<'_>>() <= 32);
}

#[test]
fn section_5_5_pings_and_closes_are_answered_by_the_protocol_itself() {
    for (incoming, reply) in [
        (Incoming::Ping(b"Hello"), Some(server_frame(Pong, b"Hello"))),
        (Incoming::Close { code: Some(1001), reason: "bye" }, Some(close_echo(Some(1001)))),
        (Incoming::Close { code: None, reason: "" }, Some(close_echo(None))),
        (Incoming::Pong(b""), None),
        (Incoming::Text("ping"), None),
        (Incoming::Compressed { text: false, payload: b"" }, None),
    ] {
        assert_eq!(incoming.reply(), reply, "{incoming:?}");
    }
}
