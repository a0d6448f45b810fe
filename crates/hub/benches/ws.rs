//! What it costs to read clients' WebSocket frames.

#![allow(missing_docs, reason = "the macro makes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use trestle_hub::ws::{Incoming, Opcode, Reader, client_frame, unmask};

const N_MESSAGES: usize = 64;
const MESSAGE_BYTES: usize = 128;

fn stream() -> Vec<u8> {
    let payload = [b'x'; MESSAGE_BYTES];
    let frames =
        (0..N_MESSAGES).map(|i| client_frame(Opcode::Text, true, (i as u32 * 77).to_be_bytes(), &payload));
    frames.flatten().collect()
}

/// Text bytes in `bytes`, fed `read_bytes` at a time.
fn read(reader: &mut Reader, bytes: &mut [u8], read_bytes: usize) -> usize {
    let mut n_text = 0;
    for mut input in bytes.chunks_mut(read_bytes) {
        while let Some(incoming) = reader.next(&mut input).expect("the stream is valid") {
            if let Incoming::Text(text) = black_box(incoming) {
                n_text += text.len();
            }
        }
    }
    n_text
}

/// 64 masked texts of 128 bytes, all in one read, and cut so that frames straddle the reads.
fn reader(c: &mut Criterion) {
    let stream = stream();
    let mut scratch = stream.clone();
    let mut group = c.benchmark_group("reader");
    group.throughput(Throughput::Elements(N_MESSAGES as u64));
    for (name, read_bytes) in [("one read", stream.len()), ("reads of 1000 B", 1000)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                // The reader unmasks in place; the copy stands in for the read from a socket.
                scratch.copy_from_slice(&stream);
                let n_text = read(&mut Reader::new(64 * 1024, false), &mut scratch, read_bytes);
                assert_eq!(n_text, N_MESSAGES * MESSAGE_BYTES);
            });
        });
    }
    group.finish();
}

fn unmasking(c: &mut Criterion) {
    let mut group = c.benchmark_group("unmask");
    for len in [16, 128, 4096, 65_536] {
        let mut payload = vec![0x5a; len + 1];
        group.throughput(Throughput::Bytes(len as u64));
        for (alignment, skip) in [("aligned", 0), ("unaligned", 1)] {
            group.bench_function(BenchmarkId::new(alignment, len), |b| {
                b.iter(|| unmask(black_box(&mut payload[skip..skip + len]), [1, 2, 3, 4], 0));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, reader, unmasking);
criterion_main!(benches);
