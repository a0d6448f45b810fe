//! A clone answers as its origin does, whenever and however it was made.

use std::sync::Arc;

use proptest::prelude::*;
use trestle_messages::Position;
use trestle_messages::v1::Stamp;

use super::retention::{Pair, Step, all, bounds, replays, rules, starts, steps, subscriptions};
use crate::{Bounds, Cursor, Log, RecordRule, RecordRules, Replay, Segment, SegmentBuilder};

/// A log that is made from another, and follows it then.
struct Cloned {
    log: Log,
    /// What it has of its origin.
    next_seq: u64,
    n_batch: usize,
}

impl Cloned {
    /// Reads `origin` segment by segment; between them `live` happens there, of which the clone hears afterwards. Some
    /// messages come in between that are not recorded, which no origin replays.
    fn new(pair: &mut Pair, bounds: Bounds, n_batch: usize, live: &[Step]) -> Result<Self, TestCaseError> {
        let log = Log::with_bounds(bounds);
        log.record(pair.model.rules.clone());
        let mut batch = SegmentBuilder::default();
        push_unrecorded(&mut batch);
        log.append(&mut batch);
        let (mut replay, next_seq) = (pair.log.replay(0).unwrap(), pair.log.cursor().next_seq());
        log.begin(replay.position(), replay.starts());
        let (mut live, mut needed) = (live.iter(), Vec::new());
        let mut clone = Self { log, next_seq, n_batch };
        let mut missed = Missed::new(pair);
        while let Some(segment) = replay.read(&mut needed) {
            for index in needed.drain(..) {
                let message = segment.message(index as usize);
                if index % 3 == 0 {
                    push_unrecorded(&mut batch);
                }
                batch.push(message.frames(), message.stamp());
                if batch.len() >= n_batch {
                    clone.log.append(&mut batch);
                }
            }
            if let Some(step) = live.next() {
                pair.run_with(step, |pair| missed.read(pair));
            }
        }
        clone.log.append(&mut batch);
        missed.segments.into_iter().for_each(|segment| clone.append(&segment));
        clone.next_seq = pair.log.cursor().next_seq();
        Ok(clone)
    }

    fn append(&mut self, segment: &Segment) {
        if let Some(gap) = segment.gap() {
            self.log.append_gap(gap);
        }
        let mut batch = SegmentBuilder::default();
        for message in segment.messages().filter(|message| message.seq() >= self.next_seq) {
            batch.push(message.frames(), message.stamp());
            if batch.len() >= self.n_batch {
                self.log.append(&mut batch);
            }
        }
        self.log.append(&mut batch);
    }

    /// The same step as the origin takes.
    fn follow(&mut self, pair: &mut Pair, step: &Step) {
        let mut missed = Missed::new(pair);
        pair.run_with(step, |pair| missed.read(pair));
        missed.segments.into_iter().for_each(|segment| self.append(&segment));
        self.next_seq = pair.log.cursor().next_seq();
        match step {
            Step::Expire(_) => self.log.expire(pair.now),
            Step::Advance(_) => {
                self.log.advance(Position { epoch: pair.model.epoch, offset: pair.model.head });
            }
            _ => {}
        }
    }
}

/// What the link brings: all that comes, also what the origin soon drops.
struct Missed {
    cursor: Cursor,
    segments: Vec<Arc<Segment>>,
}

impl Missed {
    fn new(pair: &Pair) -> Self {
        Self { cursor: pair.log.cursor(), segments: Vec::new() }
    }

    fn read(&mut self, pair: &Pair) {
        pair.log.read(&mut self.cursor, &mut self.segments).expect("it reads each segment");
    }
}

fn push_unrecorded(batch: &mut SegmentBuilder) {
    batch.push([&b"unrecorded"[..], b"x"], Stamp::default());
}

fn last_values(log: &Log) -> Vec<u64> {
    let segments = all(log);
    let messages = segments.iter().flat_map(|segment| segment.messages());
    let last = messages.filter(|message| log.is_last_value(message));
    last.filter_map(|message| message.position()).map(|at| at.offset).collect()
}

