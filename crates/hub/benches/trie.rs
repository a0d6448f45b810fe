//! What it costs to find who wants a message, to subscribe and to unsubscribe, among very many subscriptions.
//!
//! Topics are looked up and leave in random order, over all there are: a walk in the order of insertion, or over a few
//! thousand, would find in the caches what no message finds there.

#![allow(missing_docs, reason = "the macro makes a public function")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use trestle_hub::{EntryId, Trie};

/// Timed together, so that the clock does not count.
const BATCH: usize = 1_024;
/// The most bytes that a subscribed topic has.
const TOPIC_BYTES_MAX: usize = 255;

type Topics = Vec<Vec<u8>>;
/// The topic of a number.
type Topic = fn(usize) -> Vec<u8>;

/// A small generator of numbers, the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        (1..items.len()).rev().for_each(|at| items.swap(at, self.below(at + 1)));
    }
}

/// A topic of 22 bytes.
fn topic(n: usize) -> Vec<u8> {
    format!("jobs/{:08x}/progress", scattered(n)).into_bytes()
}

/// A topic of 13 to 36 bytes.
fn uneven_topic(n: usize) -> Vec<u8> {
    let tail = &b"progress/of/the/builder"[..n % 24];
    [format!("jobs/{:08x}", scattered(n)).as_bytes(), tail].concat()
}

/// Each number below 2^32 to another, without an order.
fn scattered(n: usize) -> usize {
    (n * 2_654_435_761) & 0xffff_ffff
}

/// `a`, `aa`, `aaa` …
fn chain() -> Topics {
    (1..=TOPIC_BYTES_MAX).map(|n| vec![b'a'; n]).collect()
}

/// `b`, `ab`, `aab` …: each is tried for a topic of `a`s, none matches.
fn barbed_chain() -> Topics {
    (1..=TOPIC_BYTES_MAX).map(|n| [vec![b'a'; n - 1], vec![b'b']].concat()).collect()
}

/// One level with as many branches as there can be.
fn fan() -> Topics {
    (0..=u8::MAX).map(|byte| vec![b'x', byte, b'y']).collect()
}

fn filled(topics: &Topics) -> (Trie, Vec<EntryId>) {
    let mut trie = Trie::default();
    let entries = topics.iter().zip(0..).map(|(topic, n)| trie.insert(topic, false, n).0).collect();
    (trie, entries)
}

fn of_distinct(n_topics: usize, topic: Topic) -> (Topics, Topics) {
    let subscribed: Topics = (0..n_topics).map(topic).collect();
    let unwanted = (n_topics..n_topics * 2).map(topic).collect();
    (subscribed, unwanted)
}

fn look_up(c: &mut Criterion, name: &str, trie: &Trie, topics: &Topics, n_found: u32) {
    // Side by side, as a message's own topic is in the cache already.
    let mut order: Vec<_> = (0..topics.len()).collect();
    Random(1).shuffle(&mut order);
    let bytes: Vec<u8> = order.iter().flat_map(|&n| &topics[n]).copied().collect();
    let ends = order.iter().scan(0, |end, &n| {
        *end += topics[n].len();
        Some((*end - topics[n].len(), *end))
    });
    let ends: Vec<_> = ends.collect();
    let mut next = ends.iter().cycle();
    let id = BenchmarkId::new(name, trie.len());
    c.benchmark_group("match").bench_function(id, |b| {
        b.iter(|| {
            let &(start, end) = next.next().expect("it goes round");
            let mut found = 0;
            let topic = black_box(&bytes[start..end]);
            trie.matches(topic, |subscriber, _| found += u32::from(black_box(subscriber) < u32::MAX));
            assert_eq!(found, n_found);
        });
    });
}

