//! What stays and what goes, under random rules, bounds, messages and times.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use trestle_messages::Position;

use super::model::{Entry, Model};
use crate::{Bounds, Gap, Log, NotHere, RecordRule, RecordRules, Segment, SegmentBuilder, Slot};

const TOPICS: [&str; 9] = ["", "a", "ab", "abc", "abd", "b", "ba", "c", "this/topic/is/longer/than/others"];
const SECOND: u64 = 1_000_000_000;

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Messages that enter together: topic, bytes of the body, seconds that its time is off.
    Append(Vec<(usize, usize, i64)>),
    /// Many of one topic.
    Flood(usize, usize),
    /// The clock goes on by so many seconds, or jumps back; then it is told.
    Expire(i64),
    Gap(u64),
    Epoch,
    Advance(u64),
    /// A reader encodes all there is.
    Encode,
    /// A reader takes the segments, and looks at them at the end.
    Hold,
}

pub(super) fn steps(n_max: usize) -> impl Strategy<Value = Vec<Step>> {
    let message = (0..TOPICS.len(), prop_oneof![Just(0), 1usize..40], -3i64..3);
    let step = prop_oneof![
        12 => proptest::collection::vec(message, 1..8).prop_map(Step::Append),
        4 => (0..TOPICS.len(), 1usize..60).prop_map(|(topic, n)| Step::Flood(topic, n)),
        4 => prop_oneof![4 => 0i64..3, 1 => -20i64..20].prop_map(Step::Expire),
        1 => (1u64..5).prop_map(Step::Gap),
        1 => Just(Step::Epoch),
        1 => (0u64..3).prop_map(Step::Advance),
        2 => Just(Step::Encode),
        1 => Just(Step::Hold),
    ];
    proptest::collection::vec(step, 1..n_max)
}

pub(super) fn rules() -> impl Strategy<Value = RecordRules> {
    let prefix =
        prop_oneof![4 => Just(""), 3 => Just("a"), 2 => Just("ab"), 1 => Just("abc"), 1 => Just("b")];
    let rule = (prefix, 0u64..2_500, 1u64..20).prop_map(|(prefix, bytes_max, secs)| RecordRule {
        prefix: prefix.into(),
        bytes_max,
        age_max: Duration::from_secs(secs),
    });
    proptest::collection::vec(rule, 1..5).prop_map(RecordRules::from_iter)
}

pub(super) fn bounds() -> impl Strategy<Value = Bounds> {
    (0usize..3_000, 0usize..9, 0u64..800, 1u64..30, 0usize..1_000).prop_map(
        |(bytes_max, last_values_max, last_values_bytes_max, secs, waste_bytes_max)| Bounds {
            bytes_max,
            last_values_max,
            last_values_bytes_max,
            last_value_age_max: Duration::from_secs(secs),
            waste_bytes_max,
        },
    )
}

/// A log and the model, which get the same.
pub(super) struct Pair {
    pub(super) log: Log,
    pub(super) model: Model,
    bounds: Bounds,
    pub(super) now: u64,
    held: Vec<(Arc<Segment>, Vec<Vec<u8>>)>,
    /// By epoch and offset: the message's number when it was appended.
    seqs: HashMap<(u64, u64), u64>,
    gap_seqs: Vec<u64>,
    /// The most that a segment had so far.
    segment_bytes_max: usize,
}

impl Pair {
    pub(super) fn new(rules: RecordRules, bounds: Bounds) -> Self {
        let log = Log::with_bounds(bounds.clone());
        log.record(rules.clone());
        log.advance(Position { epoch: 1, offset: 0 });
        let model = Model::new(rules, bounds.clone());
        let (held, seqs, gap_seqs) = Default::default();
        Self { log, model, bounds, now: 1_000 * SECOND, held, seqs, gap_seqs, segment_bytes_max: 0 }
    }

    pub(super) fn run(&mut self, step: &Step) {
        self.run_with(step, |_| ());
    }

