//! Folders that are reopened, damaged, cut from power and out of order.

mod folder;
mod sweeping;

use std::fs;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use trestle_recorder::RecordRules;

use super::*;
use folder::{Folder, contents, log_of};

const BOOT: BootId = [1; 16];
const OTHER_BOOT: BootId = [2; 16];

/// A store with messages 1 to `n`, a few a batch.
fn written(folder: &Folder, n: u64) -> Store {
    let mut store = folder.open(BOOT);
    folder.append(&mut store, 1..=n);
    store
}

#[test]
fn a_killed_process_loses_nothing() {
    let folder = Folder::new();
    let store = written(&folder, 100);
    let epoch = store.position().epoch;
    // As when it is killed: nothing is closed, and the folder's lock goes.
    drop(store);
    let store = folder.open(BOOT);
    assert_eq!((store.position().epoch, store.position().offset), (epoch, 100));
    let expected: Vec<_> = (1..=100).map(Folder::message).collect();
    assert_eq!(contents(&log_of(&store)), expected);
}

#[test]
fn offsets_go_on_over_many_runs() {
    let folder = Folder::new();
    let epoch = folder.open(BOOT).position().epoch;
    for run in 0..5 {
        let mut store = folder.open(BOOT);
        assert_eq!((store.position().epoch, store.position().offset), (epoch, run * 7));
        folder.append(&mut store, run * 7 + 1..=run * 7 + 7);
        if run % 2 == 0 {
            store.close().unwrap();
        }
    }
    assert_eq!(contents(&log_of(&folder.open(BOOT))).len(), 35);
}

#[test]
fn unrecorded_messages_are_not_kept() {
    let folder = Folder::new();
    let mut store = written(&folder, 3);
    let mut batch = SegmentBuilder::default();
    batch.push([&b"a"[..], b"passing by"], Default::default());
    store.append(&batch).unwrap();
    assert_eq!((store.position().offset, contents(&log_of(&store)).len()), (3, 3));
}

#[test]
fn a_clean_stop_is_continued_whatever_happens_to_the_machine() {
    let folder = Folder::new();
    let store = written(&folder, 100);
    let epoch = store.position().epoch;
    store.close().unwrap();
    folder.cut_power();
    let store = folder.open(OTHER_BOOT);
    assert_eq!((store.position().epoch, store.position().offset), (epoch, 100));
    assert_eq!(contents(&log_of(&store)).len(), 100);
}

#[test]
fn a_power_cut_begins_a_new_epoch() {
    let folder = Folder::new();
    let store = written(&folder, 100);
    let epoch = store.position().epoch;
    store.shared.sync().unwrap();
    drop(store);
    folder.cut_power();
    let store = folder.open(OTHER_BOOT);
    assert!(store.position().epoch != epoch && store.position().offset == 0);
    assert_eq!(contents(&log_of(&store)), []);
}

/// The mark of an earlier clean stop would be all that the disk has.
#[test]
fn a_power_cut_soon_after_a_clean_stop_begins_a_new_epoch() {
    let folder = Folder::new();
    let store = written(&folder, 10);
    let epoch = store.position().epoch;
    store.close().unwrap();
    let mut store = folder.open(BOOT);
    folder.append(&mut store, 11..=20);
    drop(store);
    folder.cut_power();
    assert_ne!(folder.open(OTHER_BOOT).position().epoch, epoch, "11 to 20 were given out");
}

#[test]
fn a_lost_tail_begins_a_new_epoch() {
    let folder = Folder::new();
    let mut store = written(&folder, 50);
    let epoch = store.position().epoch;
    let earlier = fs::read(folder.messages()).unwrap();
    folder.append(&mut store, 51..=60);
    drop(store);
    fs::write(folder.messages(), earlier).unwrap();
    let store = folder.open(BOOT);
    assert!(store.position().epoch != epoch && store.position().offset == 0);
    assert!(folder.messages().with_extension("redb.damaged").exists());
}

