//! What a message costs on its way into the log, with and without what keeps it: the forwarder pays this for each.
//!
//! For counts of instructions, run the binary under `valgrind --tool=callgrind` with the words
//! `instructions recorded|unrecorded TOPICS BATCHES`, with two numbers of batches (of 256): the difference is theirs.

#![allow(missing_docs, reason = "the macro makes a public function")]

use criterion::{Criterion, Throughput, criterion_group};
use trestle_messages::v1::Stamp;
use trestle_recorder::{Bounds, Log, RecordRule, RecordRules, SegmentBuilder};

const BODY_BYTES: usize = 128;
const BATCH: u64 = 256;

/// A writer that goes on for ever, once the log is full.
struct Writer {
    log: Log,
    batch: SegmentBuilder,
    topics: Vec<String>,
    n: u64,
    is_recorded: bool,
}

impl Writer {
    fn new(n_topics: u64, rules: RecordRules, bytes_max: usize) -> Self {
        let log = Log::with_bounds(Bounds { bytes_max, ..Bounds::default() });
        let is_recorded = rules.iter().next().is_some();
        log.record(rules);
        let topics = (0..n_topics).map(|n| format!("jobs/{n}/progress")).collect();
        let mut writer = Self { log, batch: SegmentBuilder::default(), topics, n: 0, is_recorded };
        // Beyond all bounds, so that as much goes as comes.
        let ring_bytes = writer.log.ring_starts().rings.len().min(1) * (64 << 20);
        for _ in 0..(bytes_max + ring_bytes) / (BATCH as usize * 200) + 500 {
            writer.append();
        }
        writer
    }

    fn append(&mut self) {
        for _ in 0..BATCH {
            self.n += 1;
            let offset = if self.is_recorded { self.n } else { 0 };
            let stamp = Stamp { epoch: 1, offset, time_unix_ns: self.n, ..Stamp::default() };
            // No order that a cache would like.
            let topic = self.n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.topics.len() as u64;
            self.batch.push([self.topics[topic as usize].as_bytes(), &[b'x'; BODY_BYTES]], stamp);
        }
        self.log.append(&mut self.batch);
    }
}

fn append(c: &mut Criterion) {
    let everything = RecordRules::everything;
    let three = || {
        ["", "jobs/1=8MiB", "jobs/2=8MiB,1m"].map(|rule| rule.parse().expect("a rule")).into_iter().collect()
    };
    let mut group = c.benchmark_group("a message into the log");
    group.throughput(Throughput::Elements(BATCH));
    let cases: [(&str, u64, RecordRules, usize); 8] = [
        ("unrecorded", 100, RecordRules::nothing(), 64 << 20),
        ("unrecorded, 100,000 topics", 100_000, RecordRules::nothing(), 64 << 20),
        ("recorded, 100 topics", 100, everything(), 64 << 20),
        ("recorded, 100,000 topics", 100_000, everything(), 64 << 20),
        ("recorded, 200,000 topics, half of them without a last value", 200_000, everything(), 64 << 20),
        ("recorded, 100 topics, most of the ring behind the newest", 100, everything(), 8 << 20),
        ("recorded, 100,000 topics, most of the ring behind the newest", 100_000, everything(), 8 << 20),
        ("recorded by three rules, 100 topics", 100, three(), 64 << 20),
    ];
    for (name, n_topics, rules, bytes_max) in cases {
        let mut writer = Writer::new(n_topics, rules, bytes_max);
        group.bench_function(name, |b| b.iter(|| writer.append()));
    }
    let one = || RecordRules::from_iter([RecordRule { bytes_max: 0, ..RecordRule::new("") }]);
    let mut writer = Writer::new(100, one(), 64 << 20);
    group.bench_function("recorded, 100 topics, no ring", |b| b.iter(|| writer.append()));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(std::time::Duration::from_millis(500));
    targets = append
}

fn main() {
    let words: Vec<_> = std::env::args().collect();
    let Some(at) = words.iter().position(|word| word == "instructions") else {
        benches();
        Criterion::default().configure_from_args().final_summary();
        return;
    };
    let rule = RecordRule { bytes_max: 1 << 20, ..RecordRule::new("") };
    let rules =
        if words[at + 1] == "recorded" { [rule].into_iter().collect() } else { RecordRules::nothing() };
    let [n_topics, n_batches] = [at + 2, at + 3].map(|at| words[at].parse().expect("a number"));
    let mut writer = Writer::new(n_topics, rules, 1 << 20);
    (0..n_batches).for_each(|_| writer.append());
    println!("{} messages", n_batches * BATCH);
}
