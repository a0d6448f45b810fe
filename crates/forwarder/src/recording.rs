//! What the proxy thread keeps of what it passes on: copies, because a kept ØMQ message pins libzmq's receive buffer.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use trestle_messages::Position;
use trestle_messages::v1::Stamp;
use trestle_process::exit::Exit;
use trestle_recorder::{Bounds, Gap, Log, RecordRules, SegmentBuilder, Stamper};

use crate::metrics::DataMetrics;
use crate::store::{self, Failed, Store};

/// Nobody reads the newest messages here but replays, which read the rings.
const NEWEST_BYTES_MAX: usize = 1 << 20;
/// Bytes of a batch, beyond which it is closed early.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What is too old goes this often.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// From this offset on everything recorded is held.
pub(crate) fn tail(log: &Log) -> u64 {
    let rings = log.ring_starts().rings;
    let head = log.cursor().position().map_or(0, |position| position.offset);
    rings.iter().map(|(_, complete_after)| complete_after + 1).max().unwrap_or(head + 1)
}

/// Gathers a turn's recorded messages, writes them to the data folder where there is one, and appends them to the log.
pub(crate) struct Recording {
    log: Arc<Log>,
    batch: SegmentBuilder,
    data: Option<Data>,
    expire_at: Instant,
}

/// An open data folder.
struct Data {
    store: Store,
    metrics: DataMetrics,
    /// Begins when the folder fails.
    next_epoch: u64,
}

impl Recording {
    /// A log by `rules`, which goes on where the folder `data` has come to, or begins an epoch; and what stamps for it.
    ///
    /// # Errors
    /// An [`Exit`] with code 71 if the folder cannot be used.
    pub(crate) fn open(
        rules: RecordRules,
        data: Option<&Path>,
        registry: &mut Registry,
    ) -> Result<(Self, Stamper), Exit> {
        let log = Log::with_bounds(Bounds { bytes_max: NEWEST_BYTES_MAX, ..Bounds::default() });
        log.record(rules.clone());
        let (log, epoch) = (Arc::new(log), new_epoch()?);
        let data = data.map(|dir| Data::open(dir, &rules, epoch, &log, registry)).transpose()?;
        let beginning = Position { epoch, offset: 0 };
        let position = data.as_ref().map_or(beginning, |data| data.store.position());
        log.advance(position);
        let expire_at = Instant::now() + EXPIRE_INTERVAL;
        let recording = Self { log, batch: SegmentBuilder::default(), data, expire_at };
        Ok((recording, Stamper::behind(position, rules)))
    }

    /// What replays are read from.
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Whether there is a data folder: then what is recorded is [written](Self::write) before anybody sees its offset.
    pub(crate) fn is_written(&self) -> bool {
        self.data.is_some()
    }

    /// A recorded message begins; its [`frame`](Self::frame)s and its [`end`](Self::end) follow.
    pub(crate) fn begin(&mut self, stamp: Stamp) {
        self.batch.begin(stamp);
    }

    pub(crate) fn frame(&mut self, bytes: &[u8]) {
        self.batch.frame(bytes);
    }

    /// Whether so much was gathered that it is to be [flushed](Self::flush).
    pub(crate) fn end(&mut self) -> bool {
        self.batch.end();
        self.batch.frame_bytes() >= BATCH_BYTES_MAX
    }

    /// What was gathered and not flushed.
    pub(crate) fn gathered(&self) -> &SegmentBuilder {
        &self.batch
    }

    /// Writes what was gathered to the data folder, where there is one; the operating system has it then.
    ///
    /// # Errors
    /// [`Failed`]: the folder is to be [given up](Self::give_up).
    pub(crate) fn write(&mut self) -> Result<(), Failed> {
        self.data.as_mut().map_or(Ok(()), |data| data.store.append(&self.batch))
    }

    /// Whether the data folder still works.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn check(&self) -> Result<(), Failed> {
        self.data.as_ref().map_or(Ok(()), |data| data.store.check())
    }

    /// Goes on without the data folder, in a new epoch, because nobody knows what is left of this one after the next start.
    /// What was gathered gets the first offsets of it.
    pub(crate) fn give_up(&mut self, failed: &Failed, stamper: &mut Stamper) {
        let Some(Data { store, metrics, next_epoch }) = self.data.take() else { return };
        tracing::error!(
            "--data: {failed}: nothing more is written to it. A new epoch begins, in memory alone; live messages go on"
        );
        metrics.failed();
        let from = Some(store.position());
        store.abandon();
        *stamper = Stamper::new(next_epoch, stamper.rules().clone());
        let until = Position { epoch: next_epoch, offset: 0 };
        self.log.append_gap(Gap { from, until, messages: None });
        let mut batch = SegmentBuilder::default();
        for (frames, stamp) in self.batch.messages() {
            let topic = frames.clone().next().expect("a message has a frame");
            let Stamp { epoch, offset, .. } = stamper.stamp(topic, stamp.time_unix_ns);
            batch.push(frames, Stamp { epoch, offset, ..*stamp });
        }
        self.batch = batch;
    }

    /// Appends what was gathered.
    pub(crate) fn flush(&mut self) {
        self.log.append(&mut self.batch);
    }

    /// Ends in order: the next start continues here.
    pub(crate) fn close(&mut self) {
        if let Some(Err(failed)) = self.data.take().map(|data| data.store.close()) {
            tracing::error!("--data: {failed}");
        }
    }

    /// Lets go what is too old, when it is time.
    pub(crate) fn expire(&mut self, now: Instant) {
        if now >= self.expire_at {
            self.expire_at = now + EXPIRE_INTERVAL;
            self.log.expire(unix_ns());
        }
    }

    /// From this offset on everything recorded is held.
    pub(crate) fn tail(&self) -> u64 {
        tail(&self.log)
    }
}

impl Data {
    /// Opens `dir` and puts what it kept into `log`.
    fn open(
        dir: &Path,
        rules: &RecordRules,
        epoch: u64,
        log: &Arc<Log>,
        registry: &mut Registry,
    ) -> Result<Self, Exit> {
        let exit = |error: &dyn std::fmt::Display| Exit::os(format!("--data: {error}"));
        let boot_id = store::boot_id().map_err(|error| exit(&error))?;
        let mut store = Store::open(dir, rules, boot_id, epoch).map_err(|error| exit(&error))?;
        store.restore(log, rules).map_err(|error| exit(&error))?;
        let metrics = DataMetrics::new(registry);
        store.keep(Arc::clone(log), metrics.clone()).map_err(|error| exit(&error))?;
        let Position { epoch: continued, offset } = store.position();
        if continued != epoch {
            tracing::info!("{}: the epoch goes on behind {offset}", dir.display());
        }
        Ok(Self { store, metrics, next_epoch: new_epoch()? })
    }
}

/// Nanoseconds since 1970 by the system's clock.
pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A number that no forwarder used before: 64 random bits, so that neither a clock that was set back nor a lost data
/// folder can repeat one.
fn new_epoch() -> Result<u64, Exit> {
    loop {
        match getrandom::u64() {
            Ok(0) => {}
            Ok(epoch) => return Ok(epoch),
            Err(error) => return Err(Exit::os(format!("the system has no randomness: {error}"))),
        }
    }
}
