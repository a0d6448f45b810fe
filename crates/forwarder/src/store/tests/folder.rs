//! A data folder on a disk that fails when it is told to.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;

use tempfile::TempDir;
use trestle_messages::v1::Stamp;

use super::*;

/// Offset, topic and body.
pub(super) type Seen = (u64, Vec<u8>, Vec<u8>);

/// A system disk that may refuse, and knows what it had at the last sync.
#[derive(Debug, Default, Clone)]
pub(super) struct TestDisk(Arc<Faults>);

#[derive(Debug, Default)]
struct Faults {
    writes: AtomicBool,
    syncs: AtomicBool,
    synced: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
}

impl TestDisk {
    pub(super) fn fail_writes(&self, fail: bool) {
        self.0.writes.store(fail, Ordering::Release);
    }

    pub(super) fn fail_syncs(&self, fail: bool) {
        self.0.syncs.store(fail, Ordering::Release);
    }
}

#[derive(Debug)]
struct TestFile {
    path: PathBuf,
    file: Arc<dyn Blocks>,
    faults: Arc<Faults>,
}

impl Disk for TestDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Blocks>> {
        let file = SystemDisk.open(path)?;
        Ok(Arc::new(TestFile { path: path.to_owned(), file, faults: self.0.clone() }))
    }
}

impl TestFile {
    fn may(fail: &AtomicBool) -> io::Result<()> {
        if fail.load(Ordering::Acquire) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Blocks for TestFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        Self::may(&self.faults.writes)?;
        self.file.write(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::may(&self.faults.writes)?;
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        Self::may(&self.faults.syncs)?;
        let bytes = fs::read(&self.path)?;
        self.faults.synced.lock().unwrap().insert(self.path.clone(), bytes);
        Ok(())
    }
}

pub(super) struct Folder {
    dir: TempDir,
    pub(super) disk: TestDisk,
}

impl Folder {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), disk: TestDisk::default() }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn messages(&self) -> PathBuf {
        self.path().join("messages.redb")
    }

    pub(super) fn try_open(&self, boot_id: BootId) -> Result<Store, OpenError> {
        let new_epoch = getrandom::u64().unwrap() | 1;
        Store::open_on(&self.disk, self.path(), &RecordRules::everything(), boot_id, new_epoch)
    }

    pub(super) fn open(&self, boot_id: BootId) -> Store {
        self.try_open(boot_id).unwrap()
    }

    /// The message at `offset`.
    pub(super) fn message(offset: u64) -> Seen {
        let topic = format!("a/{}", offset % 3 + 1).into_bytes();
        (offset, topic, format!("body {offset}").into_bytes())
    }

    pub(super) fn batch(offsets: RangeInclusive<u64>, epoch: u64) -> SegmentBuilder {
        let mut batch = SegmentBuilder::default();
        for offset in offsets {
            let (_, topic, body) = Self::message(offset);
            batch.push([&topic[..], &body], Stamp { epoch, offset, time_unix_ns: 1, ..Stamp::default() });
        }
        batch
    }

    /// Batches of one to five messages.
    pub(super) fn append(&self, store: &mut Store, offsets: RangeInclusive<u64>) {
        let (mut next, end) = offsets.into_inner();
        while next <= end {
            let last = (next + next % 5).min(end);
            store.append(&Self::batch(next..=last, store.position().epoch)).unwrap();
            next = last + 1;
        }
    }

    /// The files are as they were at their last sync.
    pub(super) fn cut_power(&self) {
        let synced = self.disk.0.synced.lock().unwrap();
        for name in ["run", "messages.redb"] {
            let path = self.path().join(name);
            match synced.get(&path) {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
    }
}

/// What was kept, in a new log.
pub(super) fn log_of(store: &Store) -> Log {
    let log = Log::new(1 << 20);
    log.record(RecordRules::everything());
    store.restore(&log, &RecordRules::everything()).unwrap();
    log
}

/// All that a clone of `log` would get.
pub(super) fn contents(log: &Log) -> Vec<Seen> {
    select(log, |_, _| true)
}

/// The last values alone.
pub(super) fn last_values(log: &Log) -> Vec<Seen> {
    select(log, |log, message| log.is_last_value(message))
}

pub(super) fn select(log: &Log, wanted: impl Fn(&Log, &trestle_recorder::Message<'_>) -> bool) -> Vec<Seen> {
    let (mut seen, mut indices) = (Vec::new(), Vec::new());
    let Some(mut replay) = log.replay(0) else { return seen };
    while let Some(segment) = replay.read(&mut indices) {
        let messages = indices.drain(..).map(|index| segment.message(index as usize));
        for message in messages.filter(|message| wanted(log, message)) {
            let body = message.body().collect::<Vec<_>>().concat();
            seen.push((message.position().unwrap().offset, message.topic().to_vec(), body));
        }
    }
    seen
}
