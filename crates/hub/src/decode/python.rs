//! What Python's decoders read in a body, we read, too; `fixtures/make.py` has asked them. And what nobody can read.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::json::ENTRIES_MAX;
use super::*;

const BYTES_MAX: usize = 100_000;

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    hex: String,
    json: Value,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(|char| !char.is_whitespace()).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(&two.iter().collect::<String>(), 16).unwrap()).collect()
}

fn reading() -> BodyKind {
    BodyKind::Protobuf(Protobuf::new(include_bytes!("fixtures/readings.pb"), "example.v1.Reading").unwrap())
}

fn decode(kind: &BodyKind, body: &[u8]) -> Result<String, Undecoded> {
    match kind.decode(Cow::Borrowed(body), BYTES_MAX)? {
        Decoded::Data(json) => Ok(json.into_owned()),
        other => panic!("{other:?}"),
    }
}

fn check(kind: &BodyKind, cases: &str) {
    let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
    assert!(cases.len() > 20);
    for Case { name, hex, json } in cases {
        let body = bytes(&hex);
        let text = decode(kind, &body).unwrap_or_else(|undecoded| panic!("{name}: {undecoded:?}"));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json, "{name}: {text}");
    }
}

#[test]
fn msgpack_is_what_python_reads() {
    check(&BodyKind::Msgpack, include_str!("fixtures/msgpack.json"));
}

#[test]
fn cbor_is_what_python_reads() {
    check(&BodyKind::Cbor, include_str!("fixtures/cbor.json"));
}

#[test]
fn protobuf_is_what_python_reads() {
    check(&reading(), include_str!("fixtures/protobuf.json"));
}

