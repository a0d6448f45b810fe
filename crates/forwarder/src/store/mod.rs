//! The data folder: what is recorded outlives the process.
//!
//! A batch is in the hands of the operating system before any of it goes to the edges, so a killed process loses nothing
//! that it numbered. What the disk itself has is known only after a sync, once a second, off the hot path; therefore a
//! machine that went down in between begins a new epoch, and so does whoever finds the folder damaged. The files:
//! - `lock`: held by the forwarder that uses the folder;
//! - `run`: the epoch, how far it has come, and whether its run has ended in order;
//! - `messages.redb`: what the log keeps; `messages.redb.damaged`, one that was set aside.

mod database;
mod disk;
mod keeper;
mod layout;
mod mark;
mod sweep;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use trestle_messages::Position;
use trestle_recorder::{Log, RecordRules, RingStarts, SegmentBuilder};

use self::database::{Database, DatabaseError};
use self::disk::{Blocks, Disk, SystemDisk};
use self::keeper::Keeper;
use self::layout::{Batch, Sequence};
use self::mark::{Mark, MarkFile};
use self::sweep::{PIECE_BYTES, sweep};
use crate::metrics::DataMetrics;

pub(crate) use self::mark::BootId;

/// Frames of what was kept are put into the log in segments of so many bytes.
const SEGMENT_BYTES: usize = 256 << 10;

/// Why a folder cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Two would give out the same offsets.
    #[error("another forwarder uses {0}")]
    InUse(PathBuf),
    /// No permission, no space, no folder.
    #[error("cannot use {0}: {1}")]
    Unusable(PathBuf, String),
}

/// The folder has failed while it was used; nothing more is written to it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failed(String);

/// An open data folder, which continues an epoch or begins one.
pub(crate) struct Store {
    shared: Arc<Shared>,
    mark_path: PathBuf,
    boot_id: BootId,
    head: u64,
    /// Where the rings began when it was opened.
    starts: RingStarts,
    batch: Batch,
    keeper: Option<Keeper>,
    /// The lock goes with it.
    _lock: File,
}

/// What the proxy's thread and the keeper's use.
struct Shared {
    epoch: u64,
    database: Database,
    messages: Arc<dyn Blocks>,
    messages_path: PathBuf,
    mark: MarkFile,
    /// Something was written since the last sync.
    dirty: AtomicBool,
    /// Bytes written since the last sweep began.
    unswept_bytes: AtomicU64,
    failed: OnceLock<Failed>,
}

/// What a folder held.
struct Found {
    database: Database,
    messages: Arc<dyn Blocks>,
    sequence: Sequence,
    head: u64,
}

impl Store {
    /// Opens `dir`, which is made if it is not there. If what it holds cannot be continued, the log says why and `new_epoch`
    /// begins. Where the record rules have other prefixes than before, all rings begin anew: a message may be missing that
    /// another rule let go, or that none recorded. Last values stay.
    ///
    /// # Errors
    /// [`OpenError`]: then the forwarder had better not start.
    pub(crate) fn open(
        dir: &Path,
        rules: &RecordRules,
        boot_id: BootId,
        new_epoch: u64,
    ) -> Result<Self, OpenError> {
        Self::open_on(&SystemDisk, dir, rules, boot_id, new_epoch)
    }

    fn open_on(
        disk: &dyn Disk,
        dir: &Path,
        rules: &RecordRules,
        boot_id: BootId,
        new_epoch: u64,
    ) -> Result<Self, OpenError> {
        let unusable = |error: &dyn std::fmt::Display| OpenError::Unusable(dir.to_owned(), error.to_string());
        fs::create_dir_all(dir).map_err(|error| unusable(&error))?;
        let lock = lock(dir)?;
        let (mark_path, messages_path) = (dir.join("run"), dir.join("messages.redb"));
        let mark = MarkFile::new(disk.open(&mark_path).map_err(|error| unusable(&error))?);
        let found = find(disk, &mark, &messages_path, boot_id).map_err(|error| unusable(&error))?;
        let found = match found {
            Some(found) => found,
            None => begin(disk, &mark, &messages_path, new_epoch).map_err(|error| unusable(&error))?,
        };
        let Found { database, messages, sequence, head } = found;
        let epoch = sequence.epoch;
        let starts = starts_for(rules, sequence.starts(), head);
        database.set_sequence(&Sequence::new(epoch, starts.clone())).map_err(|error| unusable(&error))?;
        // On the disk before any offset is given out: what ends without a word from here on has not ended in order.
        let running = Mark { epoch, head, boot_id, is_clean: false };
        mark.write(&running).map_err(|error| unusable(&error))?;
        let (dirty, unswept_bytes, failed) = (AtomicBool::new(false), AtomicU64::new(0), OnceLock::new());
        let shared = Shared { epoch, database, messages, messages_path, mark, dirty, unswept_bytes, failed };
        let (shared, batch) = (Arc::new(shared), Batch::default());
        Ok(Self { shared, mark_path, boot_id, head, starts, batch, keeper: None, _lock: lock })
    }

