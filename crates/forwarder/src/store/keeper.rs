//! The thread beside the proxy's: syncs the data folder, and lets go what the log no longer keeps.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use trestle_recorder::Log;

use super::Shared;
use crate::metrics::DataMetrics;

/// How far the disk is behind the operating system, beside what a sync takes.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How far the folder is behind the log, in syncs,
const SWEEP_SYNCS: u32 = 60;
/// or in bytes that were written meanwhile, if that is more than the log has.
const UNSWEPT_BYTES_MAX: u64 = 64 << 20;

/// Dropped, it ends its thread soon after: nobody waits for a disk that hangs.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Gone, it ends the thread.
    alive: Sender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    pub(super) fn spawn(shared: Arc<Shared>, log: Arc<Log>, metrics: DataMetrics) -> std::io::Result<Self> {
        let (alive, ended) = channel::<()>();
        let run = move || {
            let mut syncs_since_sweep = 0;
            while ended.recv_timeout(SYNC_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                syncs_since_sweep += 1;
                let unswept_bytes = shared.unswept_bytes.load(Ordering::Relaxed);
                let is_flooded = unswept_bytes > UNSWEPT_BYTES_MAX.max(log.bytes() as u64);
                let mut kept = shared.sync();
                if kept.is_ok() && (syncs_since_sweep == SWEEP_SYNCS || is_flooded) {
                    syncs_since_sweep = 0;
                    kept = shared.sweep(&log, || ended.try_recv() == Err(TryRecvError::Empty));
                }
                if let Err(error) = kept {
                    return shared.fail(error);
                }
                metrics.bytes(disk_bytes(&shared));
            }
        };
        let thread = thread::Builder::new().name("data".to_owned()).spawn(run)?;
        Ok(Self { alive, thread })
    }

    /// Ends the thread and waits for it.
    pub(super) fn end(self) {
        let Self { alive, thread } = self;
        drop(alive);
        // What went wrong in it, it has said.
        let _ = thread.join();
    }
}

/// What the database takes on the disk; its file has holes.
fn disk_bytes(shared: &Shared) -> u64 {
    /// As stat(2) counts them.
    const BLOCK_BYTES: u64 = 512;
    std::fs::metadata(&shared.messages_path).map_or(0, |metadata| metadata.blocks() * BLOCK_BYTES)
}
