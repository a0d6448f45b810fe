//! One topic's flood beside a quiet one, and readers in the midst of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use trestle_messages::Position;
use trestle_messages::v1::Stamp;

use super::retention::all;
use crate::{Bounds, Log, RecordRule, RecordRules, Segment, SegmentBuilder, Slot};

const RING_BYTES: u64 = 40_000;
const BYTES_MAX: usize = 50_000;
const WASTE_BYTES: usize = 10_000;

fn log(prefixes: &[&str]) -> Log {
    let bounds = Bounds { bytes_max: BYTES_MAX, waste_bytes_max: WASTE_BYTES, ..Bounds::default() };
    let log = Log::with_bounds(bounds);
    let rule = |prefix: &&str| RecordRule { bytes_max: RING_BYTES, ..RecordRule::new(*prefix) };
    log.record(prefixes.iter().map(rule).collect());
    log
}

fn append(log: &Log, offset: u64, topic: &str) {
    append_all(log, [offset], topic);
}

/// The body says the offset, so that a reader sees whether it reads the right message.
fn append_all(log: &Log, offsets: impl IntoIterator<Item = u64>, topic: &str) {
    let mut batch = SegmentBuilder::default();
    for offset in offsets {
        let body = [offset.to_be_bytes(); 12].concat();
        batch.push([topic.as_bytes(), &body], Stamp { epoch: 1, offset, ..Stamp::default() });
    }
    log.append(&mut batch);
}

fn encode_all(log: &Log) {
    for message in all(log).iter().flat_map(|segment| segment.messages()) {
        message.encoded(Slot::new(0), || vec![0; 200].into());
    }
}

#[test]
fn a_flood_evicts_no_other_rules_history_and_memory_stays_bounded() {
    let log = log(&["flood/", "quiet/"]);
    let mut offset = 0;
    for nth in 0..20_000 {
        offset += 1;
        append(&log, offset, if nth % 1_000 == 0 { "quiet/1" } else { "flood/1" });
        if nth % 3_000 == 0 {
            encode_all(&log);
        }
        // Two rings, two last values, the table.
        let kept = 2 * (2 * RING_BYTES as usize + 400) + WASTE_BYTES + 1_000;
        let encoded = if nth % 3_000 < 1_000 { 400_000 } else { 0 };
        assert!(log.bytes() <= BYTES_MAX + kept + encoded, "{} after {nth}", log.bytes());
    }
    let start = log.seq_after(at(0)).unwrap();
    assert!(start >= log.complete_from(b"quiet/", false), "all twenty are there");
    assert!(start < log.complete_from(b"flood/", false));
    assert!(start < log.complete_from_all());
    let messages: Vec<_> = all(&log);
    let quiet = messages.iter().flat_map(|segment| segment.messages()).filter(|m| m.topic() == b"quiet/1");
    assert_eq!(quiet.count(), 20);
}

#[test]
fn encodings_of_old_messages_cost_no_new_ones() {
    let bounds = Bounds { bytes_max: BYTES_MAX, ..Bounds::default() };
    let log = Log::with_bounds(bounds);
    log.record(RecordRules::everything());
    (0..100).for_each(|batch| append_all(&log, batch * 10 + 1..batch * 10 + 11, "a"));
    let newest = log.newest_seq();
    assert!(newest > 500);
    let segments = all(&log);
    for message in segments.iter().flat_map(|s| s.messages()).filter(|m| m.seq() < newest) {
        message.encoded(Slot::new(0), || vec![0; 2_000].into());
    }
    drop(segments);
    let bytes = log.bytes();
    assert!(bytes > 1_000_000);
    append(&log, 1_001, "a");
    assert!(log.newest_seq() <= newest + 10);
    // The rest of what they cost goes step by step, because it is more than the messages.
    (0..100).for_each(|_| log.expire(0));
    let kept = 2 * 1_001 * 200 + (1 << 20);
    assert!(log.bytes() < BYTES_MAX + kept, "{}", log.bytes());
    assert!(log.seq_after(at(0)).unwrap() >= log.complete_from_all());
}

