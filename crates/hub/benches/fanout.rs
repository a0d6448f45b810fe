//! What a delivery costs in user space: from a segment of the log to the call of `writev(2)`, which here takes all.
//!
//! For counts of instructions, run the binary under `valgrind --tool=callgrind` with the words
//! `instructions json|proto|raw MESSAGES ROUNDS` (1,000 sessions), with two numbers of rounds: the difference is theirs.

#![allow(missing_docs, reason = "the macro makes a public function")]

use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use trestle_hub::{Grant, Hub, Limits, Protocol};
use trestle_recorder::{Log, RecordRules, SegmentBuilder, Stamper};

const N_SESSIONS: usize = 10_000;
const BODY_BYTES: usize = 128;
const PROTOCOLS: [(&str, Protocol); 3] =
    [("raw", Protocol::RustWebsocket), ("json", Protocol::Json), ("proto", Protocol::Proto)];

struct Feed {
    log: Arc<Log>,
    stamper: Stamper,
}

impl Feed {
    fn new() -> Self {
        Self { log: Arc::new(Log::new(1 << 20)), stamper: Stamper::new(1, RecordRules::everything()) }
    }

    /// A segment not seen before, so that its frames are made anew.
    fn append(&mut self, n_messages: usize) {
        let mut batch = SegmentBuilder::default();
        for _ in 0..n_messages {
            batch.push([&b"jobs/42/progress"[..], &[b'x'; BODY_BYTES]], self.stamper.stamp(b"jobs/42", 1));
        }
        self.log.append(&mut batch);
    }
}

/// A hub whose sessions all want everything and have nothing waiting.
fn hub(protocol: Protocol, n_sessions: usize, feed: &Feed) -> Hub {
    let mut hub = Hub::new("bench".to_owned(), Limits::default(), Arc::clone(&feed.log), Instant::now());
    for _ in 0..n_sessions {
        hub.open(protocol, None, Arc::new(Grant::everything()), [&b"jobs/"[..]]);
    }
    visit_all(&mut hub);
    hub
}

/// Visits all who have something; returns the bytes that they were given.
fn visit_all(hub: &mut Hub) -> usize {
    let mut bytes = 0;
    let dirty = hub.take_dirty();
    for session in &dirty {
        hub.visit(*session, |slices| {
            let n = slices.iter().map(|slice| slice.len()).sum();
            bytes += n;
            Ok(n)
        });
    }
    hub.end_turn(dirty);
    bytes
}

fn deliver(hub: &mut Hub, now: Instant) {
    while hub.pull(now) {
        visit_all(hub);
    }
}

fn fanout(c: &mut Criterion) {
    let mut group = c.benchmark_group("route and visit");
    group.sample_size(20);
    for (name, protocol) in PROTOCOLS {
        for n_messages in [1, 8, 64] {
            let mut feed = Feed::new();
            let (mut hub, now) = (hub(protocol, N_SESSIONS, &feed), Instant::now());
            group.throughput(Throughput::Elements((N_SESSIONS * n_messages) as u64));
            group.bench_function(BenchmarkId::new(name, n_messages), |b| {
                b.iter_batched(
                    || feed.append(n_messages),
                    |()| deliver(&mut hub, now),
                    criterion::BatchSize::PerIteration,
                );
            });
            let counts = hub.counts();
            assert_eq!(counts.deliveries % (N_SESSIONS * n_messages) as u64, 0, "everything arrived");
            assert!(counts.deliveries > 0 && hub.outbox_bytes() == 0);
        }
    }
    group.finish();
}

criterion_group!(benches, fanout);

fn main() {
    let words: Vec<_> = std::env::args().collect();
    let Some(at) = words.iter().position(|word| word == "instructions") else {
        benches();
        Criterion::default().configure_from_args().final_summary();
        return;
    };
    let named = PROTOCOLS.into_iter().find(|(name, _)| *name == words[at + 1]);
    let (_, protocol) = named.expect("raw, json or proto");
    let [n_messages, n_rounds] = [at + 2, at + 3].map(|at| words[at].parse().expect("a number"));
    let mut feed = Feed::new();
    let (mut hub, now) = (hub(protocol, 1_000, &feed), Instant::now());
    for _ in 0..n_rounds {
        feed.append(n_messages);
        deliver(&mut hub, now);
    }
    println!("{} deliveries", hub.counts().deliveries);
}