fn matching(c: &mut Criterion) {
    for n_topics in [1_000, 100_000, 1_000_000] {
        let (subscribed, unwanted) = of_distinct(n_topics, topic);
        let (trie, _) = filled(&subscribed);
        look_up(c, "one wants it", &trie, &subscribed, 1);
        look_up(c, "nobody wants it", &trie, &unwanted, 0);
    }
    for n_topics in [100_000, 1_000_000] {
        let (subscribed, unwanted) = of_distinct(n_topics, uneven_topic);
        let (trie, _) = filled(&subscribed);
        look_up(c, "of 24 lengths, one wants it", &trie, &subscribed, 1);
        look_up(c, "of 24 lengths, nobody wants it", &trie, &unwanted, 0);
    }
    let (trie, _) = filled(&vec![b"jobs/".to_vec(); 100_000]);
    look_up(c, "all want it", &trie, &vec![topic(0)], 100_000);
    let (trie, _) = filled(&chain());
    look_up(c, "a chain of prefixes", &trie, &vec![vec![b'a'; 255]], 255);
    let (trie, _) = filled(&barbed_chain());
    look_up(c, "a chain that nearly matches", &trie, &vec![vec![b'a'; 255]], 0);
    let (trie, _) = filled(&fan());
    look_up(c, "a fan", &trie, &fan(), 1);
}

/// Subscriptions that come and go, in random order, while others stay.
struct Churn {
    trie: Trie,
    held: Vec<EntryId>,
    topic: Topic,
    n_seen: usize,
    random: Random,
}

impl Churn {
    fn new(n_held: usize, topic: Topic) -> Self {
        let mut churn = Self { trie: Trie::default(), held: Vec::new(), topic, n_seen: 0, random: Random(2) };
        churn.subscribe(n_held);
        churn
    }

    fn subscribe(&mut self, n: usize) -> Duration {
        let topics: Topics = (self.n_seen..self.n_seen + n).map(self.topic).collect();
        self.n_seen += n;
        let start = Instant::now();
        self.held.extend(topics.iter().map(|topic| self.trie.insert(topic, false, 0).0));
        start.elapsed()
    }

    fn unsubscribe(&mut self, n: usize) -> Duration {
        for last in (self.held.len() - n..self.held.len()).rev() {
            self.held.swap(self.random.below(last + 1), last);
        }
        let leaving = self.held.split_off(self.held.len() - n);
        let start = Instant::now();
        leaving.into_iter().for_each(|entry| {
            self.trie.remove(entry);
        });
        start.elapsed()
    }

    /// Times one of the two: (subscribing, unsubscribing).
    fn time(&mut self, iterations: u64, timed: fn((Duration, Duration)) -> Duration) -> Duration {
        let mut total = Duration::ZERO;
        let mut left = iterations as usize;
        while left > 0 {
            let n = left.min(BATCH);
            total += timed((self.subscribe(n), self.unsubscribe(n)));
            left -= n;
        }
        total
    }
}

fn updating(c: &mut Criterion) {
    let shared = |_| b"jobs/".to_vec();
    let nested = |n| vec![b'a'; n % TOPIC_BYTES_MAX + 1];
    let fanned = |n: usize| vec![b'x', scattered(n) as u8, b'y'];
    let all: [(&str, Topic, &[usize]); 5] = [
        ("topics of their own", topic, &[1_000, 100_000, 1_000_000]),
        ("topics of 24 lengths", uneven_topic, &[100_000, 1_000_000]),
        ("one prefix", shared, &[100_000, 1_000_000]),
        ("a chain of prefixes", nested, &[0]),
        ("a fan", fanned, &[0]),
    ];
    for (name, topic, sizes) in all {
        for &n_held in sizes {
            let mut churn = Churn::new(n_held, topic);
            let id = BenchmarkId::new(name, n_held);
            c.benchmark_group("subscribe")
                .bench_function(id.clone(), |b| b.iter_custom(|n| churn.time(n, |(coming, _)| coming)));
            c.benchmark_group("unsubscribe")
                .bench_function(id, |b| b.iter_custom(|n| churn.time(n, |(_, leaving)| leaving)));
        }
    }
}

fn short() -> Criterion {
    let short = Criterion::default().sample_size(20);
    short.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1))
}

criterion_group!(name = benches; config = short(); targets = matching, updating);
criterion_main!(benches);