/// What breaks off anywhere is malformed. A protobuf may end behind any of its fields.
#[test]
fn what_breaks_off_is_malformed() {
    for (kind, cases) in [
        (BodyKind::Msgpack, include_str!("fixtures/msgpack.json")),
        (BodyKind::Cbor, include_str!("fixtures/cbor.json")),
    ] {
        for Case { name, hex, .. } in serde_json::from_str::<Vec<Case>>(cases).unwrap() {
            let whole = bytes(&hex);
            for end in 0..whole.len() {
                let undecoded = decode(&kind, &whole[..end]).expect_err(&name);
                assert_eq!(undecoded.cause, Cause::Malformed, "{name}, {end} bytes: {undecoded:?}");
            }
            let behind = decode(&kind, &[&whole[..], b"\x01"].concat()).expect_err(&name);
            assert_eq!(behind.why, "1 bytes behind its end", "{name}");
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let packed = |hex| (BodyKind::Msgpack, hex);
    let cbor = |hex| (BodyKind::Cbor, hex);
    for ((kind, hex), why) in [
        (packed("c1"), "0xc1 at byte 0 says nothing"),
        (packed("81 90 01"), "an array at byte 1 is a key, which JSON cannot have"),
        (packed("81 80 01"), "a map at byte 1 is a key, which JSON cannot have"),
        (packed("81 d4 05 00 01"), "an extension at byte 1 is a key, which JSON cannot have"),
        (cbor("1c"), "no CBOR at byte 0"),
        (cbor("ff"), "a break where nothing is open, before byte 1"),
        (cbor("81 ff"), "a break where nothing is open, before byte 2"),
        (cbor("bf 01 ff"), "a break where nothing is open, before byte 3"),
        (cbor("a1 80 01"), "an array is a key, which JSON cannot have, before byte 2"),
        (cbor("a1 c1 01 01"), "a tag is a key, which JSON cannot have, before byte 2"),
        (cbor("61 ff"), "a text at byte 1 is no UTF-8"),
        (cbor("7f 41 61 ff"), "a string of pieces that are none, before byte 2"),
        (cbor("7f 7f ff ff"), "a string of pieces that are none, before byte 2"),
        ((reading(), "0a 01 ff"), "invalid string value: data is not UTF-8 encoded"),
        ((reading(), "0a 05 61"), "buffer underflow"),
        ((reading(), "f2 01 02 10 ff"), "invalid varint"),
        ((reading(), "f2 01 06 10 80 94 eb dc 03"), "a google.protobuf.Timestamp that JSON cannot have"),
    ] {
        let undecoded = decode(&kind, &bytes(hex)).expect_err(hex);
        assert_eq!((undecoded.cause, undecoded.why.as_str()), (Cause::Malformed, why), "{hex}");
    }
}

/// What Python refuses, or reads in another way.
#[test]
fn what_is_read_otherwise_than_in_python() {
    for (kind, hex, json) in [
        // A text that is none: from before there were bytes.
        (BodyKind::Msgpack, "a1 ff", r#""/w==""#),
        (BodyKind::Msgpack, "81 a1 ff 01", r#"{"/w==":1}"#),
        // Times of the year 10000, and of 2 ns too many.
        (
            BodyKind::Msgpack,
            "c7 0c ff 00000000 0000003afff44180",
            r#"{"ext":-1,"base64":"AAAAAAAAADr/9EGA"}"#,
        ),
        (BodyKind::Msgpack, "d7 ff ee6b2800 00000000", r#"{"ext":-1,"base64":"7msoAAAAAAA="}"#),
        (BodyKind::Msgpack, "c7 03 ff 000000", r#"{"ext":-1,"base64":"AAAA"}"#),
        // Both keys of one text: to a browser the later.
        (BodyKind::Msgpack, "82 01 a1 61 a1 31 a1 62", r#"{"1":"a","1":"b"}"#),
        (BodyKind::Cbor, "c1 fb 7ff0000000000000", r#"{"tag":1,"value":"Infinity"}"#),
        (BodyKind::Cbor, "c1 61 61", r#"{"tag":1,"value":"a"}"#),
        (BodyKind::Cbor, "c0 01", r#"{"tag":0,"value":1}"#),
        (BodyKind::Cbor, "c1 1b 7fffffffffffffff", r#"{"tag":1,"value":"9223372036854775807"}"#),
        // Bytes, which Python has as an integer of any length.
        (
            BodyKind::Cbor,
            "c2 50 ffffffffffffffffffffffffffffffff",
            r#"{"tag":2,"value":"/////////////////////w=="}"#,
        ),
        (BodyKind::Cbor, "d8 20 61 61", r#"{"tag":32,"value":"a"}"#),
        (BodyKind::Cbor, "c4 82 21 19 6ab3", r#"{"tag":4,"value":[-2,27315]}"#),
        // An `Any` of a type that is not in the set.
        (reading(), "c2 02 08 0a 03 78 2f 79 12 01 00", r#"{"any":{"@type":"x/y","value":"AA=="}}"#),
    ] {
        assert_eq!(decode(&kind, &bytes(hex)).unwrap(), json, "{hex}");
    }
}

#[test]
fn each_item_may_say_that_it_is_cbor() {
    let items = [0xd9, 0xd9, 0xf7, 0x01].repeat(23);
    let body = [&[0x97][..], &items[..4 * 23]].concat();
    assert_eq!(decode(&BodyKind::Cbor, &body).unwrap(), format!("[{}1]", "1,".repeat(22)));
}

/// `n` levels of one thing in another.
fn nested(open: &[u8], inner: &[u8], n: usize) -> Vec<u8> {
    [open.repeat(n), inner.to_vec()].concat()
}

/// The field `number` of a message, which holds `inner`.
fn field(number: u32, inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(inner.len() as u64, &mut out);
    [out, inner.to_vec()].concat()
}

fn packed_any(type_url: &str, value: &[u8]) -> Vec<u8> {
    [field(1, type_url.as_bytes()), field(2, value)].concat()
}

#[test]
fn what_is_nested_too_deep_does_no_harm() {
    let deepest = decode(&BodyKind::Msgpack, &nested(&[0x91], &[1], 128)).unwrap();
    assert!(crate::encode::is_json(&deepest));
    let mut bodies = vec![];
    for n in [129, 1_000_000] {
        for open in [&[0x91][..], &[0x81, 1]] {
            bodies.push((BodyKind::Msgpack, nested(open, &[1], n)));
        }
        for open in [&[0x81][..], &[0x9f], &[0xa1, 1], &[0xbf, 1], &[0xd0], &[0xd9, 0xd9, 0xf7]] {
            bodies.push((BodyKind::Cbor, nested(open, &[1], n)));
        }
    }
    let inner = |n| (0..n).fold(Vec::new(), |inner, _| field(17, &inner));
    assert!(decode(&reading(), &inner(90)).is_ok());
    bodies.extend([101, 200, 10_000].map(|n| (reading(), inner(n))));
    // Lists and objects both count in JSON.
    bodies.push((reading(), (0..90).fold(Vec::new(), |inner, _| field(22, &inner))));
    let list = |inner: Vec<u8>| field(6, &field(1, &inner));
    bodies.push((reading(), field(33, &(0..60).fold(Vec::new(), |inner, _| list(inner)))));
    for (kind, body) in bodies {
        let undecoded = decode(&kind, &body).expect_err(kind.name());
        assert_eq!(undecoded.cause, Cause::TooDeep, "{} bytes of {}: {undecoded:?}", body.len(), kind.name());
    }
}

#[test]
fn bodies_that_claim_more_than_they_have_break_off() {
    for (kind, hex) in [
        (BodyKind::Msgpack, "dd ffffffff 01"),
        (BodyKind::Msgpack, "df ffffffff 01 01"),
        (BodyKind::Msgpack, "db ffffffff 61"),
        (BodyKind::Msgpack, "c6 ffffffff 00"),
        (BodyKind::Msgpack, "c9 ffffffff 05 00"),
        (BodyKind::Cbor, "9b ffffffffffffffff 01"),
        (BodyKind::Cbor, "bb ffffffffffffffff 01 01"),
        (BodyKind::Cbor, "5b ffffffffffffffff 00"),
        (BodyKind::Cbor, "7b 7fffffffffffffff 61"),
    ] {
        assert_eq!(decode(&kind, &bytes(hex)).unwrap_err().why, "it breaks off", "{hex}");
    }
}

#[test]
fn what_has_too_much_in_it_is_not_made() {
    let too_many = ENTRIES_MAX + 1;
    let many = |kind: BodyKind, body: Vec<u8>| {
        let decoded = kind.decode(Cow::Owned(body), usize::MAX / 2);
        assert_eq!(decoded.unwrap_err().cause, Cause::TooMany, "{}", kind.name());
    };
    let length = u32::try_from(too_many).unwrap().to_be_bytes();
    many(BodyKind::Msgpack, [&[0xdd][..], &length, &vec![0xc0; too_many]].concat());
    many(BodyKind::Cbor, [&[0x9a][..], &length, &vec![0xf6; too_many]].concat());
    many(reading(), [0x40, 1].repeat(too_many));
    many(reading(), field(11, &vec![0; too_many]));
    many(reading(), field(12, &vec![0; 8 * too_many]));
    many(reading(), [0xb2, 1, 0].repeat(too_many));
    many(reading(), [0xc0, 0x3e, 1].repeat(too_many));
    many(reading(), field(40, &packed_any("/example.v1.Reading", &[0x40, 1].repeat(too_many))));

    let large = |kind: BodyKind, body: &[u8]| {
        assert_eq!(decode(&kind, body).expect_err(kind.name()).cause, Cause::TooLarge, "{}", kind.name());
    };
    let text = vec![b'a'; BYTES_MAX - 2];
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    let fits = [&[0xdb][..], &length, &text].concat();
    assert_eq!(decode(&BodyKind::Msgpack, &fits).unwrap().len(), BYTES_MAX);
    large(BodyKind::Msgpack, &[&[0x91, 0xdb][..], &length, &text].concat());
    large(BodyKind::Msgpack, &[&[0xc6][..], &length, &text].concat());
    // Each a byte, and four in JSON.
    large(BodyKind::Cbor, &[&[0x99, 0xff, 0xff][..], &[0xf6; 0xffff]].concat());
    large(reading(), &field(1, &vec![b'\n'; BYTES_MAX / 2]));
    let anys = (0..200).fold(Vec::new(), |inner, _| packed_any("/google.protobuf.Any", &inner));
    large(reading(), &field(40, &anys));
    let mut anys = vec![0x40, 1];
    let filling = field(9, &vec![0; 60_000]);
    anys.extend(filling);
    let anys = (0..20).fold(anys, |inner, _| packed_any("/example.v1.Reading", &field(40, &inner)));
    large(reading(), &field(40, &anys));
}

#[test]
fn the_message_must_be_in_the_set() {
    let set = include_bytes!("fixtures/readings.pb");
    let error = |set: &[u8], name: &str| Protobuf::new(set, name).unwrap_err().to_string();
    assert_eq!(error(set, "Reading"), "no message `Reading` in the set; it has `example.v1.Reading`");
    assert!(error(set, "example.v1.Reading.State").contains("no message"), "an enum is none");
    assert_eq!(error(b"", "a.B"), "no message `a.B` in the set; it has none");
    assert!(error(b"no set", "a.B").starts_with("no descriptor set that stands alone"));
}

/// One of the cases, with a byte changed and cut short.
fn damaged(cases: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
    let bodies: Vec<_> = cases.iter().map(|case| bytes(&case.hex)).filter(|body| !body.is_empty()).collect();
    (proptest::sample::select(bodies), any::<proptest::sample::Index>(), any::<u8>(), any::<u16>()).prop_map(
        |(mut body, at, byte, end)| {
            let at = at.index(body.len());
            body[at] = byte;
            body.truncate(usize::from(end).max(1));
            body
        },
    )
}

fn is_json_or_refused(kind: &BodyKind, body: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(json) = decode(kind, body) {
        prop_assert!(crate::encode::is_json(&json), "{}", json);
        prop_assert!(json.len() <= BYTES_MAX);
    }
    Ok(())
}

proptest! {
    #[test]
    fn whatever_comes_is_json_or_refused(
        garbage in proptest::collection::vec(any::<u8>(), 1..200),
        msgpack in damaged(include_str!("fixtures/msgpack.json")),
        cbor in damaged(include_str!("fixtures/cbor.json")),
        protobuf in damaged(include_str!("fixtures/protobuf.json")),
    ) {
        for (kind, body) in [(BodyKind::Msgpack, msgpack), (BodyKind::Cbor, cbor), (reading(), protobuf)] {
            is_json_or_refused(&kind, &body)?;
            is_json_or_refused(&kind, &garbage)?;
        }
    }
}
