//! The newest messages, as their readers see them.

use proptest::prelude::*;
use trestle_messages::v1::Stamp;

use crate::SegmentBuilder;
use crate::log::{Cursor, Log};
use trestle_messages::Position;

fn append(log: &Log, topics: &[u64]) {
    let mut batch = SegmentBuilder::default();
    for topic in topics {
        batch.push([&topic.to_be_bytes()[..]], Stamp::default());
    }
    log.append(&mut batch);
}

fn read(log: &Log, cursor: &mut Cursor) -> (Vec<u64>, bool) {
    let mut segments = Vec::new();
    let overrun = log.read(cursor, &mut segments).is_err();
    let number = |topic: &[u8]| u64::from_be_bytes(topic.try_into().unwrap());
    (
        segments.iter().flat_map(|s| s.messages().map(|m| number(m.topic())).collect::<Vec<_>>()).collect(),
        overrun,
    )
}

proptest! {
    /// However appends and reads alternate, a reader sees an unbroken run, or is told where it broke.
    #[test]
    fn a_reader_misses_nothing_untold(script in proptest::collection::vec((1u64..5, any::<bool>()), 1..50),
                                      bytes_max in 100usize..2_000) {
        let log = Log::new(bytes_max);
        let (mut cursor, mut sent, mut next) = (log.cursor(), 0, 0);
        for (n, reads) in script {
            append(&log, &(sent..sent + n).collect::<Vec<_>>());
            sent += n;
            if reads {
                let (seen, overrun) = read(&log, &mut cursor);
                prop_assert_eq!(overrun, seen[0] != next, "told exactly when it missed something");
                prop_assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1));
                prop_assert_eq!(*seen.last().unwrap(), sent - 1);
                next = sent;
            }
        }
    }
}

#[test]
fn an_empty_batch_is_no_segment() {
    let log = Log::new(1000);
    let mut cursor = log.cursor();
    append(&log, &[]);
    assert_eq!(read(&log, &mut cursor), (vec![], false));
}

#[test]
fn a_cursor_knows_the_position_behind_what_it_read() {
    let log = Log::new(10_000);
    let mut cursor = log.cursor();
    assert_eq!(cursor.position(), None);
    let at = |offset| Position { epoch: 3, offset };
    log.advance(at(7));
    assert_eq!(log.cursor().position(), Some(at(7)));
    let mut batch = SegmentBuilder::default();
    for offset in [8, 9, 0] {
        batch.push([&[0; 8][..]], Stamp { epoch: 3, offset, ..Stamp::default() });
    }
    log.append(&mut batch);
    assert_eq!(cursor.position(), None, "not before it reads");
    read(&log, &mut cursor);
    assert_eq!(cursor.position(), Some(at(9)));
}

#[test]
fn memory_stays_bounded_and_numbers_rise() {
    let log = Log::new(1_000);
    for n in 0..1_000 {
        append(&log, &[n]);
    }
    assert!(log.bytes() <= 1_000);
    let mut late = Cursor { segment: 0, next_seq: 1, position: None };
    let mut segments = Vec::new();
    let overrun = log.read(&mut late, &mut segments).unwrap_err();
    assert_eq!(overrun.messages, segments[0].message(0).seq() - 1);
    assert_eq!(segments.last().unwrap().message(0).seq(), 1_000);
}

#[test]
fn encodings_count_and_go_with_their_segment() {
    let log = Log::new(10_000);
    append(&log, &[1]);
    let before = log.bytes();
    let mut segments = Vec::new();
    assert_eq!(log.read_from(0, 1, &mut segments), 1);
    segments[0].message(0).encoded(crate::Slot::new(1), || vec![0; 20_000].into());
    assert!(log.bytes() > before + 20_000);
    append(&log, &[2]);
    assert_eq!(log.oldest_seq(), 2, "it weighs what its encoding does");
    segments.clear();
    assert_eq!(log.bytes(), before);
}

#[test]
fn a_reader_can_start_anywhere() {
    let log = Log::new(10_000);
    for batch in [&[0, 1, 2][..], &[3], &[4, 5]] {
        append(&log, batch);
    }
    for (seq, first) in [(0, 1), (1, 1), (3, 1), (4, 4), (6, 5)] {
        let mut segments = Vec::new();
        assert_eq!(log.read_from(seq, 1, &mut segments), 1);
        assert_eq!(segments.iter().map(|segment| segment.first_seq()).collect::<Vec<_>>(), [first]);
    }
    let mut segments = Vec::new();
    log.read_from(7, 9, &mut segments);
    assert!(segments.is_empty());
    log.read_from(2, 9, &mut segments);
    assert_eq!(segments.len(), 3);
}
