//! Which decoder a topic has, what each kind takes, and what a bomb comes to.

use std::io::Write as _;

use flate2::write::{GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

const BYTES_MAX: usize = 10_000;

fn decoder(prefix: &str, decompress: Option<Compression>, body: BodyKind) -> Decoder {
    Decoder { prefix: prefix.into(), decompress, body }
}

fn compressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// Decodes a body by the only decoder.
fn decode(
    body: BodyKind,
    decompress: Option<Compression>,
    frame: &[u8],
) -> Result<Decoded<'_>, (Cause, String)> {
    let decoders = Decoders::new(vec![decoder("", decompress, body)], BYTES_MAX).unwrap();
    let decoded = decoders.decode(decoders.of(b"t").unwrap(), frame);
    let counted = decoders.decoded().map(|(_, n)| n).sum::<u64>();
    let refused: Vec<_> = decoders.undecoded().filter(|(_, _, n)| *n > 0).collect();
    match &decoded {
        Ok(_) => assert_eq!((counted, refused), (1, vec![])),
        Err(undecoded) => {
            let kind = decoders.decoders[0].body.name();
            assert_eq!((counted, refused), (0, vec![(kind, undecoded.cause, 1)]));
        }
    }
    decoded.map_err(|undecoded| (undecoded.cause, undecoded.why))
}

#[test]
fn the_longest_prefix_decides() {
    let given = [("a", BodyKind::Text), ("a/b", BodyKind::Binary), ("b", BodyKind::Event)];
    let given = given.map(|(prefix, body)| decoder(prefix, None, body));
    let decoders = Decoders::new(given.to_vec(), BYTES_MAX).unwrap();
    let of = |topic: &str| decoders.of(topic.as_bytes()).map(|decoder| decoder.body.name());
    assert_eq!(of("a/b/c"), Some("binary"));
    assert_eq!(of("a/c"), Some("text"));
    assert_eq!((of("b"), of("c"), of("")), (Some("event"), None, None));
    let all = Decoders::new(vec![decoder("", None, BodyKind::Json)], BYTES_MAX).unwrap();
    assert!(all.of(b"").is_some() && all.of(b"\xff").is_some());
}

#[test]
fn a_prefix_has_one_decoder() {
    let given = ["a", "b", "a"].map(|prefix| decoder(prefix, None, BodyKind::Json));
    let error = Decoders::new(given.to_vec(), BYTES_MAX).unwrap_err();
    assert_eq!(error, SamePrefix { prefix: b"a".to_vec(), second: 2 });
    assert_eq!(error.to_string(), "the prefix `a` has a decoder already");
}

#[test]
fn json_is_of_any_kind_and_stays_as_it_is() {
    for json in ["{ \"a\":1 }\n", "42", "\"x\"", "null", " [18446744073709551616,1e999] "] {
        let decoded = decode(BodyKind::Json, None, json.as_bytes());
        assert!(matches!(decoded, Ok(Decoded::Data(Cow::Borrowed(same))) if same == json), "{json}");
    }
    for (bad, why) in [
        (&b"{"[..], "no JSON: EOF while parsing an object at line 1 column 1"),
        (b"{} x", "no JSON: trailing characters at line 1 column 4"),
        (b"[1,\xff]", "no UTF-8 at byte 3"),
    ] {
        let Err((Cause::Malformed, said)) = decode(BodyKind::Json, None, bad) else { panic!("{why}") };
        assert_eq!(said, why);
    }
    let (deepest, deeper) = ("[".repeat(128) + &"]".repeat(128), "[".repeat(129) + &"]".repeat(129));
    assert!(decode(BodyKind::Json, None, deepest.as_bytes()).is_ok());
    let (cause, why) = decode(BodyKind::Json, None, deeper.as_bytes()).unwrap_err();
    assert_eq!((cause, why.as_str()), (Cause::TooDeep, "nested more than 128 deep"));
}

#[test]
fn text_is_whatever_is_utf8_and_bytes_are_everything() {
    let decoded = decode(BodyKind::Text, None, b"\0{}\x1b\xc2\x85");
    assert!(matches!(decoded, Ok(Decoded::Text(text)) if text == "\0{}\u{1b}\u{85}"));
    assert_eq!(decode(BodyKind::Text, None, b"ab\xff").unwrap_err().1, "no UTF-8 at byte 2");
    assert!(
        matches!(decode(BodyKind::Binary, None, b"{}"), Ok(Decoded::Bytes(bytes)) if &bytes[..] == b"{}")
    );
}