    /// Calls `appended` after each segment.
    pub(super) fn run_with(&mut self, step: &Step, mut appended: impl FnMut(&Self)) {
        match step {
            Step::Append(messages) => {
                let mut batch = SegmentBuilder::default();
                for (topic, bytes, off) in messages {
                    let time = self.now.saturating_add_signed(off * SECOND as i64);
                    let entry = self.model.append(TOPICS[*topic], vec![b'x'; *bytes], time);
                    push(&mut batch, &entry);
                }
                self.append(&mut batch);
                appended(self);
            }
            Step::Flood(topic, n) => {
                for _ in 0..*n {
                    let entry = self.model.append(TOPICS[*topic], vec![b'y'; 30], self.now);
                    let mut batch = SegmentBuilder::default();
                    push(&mut batch, &entry);
                    self.append(&mut batch);
                    appended(self);
                }
            }
            Step::Expire(seconds) => {
                self.now = self.now.saturating_add_signed(seconds * SECOND as i64);
                self.log.expire(self.now);
                self.model.expire(self.now);
            }
            Step::Gap(n) => {
                let from = Position { epoch: self.model.epoch, offset: self.model.head };
                let until = Position { offset: from.offset + n, ..from };
                self.log.append_gap(Gap { from: Some(from), until, messages: Some(*n) });
                self.gap_seqs.push(self.log.cursor().next_seq() - 1);
                appended(self);
                self.model.skip_to(until.epoch, until.offset);
            }
            Step::Epoch => {
                let from = Position { epoch: self.model.epoch, offset: self.model.head };
                let until = Position { epoch: from.epoch + 1, offset: from.offset / 2 };
                self.log.append_gap(Gap { from: Some(from), until, messages: None });
                self.gap_seqs.push(self.log.cursor().next_seq() - 1);
                appended(self);
                self.model.skip_to(until.epoch, until.offset);
            }
            Step::Advance(n) => {
                let offset = self.model.head + n;
                self.log.advance(Position { epoch: self.model.epoch, offset });
                if *n > 0 {
                    self.model.skip_to(self.model.epoch, offset);
                }
            }
            Step::Encode => {
                for message in all(&self.log).iter().flat_map(|segment| segment.messages()) {
                    message.encoded(Slot::new(1), || vec![b'e'; 60].into());
                }
            }
            Step::Hold => {
                let frames = |segment: &Segment| {
                    segment.messages().map(|message| message.frames().flatten().copied().collect()).collect()
                };
                self.held
                    .extend(all(&self.log).into_iter().map(|segment| (segment.clone(), frames(&segment))));
            }
        }
    }

    fn append(&mut self, batch: &mut SegmentBuilder) {
        self.log.append(batch);
        self.model.trim(None);
        let mut newest = Vec::new();
        self.log.read_from(self.log.cursor().next_seq() - 1, 1, &mut newest);
        self.segment_bytes_max = self.segment_bytes_max.max(newest[0].cost_bytes());
        for message in newest[0].messages() {
            if let Some(at) = message.position() {
                self.seqs.insert((at.epoch, at.offset), message.seq());
            }
        }
    }

    /// Everything that the model says must be there is, in order.
    fn check_messages(&self) -> Result<(), TestCaseError> {
        let segments = all(&self.log);
        let messages: Vec<_> = segments.iter().flat_map(|segment| segment.messages()).collect();
        prop_assert!(messages.windows(2).all(|pair| pair[0].seq() < pair[1].seq()), "numbers rise");
        prop_assert!(
            segments.windows(2).all(|pair| pair[0].end_seq() <= pair[1].first_seq()),
            "segments follow each other"
        );
        for message in &messages {
            let at = message.position().map(|at| (at.epoch, at.offset));
            let seq = at.map_or(message.seq(), |at| self.seqs[&at]);
            prop_assert_eq!(message.seq(), seq, "a message keeps its number");
        }
        let mut entries = self.model.entries.iter();
        for message in &messages {
            let same = entries.any(|entry| {
                let position = message.position().map_or((entry.epoch, 0), |at| (at.epoch, at.offset));
                position == (entry.epoch, entry.offset)
                    && message.topic() == entry.topic.as_bytes()
                    && message.body().next() == Some(&entry.body[..])
            });
            prop_assert!(same, "{message:?} came twice, out of order, or never entered");
        }
        let epoch = self.model.epoch;
        let here: HashMap<_, _> = messages
            .iter()
            .filter_map(|message| Some((message.position()?, message)))
            .filter(|(at, _)| at.epoch == epoch)
            .map(|(at, message)| (at.offset, message))
            .collect();
        for entry in self.model.current() {
            let here = here.get(&entry.offset);
            let must = self.model.is_in_ring(entry) || self.model.is_last(entry);
            prop_assert!(here.is_some() || !must, "{entry:?} must be here");
            if let Some(message) = here {
                prop_assert_eq!(self.log.is_last_value(message), self.model.is_last(entry), "{:?}", entry);
            }
        }
        let newest = self.log.newest_seq();
        let last = segments.last().map(|segment| segment.first_seq());
        prop_assert!(last.is_none_or(|last| last >= newest), "the last segment stays");
        Ok(())
    }