    /// The epoch that is continued or begun, and the newest offset that was given out in it.
    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.shared.epoch, offset: self.head }
    }

    /// Puts what was kept into `log`, which is new and records by `rules`.
    ///
    /// # Errors
    /// What the disk answers. Then the log has less than it says.
    pub(crate) fn restore(&self, log: &Log, rules: &RecordRules) -> Result<(), Failed> {
        let Self { head, shared, .. } = self;
        if *head == 0 {
            return Ok(());
        }
        let position = Position { epoch: shared.epoch, offset: *head };
        log.begin(position, &self.starts);
        let mut segment = SegmentBuilder::default();
        let read = shared.database.read(0..u64::MAX, |_, messages| {
            for message in messages.iter().filter(|message| rules.is_recorded(message.frames[0])) {
                segment.push(message.frames.iter().copied(), message.stamp);
                if segment.frame_bytes() > SEGMENT_BYTES {
                    log.append(&mut segment);
                }
            }
            true
        });
        log.append(&mut segment);
        // What came last may be recorded no more.
        log.advance(position);
        read.map_err(|error| Failed(error.to_string()))
    }

    /// Starts the thread that syncs the folder and lets go what `log` no longer keeps.
    ///
    /// # Errors
    /// What the system answers.
    pub(crate) fn keep(&mut self, log: Arc<Log>, metrics: DataMetrics) -> io::Result<()> {
        self.keeper = Some(Keeper::spawn(Arc::clone(&self.shared), log, metrics)?);
        Ok(())
    }

    /// Writes the recorded ones of `messages`; the operating system has them when this returns.
    ///
    /// # Errors
    /// [`Failed`], now or before: then none of `messages` may be sent with its number, and the store is to be
    /// [abandoned](Self::abandon).
    pub(crate) fn append(&mut self, messages: &SegmentBuilder) -> Result<(), Failed> {
        self.check()?;
        self.batch.clear();
        for (frames, stamp) in messages.messages().filter(|(_, stamp)| stamp.offset != 0) {
            self.batch.push(frames, stamp);
        }
        let Some((first, last)) = self.batch.offsets() else { return Ok(()) };
        let Shared { database, mark, dirty, unswept_bytes, .. } = &*self.shared;
        let written = database.append(first, self.batch.bytes()).map_err(|error| error.to_string());
        written.and_then(|()| mark.advance(last).map_err(|error| error.to_string())).map_err(Failed)?;
        dirty.store(true, Ordering::Release);
        unswept_bytes.fetch_add(self.batch.bytes().len() as u64, Ordering::Relaxed);
        self.head = last;
        Ok(())
    }

    /// Whether the folder still works.
    ///
    /// # Errors
    /// [`Failed`], as [`append`](Self::append).
    pub(crate) fn check(&self) -> Result<(), Failed> {
        self.shared.failed.get().cloned().map_or(Ok(()), Err)
    }

    /// Gives a failing folder up, and leaves nothing in it to continue from, if it lets us: another epoch begins now, and
    /// positions of this one must not be taken for whole again.
    pub(crate) fn abandon(self) {
        let marked = self.shared.mark.forget();
        let removed = fs::remove_file(&self.mark_path).and(fs::remove_file(&self.shared.messages_path));
        if let (Err(error), Err(_)) = (removed, marked) {
            tracing::error!("--data: cannot clear the folder; remove it before the next start: {error}");
        }
    }

    /// Ends in order: everything is on the disk, and the next start continues whatever happens to the machine.
    ///
    /// # Errors
    /// What the disk answers; then the next start continues only if the machine stays up.
    pub(crate) fn close(self) -> Result<(), Failed> {
        self.check()?;
        let Self { shared, head, boot_id, keeper, _lock, .. } = self;
        if let Some(keeper) = keeper {
            keeper.end();
        }
        let shared = Arc::into_inner(shared).expect("the keeper has ended");
        let Shared { epoch, database, messages, mark, .. } = shared;
        database.close().map_err(|error| Failed(error.to_string()))?;
        let synced =
            messages.sync().and_then(|()| mark.write(&Mark { epoch, head, boot_id, is_clean: true }));
        synced.map_err(|error| Failed(error.to_string()))
    }
}

