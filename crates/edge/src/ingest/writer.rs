//! What goes into the log, and who is told of it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::sync::Notify;
use trestle_recorder::{Log, LogWriter, Written};

use super::upstream::Upstream;

/// The only writer of the log. Readers see what it wrote after [`flush`](Self::flush).
pub(super) struct Writer {
    log: LogWriter,
    shards: Vec<Arc<Notify>>,
    pub(super) upstream: Arc<Upstream>,
}

impl Writer {
    /// Writes to `log` and tells `shards`.
    pub(super) fn new(log: Arc<Log>, shards: Vec<Arc<Notify>>, upstream: Arc<Upstream>) -> Self {
        Self { log: LogWriter::new(log), shards, upstream }
    }

    /// Appends what was gathered and wakes the shards if there is anything new.
    pub(super) fn flush(&mut self) {
        if let Some(Written { messages, bytes }) = self.log.flush() {
            self.upstream.messages.add(messages);
            self.upstream.bytes.add(bytes);
            self.shards.iter().for_each(|shard| shard.notify_one());
        }
    }
}

impl Deref for Writer {
    type Target = LogWriter;

    fn deref(&self) -> &LogWriter {
        &self.log
    }
}

impl DerefMut for Writer {
    fn deref_mut(&mut self) -> &mut LogWriter {
        &mut self.log
    }
}
