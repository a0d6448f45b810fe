//! Last values by topic, as who wants a snapshot asks for them.

use proptest::prelude::*;

use crate::log::{Bounds, Log};
use crate::{RecordRules, SegmentBuilder, Stamper};

/// What a look at every message there is finds.
fn naive(log: &Log, wanted: &[(String, bool)], range: &std::ops::Range<u64>) -> Vec<u64> {
    let mut segments = Vec::new();
    log.read_from(0, usize::MAX, &mut segments);
    let matches = |topic: &[u8]| {
        wanted.iter().any(|(prefix, exact)| match exact {
            true => topic == prefix.as_bytes(),
            false => topic.starts_with(prefix.as_bytes()),
        })
    };
    let messages = segments.iter().flat_map(|segment| segment.messages());
    let last = messages.filter(|message| matches(message.topic()) && log.is_last_value(message));
    last.map(|message| message.seq()).filter(|seq| range.contains(seq)).collect()
}

#[derive(Debug, Clone)]
enum Step {
    /// Topics, and whether the body is empty, which takes the last value away.
    Append(Vec<(String, bool)>),
    List {
        wanted: Vec<(String, bool)>,
        range: std::ops::Range<u64>,
        n_max: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let wanted = prop::collection::vec(("[ab]{0,3}", any::<bool>()), 1..4);
    prop_oneof![
        prop::collection::vec(("[ab]{0,4}", prop::bool::weighted(0.2)), 1..6).prop_map(Step::Append),
        (wanted, 0..30u64, 0..60u64, 1..8usize).prop_map(|(wanted, start, len, n_max)| Step::List {
            wanted,
            range: start..start + len,
            n_max
        }),
    ]
}

proptest! {
    /// Whatever came, went by a bound or was taken away in between: a list is what a look at each message finds, as far as
    /// it says that it reaches.
    #[test]
    fn a_list_is_what_a_look_at_each_message_finds(steps in prop::collection::vec(step(), 1..40),
                                                   last_values_max in 1usize..30) {
        let log = Log::with_bounds(Bounds { last_values_max, ..Bounds::default() });
        let rules = RecordRules::everything();
        log.record(rules.clone());
        let mut stamper = Stamper::new(1, rules);
        for step in steps {
            match step {
                Step::Append(messages) => {
                    let mut batch = SegmentBuilder::default();
                    for (topic, is_removal) in &messages {
                        let body: &[u8] = if *is_removal { b"" } else { b"body" };
                        batch.push([topic.as_bytes(), body], stamper.stamp(topic.as_bytes(), 1));
                    }
                    log.append(&mut batch);
                }
                Step::List { wanted, range, n_max } => {
                    let pairs = wanted.iter().map(|(topic, exact)| (topic.as_bytes(), *exact));
                    let listed = log.last_values(pairs, range.clone(), n_max);
                    prop_assert!(listed.seqs.len() <= n_max);
                    prop_assert!(listed.range.start == range.start && listed.range.end <= range.end);
                    prop_assert_eq!(&listed.seqs, &naive(&log, &wanted, &listed.range));
                    let is_whole = naive(&log, &wanted, &range).len() <= n_max;
                    prop_assert!(listed.range == range || !is_whole || wanted.len() > 1);
                    let all = listed.within(&listed.range);
                    prop_assert_eq!(all, &listed.seqs[..]);
                    let second = listed.first_from(range.start).and_then(|first| listed.first_from(first + 1));
                    prop_assert_eq!(second, listed.seqs.get(1).copied());
                }
            }
        }
    }
}