fn check_equal(origin: &Pair, clone: &Log) -> Result<(), TestCaseError> {
    let epoch = origin.model.epoch;
    let logs = [&origin.log, clone].map(|log| (log, starts(log, &origin.model)));
    prop_assert_eq!(last_values(clone), last_values(&origin.log));
    // Of what is not recorded there is nothing to miss.
    let recorded = subscriptions().filter(|(topic, exact)| origin.model.is_recorded(topic, *exact));
    for (topic, exact) in recorded {
        let answers = logs.each_ref().map(|(log, starts)| replays(log, epoch, starts, topic, exact));
        prop_assert!(answers[0] == answers[1], "{:?}: {answers:?}", (topic, exact));
    }
    prop_assert_eq!(origin.log.ring_starts(), clone.ring_starts());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_clone_answers_as_its_origin(
        rules in rules(), bounds in bounds(), before in steps(40), meanwhile in steps(15), after in steps(20),
        bytes_max in 0usize..3_000, waste_bytes_max in 0usize..1_000, n_batch in 1usize..20,
    ) {
        let mut pair = Pair::new(rules, bounds.clone());
        before.iter().for_each(|step| pair.run(step));
        let is_message = |step: &Step| matches!(step, Step::Append(_) | Step::Flood(..));
        let meanwhile: Vec<_> = meanwhile.into_iter().filter(is_message).collect();
        let bounds = Bounds { bytes_max, waste_bytes_max, ..bounds };
        let mut clone = Cloned::new(&mut pair, bounds, n_batch, &meanwhile)?;
        check_equal(&pair, &clone.log)?;
        for step in &after {
            clone.follow(&mut pair, step);
        }
        check_equal(&pair, &clone.log)?;
    }
}

fn append(log: &Log, offset: u64, topic: &str, body: &[u8]) {
    let mut batch = SegmentBuilder::default();
    batch.push([topic.as_bytes(), body], Stamp { epoch: 1, offset, ..Stamp::default() });
    log.append(&mut batch);
}

fn read(replay: &mut Replay) -> Vec<u64> {
    let (mut offsets, mut indices) = (Vec::new(), Vec::new());
    while let Some(segment) = replay.read(&mut indices) {
        let positions = indices.drain(..).map(|index| segment.message(index as usize).position());
        offsets.extend(positions.map(|at| at.unwrap().offset));
    }
    offsets
}

/// Two values came and went that are in no ring any more; the one that they pushed out is in its ring still. The clone,
/// which never hears of them, must not take it for a last value.
#[test]
fn what_a_bound_pushed_out_is_no_last_value_of_a_clone() {
    let bounds = Bounds { last_values_max: 2, bytes_max: 0, ..Bounds::default() };
    let rules =
        || RecordRules::from_iter([RecordRule::new(""), RecordRule { bytes_max: 0, ..RecordRule::new("b") }]);
    let (origin, clone) = (Log::with_bounds(bounds.clone()), Log::with_bounds(bounds));
    origin.record(rules());
    clone.record(rules());
    for (offset, (topic, body)) in
        (1..).zip([("a", "x"), ("b1", "x"), ("b2", "x"), ("b1", ""), ("b2", ""), ("c", "x")])
    {
        append(&origin, offset, topic, body.as_bytes());
    }
    let mut replay = origin.replay(0).unwrap();
    assert_eq!(replay.starts().last_values_after, 1);
    clone.begin(replay.position(), replay.starts());
    assert_eq!(read(&mut replay), [1, 6]);
    append(&clone, 1, "a", b"x");
    append(&clone, 6, "c", b"x");
    assert_eq!([&origin, &clone].map(last_values), [[6], [6]]);
}

/// Who repairs a hole wants all that came, also what its ring has let go already.
#[test]
fn a_hole_is_filled_from_the_newest_messages() {
    let log = Log::new(1 << 20);
    log.record(RecordRules::from_iter([RecordRule { bytes_max: 0, ..RecordRule::new("") }]));
    (1..=9).for_each(|offset| append(&log, offset, "t", b"x"));
    assert_eq!(read(&mut log.replay(5).unwrap()), [6, 7, 8, 9]);
    assert_eq!(read(&mut log.replay(9).unwrap()), []);
}
