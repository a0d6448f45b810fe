//! What it costs to encode a message, once in the process and shared by all who want it.

#![allow(missing_docs, reason = "the macro makes a public function")]

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use trestle_hub::decode::{self, BodyKind, Decoder, Decoders};
use trestle_hub::encode::{self, Body, Format};
use trestle_messages::v1::Stamp;
use trestle_recorder::{Log, Segment, SegmentBuilder};

const BODY_BYTES: usize = 128;

fn segment(body: &[u8]) -> Arc<Segment> {
    let log = Log::new(0);
    let (mut cursor, mut segments) = (log.cursor(), Vec::new());
    let mut batch = SegmentBuilder::default();
    let stamp = Stamp { epoch: 1, offset: 1, time_unix_ns: 1_790_000_000_000_000_000, ..Stamp::default() };
    batch.push([&b"jobs/42/progress"[..], body], stamp);
    log.append(&mut batch);
    log.read(&mut cursor, &mut segments).expect("nothing was dropped");
    segments.remove(0)
}

fn bodies() -> [(&'static str, Vec<u8>); 3] {
    let json = br#"{"job":42,"name":"build","tags":["a","b"],"note":""#;
    let mut json = json.to_vec();
    json.resize(BODY_BYTES - 2, b'x');
    json.extend_from_slice(b"\"}");
    let binary = (0..BODY_BYTES as u8).map(|byte| byte ^ 0xa5).collect();
    [("json", json), ("text", vec![b'x'; BODY_BYTES]), ("binary", binary)]
}

fn encoding(c: &mut Criterion) {
    let decoders = Decoders::default();
    for (kind, body) in bodies() {
        assert_eq!(body.len(), BODY_BYTES);
        let shared = segment(&body);
        let mut group = c.benchmark_group(format!("{BODY_BYTES} B {kind}"));
        group.bench_function("classify", |b| b.iter(|| black_box(Body::classify(black_box(&body)))));
        group.bench_function("event", |b| {
            let mut out = Vec::with_capacity(1024);
            b.iter(|| {
                out.clear();
                encode::event(black_box(&shared.message(0)), &decoders, false, &mut out);
                black_box(&out);
            });
        });
        for (name, format) in
            [("json frame", Format::Json), ("proto frame", Format::Proto), ("raw frame", Format::Raw)]
        {
            // A message keeps its frame, so each turn has a new one; that it is made is not counted.
            group.bench_function(name, |b| {
                b.iter_batched_ref(
                    || segment(&body),
                    |segment| black_box(encode::frame(&segment.message(0), format, &decoders)).len(),
                    BatchSize::SmallInput,
                );
            });
        }
        group.bench_function("json frame, again", |b| {
            b.iter(|| {
                black_box(encode::frame(&black_box(&shared).message(0), Format::Json, &decoders)).clone()
            });
        });
        group.finish();
    }
}

/// What a decoder costs the messages that it is for, and what a hundred cost those that they are not for.
fn decoding(c: &mut Criterion) {
    let [(_, json), _, _] = bodies();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&json).expect("a buffer takes everything");
    let zlib = zlib.finish().expect("a buffer takes everything");
    let of = |prefix: &str, decompress| Decoder { prefix: prefix.into(), decompress, body: BodyKind::Json };
    let others = (0..100).map(|n| of(&format!("jobs/{n:02}-"), None)).collect();
    let group_name = format!("{BODY_BYTES} B json frame");
    let mut group = c.benchmark_group(group_name);
    for (name, body, decoders) in [
        ("no decoder", &json, vec![]),
        ("100 decoders of others", &json, others),
        ("json", &json, vec![of("jobs/", None)]),
        ("zlib, json", &zlib, vec![of("jobs/", Some(decode::Compression::Zlib))]),
    ] {
        let decoders = Decoders::new(decoders, 1 << 20).expect("each has a prefix of its own");
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || segment(body),
                |segment| black_box(encode::frame(&segment.message(0), Format::Json, &decoders)).len(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, encoding, decoding);
criterion_main!(benches);