#[test]
fn a_file_that_is_cut_short_or_gone_begins_a_new_epoch() {
    for part in [0, 1, 2, 3] {
        let folder = Folder::new();
        let store = written(&folder, 200);
        let epoch = store.position().epoch;
        drop(store);
        let bytes = fs::read(folder.messages()).unwrap();
        fs::write(folder.messages(), &bytes[..bytes.len() * part / 4]).unwrap();
        let store = folder.open(BOOT);
        assert!(store.position().epoch != epoch && store.position().offset == 0, "{part} of 4");
    }
    let folder = Folder::new();
    let epoch = written(&folder, 10).position().epoch;
    fs::remove_file(folder.path().join("run")).unwrap();
    assert_ne!(folder.open(BOOT).position().epoch, epoch);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// A damage is noticed, or it is where nothing was.
    #[test]
    fn no_damage_gives_out_an_offset_again(at: prop::sample::Index, bits in 1u8.., clean: bool) {
        let folder = Folder::new();
        let store = written(&folder, 60);
        let epoch = store.position().epoch;
        if clean { store.close().unwrap() } else { drop(store) };
        let mut bytes = fs::read(folder.messages()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        fs::write(folder.messages(), bytes).unwrap();
        let store = folder.open(BOOT);
        if store.position().epoch == epoch {
            prop_assert_eq!(store.position().offset, 60);
            let expected: Vec<_> = (1..=60).map(Folder::message).collect();
            prop_assert_eq!(contents(&log_of(&store)), expected);
        } else {
            prop_assert_eq!(store.position().offset, 0);
        }
    }
}

#[test]
fn a_folder_has_one_forwarder() {
    let folder = Folder::new();
    let _store = folder.open(BOOT);
    let again = Store::open(folder.path(), &RecordRules::everything(), BOOT, 9);
    let error = again.err().unwrap();
    assert!(matches!(&error, OpenError::InUse(dir) if dir == folder.path()), "{error}");
}

#[test]
fn what_is_no_folder_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = Store::open(file.path(), &RecordRules::everything(), BOOT, 9);
    let error = refused.err().unwrap();
    assert!(matches!(error, OpenError::Unusable(..)), "{error}");
}

#[test]
fn a_disk_that_is_full_from_the_start_is_refused() {
    let folder = Folder::new();
    folder.disk.fail_writes(true);
    assert!(matches!(folder.try_open(BOOT), Err(OpenError::Unusable(..))));
}

#[test]
fn what_could_not_be_written_ends_the_epoch_for_good() {
    let folder = Folder::new();
    let mut store = written(&folder, 10);
    let epoch = store.position().epoch;
    folder.disk.fail_writes(true);
    store.append(&Folder::batch(11..=12, epoch)).unwrap_err();
    store.abandon();
    folder.disk.fail_writes(false);
    let store = folder.open(BOOT);
    assert!(store.position().epoch != epoch && store.position().offset == 0);
}

#[test]
fn a_failing_sync_fails_the_store() {
    let folder = Folder::new();
    let mut store = folder.open(BOOT);
    let epoch = store.position().epoch;
    store.keep(Arc::new(log_of(&store)), DataMetrics::default()).unwrap();
    folder.disk.fail_syncs(true);
    folder.append(&mut store, 1..=5);
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.check().is_ok() {
        assert!(Instant::now() < deadline, "the sync is due");
        std::thread::yield_now();
    }
    store.append(&Folder::batch(6..=6, epoch)).unwrap_err();
    store.abandon();
    folder.disk.fail_syncs(false);
    assert_ne!(folder.open(BOOT).position().epoch, epoch);
}

#[test]
fn other_rules_replay_nothing_older_and_keep_last_values() {
    let folder = Folder::new();
    let store = written(&folder, 10);
    let epoch = store.position().epoch;
    drop(store);
    let rules: RecordRules = ["a/", "b/"].map(|rule| rule.parse().unwrap()).into_iter().collect();
    let store = Store::open(folder.path(), &rules, BOOT, 9).unwrap();
    assert_eq!((store.position().epoch, store.position().offset), (epoch, 10));
    let log = Log::new(0);
    log.record(rules.clone());
    store.restore(&log, &rules).unwrap();
    assert_eq!(log.ring_starts().rings, [(b"a/".to_vec(), 10), (b"b/".to_vec(), 10)]);
    // Topics a/1 to a/3, in turn.
    let last: Vec<_> = folder::last_values(&log);
    assert_eq!(last, (8..=10).map(Folder::message).collect::<Vec<_>>());
}

#[test]
fn a_machine_has_one_boot_id_at_a_time() {
    assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    assert_ne!(boot_id().unwrap(), BootId::default());
}
