//! What is swept is what the log no longer keeps, whenever a sweep or a process ends.

use std::cell::Cell;

use proptest::collection::vec;
use trestle_messages::v1::Stamp;
use trestle_recorder::Bounds;

use super::folder::select;
use super::*;
use crate::store::sweep::sweep;

#[derive(Debug, Clone)]
enum Step {
    /// A batch of messages: topic and body; an empty one removes.
    Append(Vec<(u8, Vec<u8>)>),
    /// A sweep that ends after so many pieces.
    Sweep(usize),
    /// The process is killed and started again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let message = (0..12u8, prop_oneof![2 => Just(Vec::new()), 5 => vec(any::<u8>(), 1..60)]);
    prop_oneof![
        6 => vec(message, 1..12).prop_map(Step::Append),
        2 => (0..12usize).prop_map(Step::Sweep),
        1 => Just(Step::Restart),
    ]
}

/// Two rings of few messages, and few last values.
fn rules() -> RecordRules {
    ["=2000", "t/1=1000"].map(|rule| rule.parse().unwrap()).into_iter().collect()
}

fn log() -> Log {
    let bounds = Bounds { bytes_max: 0, last_values_max: 9, ..Bounds::default() };
    let log = Log::with_bounds(bounds);
    log.record(rules());
    log
}

/// What a ring or a last value needs of `log`, and where its rings begin.
fn needed(log: &Log) -> (Vec<folder::Seen>, RingStarts) {
    let (starts, rules) = (log.ring_starts(), rules());
    let seen = select(log, |log, message| {
        let ruling = rules.ruling(message.topic()).unwrap();
        let (_, start) = starts.rings.iter().find(|(prefix, _)| *prefix == ruling.prefix).unwrap();
        message.position().unwrap().offset > *start || log.is_last_value(message)
    });
    (seen, starts)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_restarted_log_is_as_it_was(steps in vec(step(), 1..40)) {
        let folder = Folder::new();
        let open = || Store::open_on(&folder.disk, folder.path(), &rules(), BOOT, 7).unwrap();
        let (mut store, mut current) = (open(), log());
        for step in steps {
            match step {
                Step::Append(messages) => {
                    let mut batch = SegmentBuilder::default();
                    for (offset, (topic, body)) in (store.position().offset + 1..).zip(messages) {
                        let stamp = Stamp { epoch: 7, offset, time_unix_ns: 1, ..Stamp::default() };
                        batch.push([format!("t/{topic}").as_bytes(), &body], stamp);
                    }
                    store.append(&batch).unwrap();
                    current.append(&mut batch);
                }
                Step::Sweep(pieces) => {
                    let left = Cell::new(pieces);
                    let go_on = || left.replace(left.get().saturating_sub(1)) > 0;
                    sweep(&store.shared.database, &current, 7, 300, go_on).unwrap();
                }
                Step::Restart => {
                    let expected = needed(&current);
                    drop(store);
                    store = open();
                    current = log();
                    store.restore(&current, &rules()).unwrap();
                    prop_assert_eq!(needed(&current), expected);
                }
            }
        }
    }
}

/// A sweep may come between a batch's way into the store and into the log.
#[test]
fn what_the_log_does_not_have_yet_stays() {
    let folder = Folder::new();
    let (mut store, log) = (folder.open(BOOT), log());
    let epoch = store.position().epoch;
    let mut batch = Folder::batch(1..=5, epoch);
    store.append(&batch).unwrap();
    log.append(&mut batch);
    store.append(&Folder::batch(6..=9, epoch)).unwrap();
    sweep(&store.shared.database, &log, epoch, 1 << 20, || true).unwrap();
    drop(store);
    let store = folder.open(BOOT);
    assert_eq!(store.position(), Position { epoch, offset: 9 });
    assert_eq!(contents(&log_of(&store)).len(), 9);
}

#[test]
fn a_folder_does_not_grow_for_ever() {
    let folder = Folder::new();
    let (mut store, log) = (folder.open(BOOT), log());
    for round in 0..40 {
        for n in 0..50 {
            let first = round * 250 + n * 5 + 1;
            let mut batch = Folder::batch(first..=first + 4, store.position().epoch);
            store.append(&batch).unwrap();
            log.append(&mut batch);
        }
        sweep(&store.shared.database, &log, store.position().epoch, 1 << 20, || true).unwrap();
    }
    let mut kept = 0;
    store
        .shared
        .database
        .read(0..u64::MAX, |_, messages| {
            kept += messages.len();
            true
        })
        .unwrap();
    assert!((3..60).contains(&kept), "{kept} messages are kept, where the log needs some twenty");
    let bytes = fs::metadata(folder.messages()).unwrap().len();
    assert!(bytes < 4 << 20, "{bytes} bytes");
    assert_eq!(store.position().offset, 10_000);
}
