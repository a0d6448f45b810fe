//! What it costs to find who wants a message, and to subscribe, among very many subscriptions.

#![allow(missing_docs, reason = "the macro makes a public function")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use trestle_hub::Trie;

/// Looked up in turn, so that caches do not hold just one path.
const N_LOOKED_UP: usize = 4_096;

fn topic(n: usize) -> Vec<u8> {
    // Scattered, as topics come; a stride that shares no factor with the sizes.
    format!("jobs/{:08x}/progress", (n * 2_654_435_761) & 0xffff_ffff).into_bytes()
}

fn filled(n_topics: usize) -> Trie {
    let mut trie = Trie::default();
    for n in 0..n_topics {
        trie.insert(&topic(n), false, n as u32);
    }
    trie
}

fn matching(c: &mut Criterion) {
    let mut group = c.benchmark_group("match");
    for n_topics in [1_000, 100_000, 1_000_000] {
        let trie = filled(n_topics);
        let spread = n_topics / N_LOOKED_UP.min(n_topics);
        let wanted: Vec<_> = (0..N_LOOKED_UP).map(|n| topic(n * spread % n_topics)).collect();
        let unwanted: Vec<_> = (0..N_LOOKED_UP).map(|n| topic(n_topics + n)).collect();
        for (name, topics, n_found) in [("one wants it", wanted, 1), ("nobody wants it", unwanted, 0)] {
            let mut next = topics.iter().cycle();
            group.bench_function(BenchmarkId::new(name, n_topics), |b| {
                b.iter(|| {
                    let mut found = 0;
                    let topic = next.next().expect("it goes round");
                    trie.matches(black_box(topic), |subscriber, _| {
                        found += u32::from(black_box(subscriber) < u32::MAX)
                    });
                    assert_eq!(found, n_found);
                });
            });
        }
    }
    group.finish();
}

fn subscribing(c: &mut Criterion) {
    let mut group = c.benchmark_group("subscribe and unsubscribe");
    for n_topics in [1_000, 100_000, 1_000_000] {
        let mut trie = filled(n_topics);
        let topics: Vec<_> = (0..N_LOOKED_UP).map(|n| topic(n_topics + n)).collect();
        let mut next = topics.iter().cycle();
        group.bench_function(BenchmarkId::new("a topic of its own", n_topics), |b| {
            b.iter(|| {
                let (entry, first) = trie.insert(next.next().expect("it goes round"), false, 0);
                assert!(trie.remove(entry) && first);
            });
        });
    }
    let mut trie = Trie::default();
    for n in 0..100_000 {
        trie.insert(b"jobs/", false, n);
    }
    group.bench_function(BenchmarkId::new("a topic of all", 100_000), |b| {
        b.iter(|| {
            let (entry, first) = trie.insert(b"jobs/", false, 0);
            assert!(!trie.remove(entry) && !first);
        });
    });
    group.finish();
}

criterion_group!(benches, matching, subscribing);
criterion_main!(benches);