#[test]
fn what_is_broken_does_not_decompress() {
    let json = br#"{"some":"text","more":[1,2,3,4,5,6,7,8]}"#;
    for compression in [Compression::Zlib, Compression::Gzip] {
        let whole = compressed(compression, json);
        let decoded = decode(BodyKind::Json, Some(compression), &whole);
        assert!(matches!(decoded, Ok(Decoded::Data(data)) if data.as_bytes() == json));
        for end in 1..whole.len() {
            let (cause, why) = decode(BodyKind::Binary, Some(compression), &whole[..end]).unwrap_err();
            assert_eq!(cause, Cause::Compression, "{end} bytes: {why}");
        }
        let behind = [&whole[..], b"x"].concat();
        assert_eq!(decode(BodyKind::Json, Some(compression), &behind).unwrap_err().0, Cause::Compression);
        assert_eq!(decode(BodyKind::Json, Some(compression), json).unwrap_err().0, Cause::Compression);
    }
    let [zlib, gzip] = [Compression::Zlib, Compression::Gzip].map(|by| compressed(by, json));
    assert_eq!(decode(BodyKind::Json, Some(Compression::Gzip), &zlib).unwrap_err().0, Cause::Compression);
    assert_eq!(decode(BodyKind::Json, Some(Compression::Zlib), &gzip).unwrap_err().0, Cause::Compression);
    let broken = decode(BodyKind::Json, Some(Compression::Zlib), &zlib[..9]).unwrap_err();
    assert_eq!(broken.1, "zlib: it breaks off");
}

#[test]
fn gzip_may_have_several_members() {
    let two = ["[1,", "2]"].map(|half| compressed(Compression::Gzip, half.as_bytes())).concat();
    let decoded = decode(BodyKind::Json, Some(Compression::Gzip), &two);
    assert!(matches!(decoded, Ok(Decoded::Data(json)) if json == "[1,2]"));
}

#[test]
fn a_bomb_goes_no_further_than_the_bound() {
    for compression in [Compression::Zlib, Compression::Gzip] {
        for (bytes, bursts) in
            [(BYTES_MAX - 1, false), (BYTES_MAX, false), (BYTES_MAX + 1, true), (50_000_000, true)]
        {
            let bomb = compressed(compression, &vec![b' '; bytes]);
            match decode(BodyKind::Text, Some(compression), &bomb) {
                Ok(Decoded::Text(text)) => assert!(!bursts && text.len() == bytes),
                Err((cause, why)) => {
                    assert!(bursts && cause == Cause::TooLarge, "{why}");
                    assert_eq!(why, "more than 10000 bytes when decompressed");
                }
                Ok(other) => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_reason_is_short() {
    let undecoded = Undecoded::malformed("é".repeat(1_000));
    assert_eq!(undecoded.why.chars().count(), WHY_CHARS_MAX + 1);
}

proptest! {
    #[test]
    fn the_decoder_is_that_of_the_longest_prefix(
        prefixes in proptest::collection::btree_set("[ab]{0,4}", 0..12),
        topics in proptest::collection::vec("[abc]{0,6}", 1..20),
    ) {
        let given: Vec<_> = prefixes.iter().map(|prefix| decoder(prefix, None, BodyKind::Json)).collect();
        let decoders = Decoders::new(given, BYTES_MAX).unwrap();
        for topic in &topics {
            let longest = prefixes.iter().filter(|prefix| topic.starts_with(*prefix)).max_by_key(|prefix| prefix.len());
            let found = decoders.of(topic.as_bytes()).map(|decoder| &decoder.prefix[..]);
            prop_assert_eq!(found, longest.map(|prefix| prefix.as_bytes()));
        }
    }

    #[test]
    fn what_is_compressed_comes_out_and_what_is_not_does_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 1..2_000),
        gzip: bool,
        flip in any::<proptest::sample::Index>(),
        garbage in proptest::collection::vec(any::<u8>(), 1..100),
    ) {
        let compression = if gzip { Compression::Gzip } else { Compression::Zlib };
        let mut frame = compressed(compression, &bytes);
        let decoded = decode(BodyKind::Binary, Some(compression), &frame);
        prop_assert!(matches!(decoded, Ok(Decoded::Bytes(same)) if same[..] == bytes));
        let flip = flip.index(frame.len());
        frame[flip] ^= 0x10;
        let _ = decode(BodyKind::Binary, Some(compression), &frame);
        let _ = decode(BodyKind::Binary, Some(compression), &garbage);
    }
}