#[test]
fn a_rule_for_another_topic_costs_no_history() {
    let log = log(&["a/"]);
    (1..=100).for_each(|offset| append(&log, offset, "a/1"));
    log.record(RecordRules::from_iter([
        RecordRule { bytes_max: RING_BYTES, ..RecordRule::new("a/") },
        RecordRule::new("b/"),
    ]));
    let start = log.seq_after(at(0)).unwrap();
    assert!(start >= log.complete_from_all());
}

/// A message that stays as a last value, when its rule is no more, once moved the begin of its history back behind what
/// was gone.
#[test]
fn what_has_lost_its_rule_has_no_more_history_than_before() {
    let log = log(&[]);
    let nothing = |prefix| RecordRule { bytes_max: 0, ..RecordRule::new(prefix) };
    log.record(RecordRules::from_iter([nothing("b/"), nothing("a/")]));
    append(&log, 1, "b/1");
    let mut batch = SegmentBuilder::default();
    batch.push([&b"b/2"[..], b""], Stamp { epoch: 1, offset: 2, ..Stamp::default() });
    log.append(&mut batch);
    (3..1_000).for_each(|offset| append(&log, offset, "a/"));
    log.record(RecordRules::from_iter([nothing("a/")]));
    (1_000..2_000).for_each(|offset| append(&log, offset, "a/"));
    assert_eq!(all(&log)[0].message(0).topic(), b"b/1", "its last value stays");
    assert!(log.seq_after(at(1)).unwrap() < log.complete_from(b"b/", false));
    assert!(log.seq_after(at(999)).unwrap() >= log.complete_from(b"b/", false));
}

fn at(offset: u64) -> Position {
    Position { epoch: 1, offset }
}

/// Each message says what it is, they come in order, and those whom nobody told to skip any miss none.
fn check(segment: &Segment, next: &mut u64, may_skip: bool) {
    for message in segment.messages() {
        let offset = message.position().unwrap().offset;
        let body = message.body().next().unwrap();
        assert_eq!(body[..8], offset.to_be_bytes());
        if message.seq() < *next {
            continue;
        }
        assert!(may_skip || *next == 0 || message.seq() == *next, "{} follows {}", message.seq(), *next);
        *next = message.seq() + 1;
    }
}

#[test]
fn readers_go_on_while_segments_are_rewritten() {
    let (log, is_over) = (Arc::new(log(&["", "some/"])), Arc::new(AtomicBool::new(false)));
    let live = {
        let (log, is_over) = (Arc::clone(&log), Arc::clone(&is_over));
        thread::spawn(move || {
            let (mut cursor, mut next, mut n) = (log.cursor(), 0, 0);
            loop {
                let over = is_over.load(Ordering::Acquire);
                let mut segments = Vec::new();
                let overran = log.read(&mut cursor, &mut segments).is_err();
                if overran {
                    next = 0;
                }
                n += segments.len();
                segments.iter().for_each(|segment| check(segment, &mut next, false));
                if over {
                    return (next, n);
                }
            }
        })
    };
    let late: Vec<_> = (0..2)
        .map(|_| {
            let (log, is_over) = (Arc::clone(&log), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut rounds = 0;
                while !is_over.load(Ordering::Acquire) || rounds == 0 {
                    let (mut next, mut segments) = (0, Vec::new());
                    loop {
                        log.read_from(next, 3, &mut segments);
                        let Some(last) = segments.last() else { break };
                        let end = last.end_seq();
                        segments.drain(..).for_each(|segment| check(&segment, &mut next, true));
                        next = end;
                    }
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    const MESSAGES: u64 = 20_000;
    for offset in 1..=MESSAGES {
        // Every hundredth topic is one of many, whose last value stays when the rings have let it go.
        let topic = if offset % 100 == 0 { format!("some/{offset}") } else { "flood".to_owned() };
        append(&log, offset, &topic);
    }
    is_over.store(true, Ordering::Release);
    let (next, n) = live.join().unwrap();
    assert_eq!(next, MESSAGES + 1);
    assert!(n > 0);
    assert!(late.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>() > 0);
    let segments = all(&log);
    let last: Vec<_> = segments.iter().flat_map(|s| s.messages()).filter(|m| log.is_last_value(m)).collect();
    assert_eq!(last.len() as u64, MESSAGES / 100 + 1);
}