impl Shared {
    /// Waits until the disk has all that was written before.
    fn sync(&self) -> Result<(), String> {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.messages.sync().map_err(|error| format!("cannot sync: {error}"))
    }

    /// Lets go what `log` no longer keeps, while `go_on`.
    fn sweep(&self, log: &Log, go_on: impl Fn() -> bool) -> Result<(), String> {
        self.unswept_bytes.store(0, Ordering::Relaxed);
        sweep(&self.database, log, self.epoch, PIECE_BYTES, go_on).map_err(|error| error.to_string())
    }

    fn fail(&self, error: String) {
        // The first failure is the one to tell.
        let _ = self.failed.set(Failed(error));
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// This run of the machine. Where the system does not tell, each run of the process is taken for one, so that only what
/// ended in order is continued.
pub(crate) fn boot_id() -> io::Result<BootId> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let digits: Option<String> = text.ok().map(|text| text.trim().replace('-', ""));
    match digits.and_then(|digits| u128::from_str_radix(&digits, 16).ok()) {
        Some(id) => Ok(id.to_be_bytes()),
        None => {
            let mut id = BootId::default();
            getrandom::fill(&mut id).map_err(io::Error::other)?;
            Ok(id)
        }
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let open = File::options().write(true).create(true).truncate(false).open(dir.join("lock"));
    let file = open.map_err(|error| OpenError::Unusable(dir.to_owned(), error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::Unusable(dir.to_owned(), error.to_string())),
    }
}

/// What can be continued; the log says why nothing can, and the way is free for a new one then.
fn find(disk: &dyn Disk, file: &MarkFile, path: &Path, boot_id: BootId) -> io::Result<Option<Found>> {
    let is_there = fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
    let mark = file.read()?;
    let why = match mark {
        None if !is_there => return Ok(None),
        None => "nothing says how the last run stood".to_owned(),
        Some(mark) if !mark.is_clean && mark.boot_id != boot_id => {
            tracing::warn!(
                "--data: the machine went down while it was written to: a new epoch begins, empty"
            );
            fs::remove_file(path).or_else(absent_is_fine)?;
            return Ok(None);
        }
        Some(mark) => match reopen(disk, path, mark) {
            Ok(found) => return Ok(Some(found)),
            Err(why) => why,
        },
    };
    let aside = path.with_extension("redb.damaged");
    tracing::error!(
        "--data: {}: {why}: set aside as {}; a new epoch begins",
        path.display(),
        aside.display()
    );
    fs::rename(path, aside).or_else(absent_is_fine)?;
    Ok(None)
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Opens the database that `mark` speaks of.
fn reopen(disk: &dyn Disk, path: &Path, mark: Mark) -> Result<Found, String> {
    let messages = disk.open(path).map_err(|error| error.to_string())?;
    let open = || -> Result<_, DatabaseError> {
        let database = Database::open(&messages)?;
        let (sequence, head) = (database.sequence()?, database.head()?);
        // Every batch is read, so that nothing is found damaged later.
        database.read(0..u64::MAX, |_, _| true)?;
        Ok((database, sequence, head))
    };
    let (database, sequence, head) = open().map_err(|error| error.to_string())?;
    if sequence.epoch != mark.epoch || head < mark.head {
        return Err(format!("it ends at {head}, where {} was given out", mark.head));
    }
    Ok(Found { database, messages, sequence, head })
}

/// Makes an empty database for a new epoch.
fn begin(disk: &dyn Disk, mark: &MarkFile, path: &Path, epoch: u64) -> Result<Found, DatabaseError> {
    mark.forget()?;
    let messages = disk.open(path)?;
    let database = Database::open(&messages)?;
    let sequence = Sequence::new(epoch, RingStarts::default());
    database.set_sequence(&sequence)?;
    Ok(Found { database, messages, sequence, head: 0 })
}

/// Where the rings of these rules begin.
fn starts_for(rules: &RecordRules, kept: RingStarts, head: u64) -> RingStarts {
    let prefixes = || rules.iter().map(|rule| rule.prefix.clone());
    let mut before: Vec<_> = kept.rings.iter().map(|(prefix, _)| prefix.clone()).collect();
    let mut now: Vec<_> = prefixes().collect();
    before.sort();
    now.sort();
    if before == now {
        return kept;
    }
    if head > 0 {
        tracing::warn!("--data: the record rules are others than before: what is older is not replayed");
    }
    RingStarts { rings: prefixes().map(|prefix| (prefix, head)).collect(), ..kept }
}
