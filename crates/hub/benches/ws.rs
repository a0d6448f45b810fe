//! What it costs to read clients' WebSocket frames, and to compress and inflate messages.

#![allow(missing_docs, reason = "the macro makes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use trestle_hub::ws::{
    DeflateWindow, Deflater, Incoming, Inflater, Opcode, Reader, client_frame, server_frame_header, unmask,
};

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

/// JSON as feeds have it: the same names over and over, values that change.
fn json(bytes: usize) -> String {
    let mut events = String::new();
    let mut value = 1_u32;
    while events.len() < bytes {
        value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (job, done) = (value >> 25, (value >> 8) % 1000);
        events +=
            &format!(r#"{{"job":"build-{job}","done":{done},"total":1000,"state":"running","at":{value}}},"#);
    }
    events.truncate(bytes);
    events
}

/// One message, compressed by itself. What it takes is per message, however many clients it goes to.
fn deflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("deflate");
    for len in [128, 256, 1024, 8192, 65_536] {
        let text = json(len);
        group.throughput(Throughput::Bytes(len as u64));
        for window in DeflateWindow::ALL {
            let mut deflater = Deflater::new();
            group.bench_function(BenchmarkId::new(format!("{window:?}"), len), |b| {
                b.iter(|| deflater.frame(Opcode::Text, black_box(text.as_bytes()), window));
            });
        }
    }
    group.finish();
}

fn inflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("inflate");
    for len in [128, 1024, 8192, 65_536] {
        let text = json(len);
        let frame = Deflater::new()
            .frame(Opcode::Text, text.as_bytes(), DeflateWindow::Full)
            .expect("JSON gets smaller");
        // The header has no more bytes for the length of the frame than for that of its payload.
        let header_bytes = server_frame_header(Opcode::Text, true, true, frame.len()).len();
        let mut inflater = Inflater::new(len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| {
                let message = inflater.inflate(true, black_box(&frame[header_bytes..])).expect("it is whole");
                assert!(matches!(message, Incoming::Text(inflated) if inflated.len() == len));
            });
        });
        println!("{len} bytes of JSON are {} in a compressed frame", frame.len());
    }
    group.finish();
}

criterion_group!(benches, reader, unmasking, deflate, inflate);
criterion_main!(benches);
