//! What a subscription with `snapshot` costs: from its command to `caught_up`, by how much the rings keep and how many last
//! values it matches.

#![allow(missing_docs, reason = "the macro makes a public function")]

use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use trestle_hub::ws::{Opcode, client_frame};
use trestle_hub::{Grant, Hub, Limits, Protocol};
use trestle_recorder::{Bounds, Log, RecordRules, SegmentBuilder, Stamper};

const BODY_BYTES: usize = 128;
/// Messages that enter together.
const SEGMENT: usize = 16;

/// A log with `n_messages` on `n_topics` topics in turn, all recorded.
fn log(n_topics: usize, n_messages: usize) -> Arc<Log> {
    let log = Log::with_bounds(Bounds { bytes_max: 1 << 20, ..Bounds::default() });
    let rules = RecordRules::everything();
    log.record(rules.clone());
    let (mut stamper, mut batch) = (Stamper::new(1, rules), SegmentBuilder::default());
    for n in 0..n_messages {
        let topic = format!("jobs/{:06}", n % n_topics);
        let stamp = stamper.stamp(topic.as_bytes(), 1);
        batch.push([topic.as_bytes(), &[b'x'; BODY_BYTES]], stamp);
        if n % SEGMENT == SEGMENT - 1 {
            log.append(&mut batch);
        }
    }
    log.append(&mut batch);
    Arc::new(log)
}

/// A client comes, subscribes, gets its snapshot and goes. Returns how many messages it was written.
fn snapshot(hub: &mut Hub, topic: &str) -> u64 {
    let id = hub.open(Protocol::Json, None, Arc::new(Grant::everything()), []);
    let before = hub.counts().deliveries;
    let command = format!(r#"{{"id":1,"subscribe":{{"topics":["{topic}"],"snapshot":true}}}}"#);
    hub.receive(id, &mut client_frame(Opcode::Text, true, [1, 2, 3, 4], command.as_bytes()));
    loop {
        let dirty = hub.take_dirty();
        let is_last = dirty.is_empty();
        for session in &dirty {
            while hub.visit(*session, |slices| Ok(slices.iter().map(|slice| slice.len()).sum()))
                == trestle_hub::Visit::Again
            {}
        }
        hub.end_turn(dirty);
        if is_last {
            break;
        }
    }
    hub.close(id);
    hub.counts().deliveries - before
}

fn snapshots(c: &mut Criterion) {
    let mut group = c.benchmark_group("snapshot");
    group.sample_size(10);
    for (n_topics, n_messages) in [(10_000, 10_000), (10_000, 400_000)] {
        let log = log(n_topics, n_messages);
        let mut hub = Hub::new("bench".to_owned(), Limits::default(), Arc::clone(&log), Instant::now());
        hub.set_rules(RecordRules::everything());
        for (topic, n_values) in [("jobs/000042", 1), ("jobs/0000", 100), ("jobs/", n_topics as u64)] {
            assert_eq!(snapshot(&mut hub, topic), n_values, "{topic}");
            let name = format!("{n_values} of {n_topics} topics");
            group.bench_function(BenchmarkId::new(name, format!("{n_messages} messages")), |b| {
                b.iter(|| snapshot(&mut hub, topic));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, snapshots);
criterion_main!(benches);
