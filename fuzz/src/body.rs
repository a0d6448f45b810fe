//! Bodies of publishers, by every decoder: what clients are shown is JSON, and what does not decode is there as it came.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use trestle_hub::decode::{BodyKind, Compression, Decoder, Decoders, Protobuf};
use trestle_hub::encode;
use trestle_messages::v1::Stamp;
use trestle_recorder::{Log, SegmentBuilder};

/// A body may have so many bytes as JSON.
const BYTES_MAX: usize = 16 * 1024;
/// Topic, time, keys and a reason beside the body, with whatever must be escaped in them.
const ENVELOPE_BYTES: usize = 2048;

/// The first byte says what the body is and how it is compressed.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&mode, body)) = bytes.split_first() else { return };
    let decompress = [None, Some(Compression::Zlib), Some(Compression::Gzip)][usize::from(mode >> 3) % 3];
    let kind = match mode & 7 {
        0 => BodyKind::Json,
        1 => BodyKind::Text,
        2 => BodyKind::Binary,
        3 => BodyKind::Event,
        4 => BodyKind::Msgpack,
        5 => BodyKind::Cbor,
        _ => BodyKind::Protobuf(of_ours()),
    };
    let shown = show(kind.clone(), decompress, body);
    assert_eq!(show(kind, decompress, body), shown, "the same body looks the same");
    let bound = 6 * BYTES_MAX + 2 * body.len() + ENVELOPE_BYTES;
    assert!(shown.len() <= bound, "{} bytes of JSON for {}", shown.len(), body.len());
    let message: Message = serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {shown}"));
    if message.event.undecoded.is_some() {
        assert_eq!(
            message.event.base64,
            Some(STANDARD.encode(body)),
            "what does not decode goes out as it came"
        );
    }
}

/// What is looked at. The rest is read over, so that a number may be one that no double holds.
#[derive(Deserialize)]
struct Message {
    event: Shown,
}

#[derive(Deserialize)]
struct Shown {
    undecoded: Option<String>,
    base64: Option<String>,
}

/// As a client of `trestle.v1.json` sees it.
fn show(body_kind: BodyKind, decompress: Option<Compression>, body: &[u8]) -> String {
    let decoder = Decoder { prefix: b"t".to_vec(), decompress, body: body_kind };
    let decoders = Decoders::new(vec![decoder], BYTES_MAX).expect("there is one");
    let log = Log::new(0);
    let (mut cursor, mut segments) = (log.cursor(), Vec::new());
    let mut batch = SegmentBuilder::default();
    batch.push([&b"t"[..], body], Stamp { time_unix_ns: 1, ..Stamp::default() });
    log.append(&mut batch);
    log.read(&mut cursor, &mut segments).expect("the log holds one message");
    let mut out = Vec::new();
    encode::event(&segments[0].message(0), &decoders, false, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// Our own definitions, which have lists, maps, enums and messages within messages.
fn of_ours() -> Protobuf {
    Protobuf::new(trestle_messages::FILE_DESCRIPTOR_SET, "trestle.v1.Event").expect("a type of ours")
}