    /// It answers for each position and subscription what the model says.
    pub(super) fn check_answers(&self) -> Result<(), TestCaseError> {
        let model = &self.model;
        let starts = starts(&self.log, model);
        for (topic, exact) in subscriptions() {
            let complete_after = model.complete_after(topic, exact);
            let entries = model.current().filter(|entry| Model::matches(entry, topic, exact));
            let expected: Vec<_> =
                entries.map(|entry| entry.offset).filter(|offset| *offset > complete_after).collect();
            let replays = replays(&self.log, model.epoch, &starts, topic, exact);
            prop_assert_eq!(replays, (complete_after, expected), "{:?}", (topic, exact));
            let complete = self.log.complete_from(topic.as_bytes(), exact);
            self.check_readable(topic, exact)?;
            let readable = self.log.readable_from(topic.as_bytes(), exact);
            prop_assert!(readable <= complete.max(self.log.newest_seq()));
        }
        let ahead = Position { epoch: model.epoch, offset: model.head + 1 };
        prop_assert_eq!(self.log.seq_after(ahead), Err(NotHere::Ahead));
        let other = Position { epoch: model.epoch + 1, offset: 0 };
        prop_assert_eq!(self.log.seq_after(other), Err(NotHere::OtherEpoch));
        Ok(())
    }

    /// What is known to be needed of each segment is what is needed of its messages.
    fn check_needed(&self) -> Result<(), TestCaseError> {
        let views = self.log.views();
        let (mut kept_bytes, newest) = (0, self.log.newest_seq());
        for shelved in self.log.shelf().all() {
            let mut expected = 0;
            for message in shelved.segment.messages() {
                let is_current = message.position().is_some_and(|at| Some(at.epoch) == views.epoch());
                let is_last = is_current && views.last.is_last(message.topic(), message.seq());
                let in_ring = is_current && views.is_in_ring(&message);
                expected += message.ring_bytes() * (u64::from(is_last) + u64::from(in_ring));
            }
            prop_assert_eq!(views.live.bytes(shelved.id), expected);
            kept_bytes += if shelved.segment.first_seq() < newest { expected } else { 0 };
        }
        prop_assert_eq!(views.live.kept_bytes(), kept_bytes);
        Ok(())
    }

    /// Whoever reads already finds everything from there on, of earlier epochs, too, and the gaps.
    fn check_readable(&self, topic: &str, exact: bool) -> Result<(), TestCaseError> {
        let readable = self.log.readable_from(topic.as_bytes(), exact);
        let segments = all(&self.log);
        let messages = segments.iter().flat_map(|segment| segment.messages());
        let here: HashSet<_> = messages.map(|message| message.seq()).collect();
        for entry in self.model.entries.iter().filter(|entry| Model::matches(entry, topic, exact)) {
            let seq = self.seqs.get(&(entry.epoch, entry.offset)).filter(|seq| **seq >= readable);
            prop_assert!(seq.is_none_or(|seq| here.contains(seq)), "{entry:?} is not there");
        }
        let gaps: HashSet<_> =
            segments.iter().filter(|s| s.gap().is_some()).map(|segment| segment.first_seq()).collect();
        prop_assert!(self.gap_seqs.iter().all(|gap| *gap < readable || gaps.contains(gap)));
        Ok(())
    }

    fn check_memory(&self) -> Result<(), TestCaseError> {
        let newest = self.bounds.bytes_max.max(self.segment_bytes_max + 60 * 100);
        let kept = 2 * self.model.bytes_max() as usize + self.bounds.waste_bytes_max;
        let bytes = self.log.bytes();
        prop_assert!(bytes <= newest + kept + TABLE_BYTES, "{bytes} > {newest} + {kept}");
        Ok(())
    }
}

pub(super) fn subscriptions() -> impl Iterator<Item = (&'static str, bool)> {
    TOPICS.into_iter().flat_map(|topic| [(topic, false), (topic, true)])
}

/// What the table of a few topics takes, and the last segment kept, which may be mostly overhead.
const TABLE_BYTES: usize = 4_000;

pub(super) fn push(batch: &mut SegmentBuilder, entry: &Entry) {
    batch.push([entry.topic.as_bytes(), &entry.body], entry.stamp());
}

pub(super) fn all(log: &Log) -> Vec<Arc<Segment>> {
    let mut segments = Vec::new();
    log.read_from(0, usize::MAX, &mut segments);
    segments
}

/// Where a replay from each offset begins.
pub(super) fn starts(log: &Log, model: &Model) -> Vec<u64> {
    let start = |offset| log.seq_after(Position { epoch: model.epoch, offset }).unwrap();
    (0..=model.head).map(start).collect()
}

/// The offset behind which a subscription's replay is complete, and the offsets of what it has then. Each later replay has
/// just what is behind its position of that.
pub(super) fn replays(log: &Log, epoch: u64, starts: &[u64], topic: &str, exact: bool) -> (u64, Vec<u64>) {
    let (mut held, bytes) = (Vec::new(), topic.as_bytes());
    for message in all(log).iter().flat_map(|segment| segment.messages()) {
        let matches = if exact { message.topic() == bytes } else { message.topic().starts_with(bytes) };
        if let Some(at) = message.position().filter(|at| matches && at.epoch == epoch) {
            held.push((message.seq(), at.offset));
        }
    }
    let (complete, mut complete_after, mut offsets) = (log.complete_from(bytes, exact), None, Vec::new());
    for (offset, seq) in (0..).zip(starts.iter().copied()) {
        let first = held.partition_point(|(other, _)| *other < seq);
        assert_eq!(first, held.partition_point(|(_, other)| *other <= offset), "{topic:?} from {offset}");
        assert!(seq >= complete || complete_after.is_none(), "{topic:?} from {offset}, not from before");
        if seq >= complete && complete_after.is_none() {
            complete_after = Some(offset);
            offsets = held[first..].iter().map(|(_, offset)| *offset).collect();
        }
    }
    (complete_after.expect("nothing is missed from the head on"), offsets)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_must_stay_stays_and_what_is_gone_is_known(rules in rules(), bounds in bounds(), steps in steps(60)) {
        let mut pair = Pair::new(rules, bounds);
        for steps in steps.chunks(8) {
            steps.iter().for_each(|step| pair.run(step));
            pair.check_messages()?;
            pair.check_needed()?;
        }
        pair.check_answers()?;
        for (segment, frames) in &pair.held {
            let now: Vec<Vec<u8>> =
                segment.messages().map(|message| message.frames().flatten().copied().collect()).collect();
            prop_assert_eq!(&now, frames);
        }
        pair.held.clear();
        for _ in 0..20 {
            pair.run(&Step::Expire(0));
        }
        pair.check_messages()?;
        pair.check_answers()?;
        pair.check_memory()?;
    }

    /// What other rules begin with is never more than there is.
    #[test]
    fn other_rules_promise_nothing_that_is_gone(
        rules in proptest::collection::vec(rules(), 2..4), bounds in bounds(), steps in steps(60),
    ) {
        let mut pair = Pair::new(rules[0].clone(), bounds);
        for (rules, steps) in rules.iter().zip(steps.chunks(20)) {
            pair.log.record(rules.clone());
            pair.model.rules = rules.clone();
            steps.iter().for_each(|step| pair.run(step));
            let starts = starts(&pair.log, &pair.model);
            for (topic, exact) in subscriptions() {
                let (after, replay) = replays(&pair.log, pair.model.epoch, &starts, topic, exact);
                let entries = pair.model.current().filter(|entry| Model::matches(entry, topic, exact));
                let expected = entries.map(|entry| entry.offset).filter(|offset| *offset > after);
                prop_assert_eq!(replay, expected.collect::<Vec<_>>(), "{:?} after {}", (topic, exact), after);
            }
        }
    }
}
