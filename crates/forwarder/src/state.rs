//! What the proxy thread lets the others see, and the one thing they tell it: to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use trestle_messages::Position;
use trestle_messages::v1::{RecordRule, RecorderStatus};
use trestle_process::private_http::Readiness;
use trestle_recorder::Log;

use crate::recording;

/// The proxy thread turns at least every second, to beat; after this long without a turn it is stuck.
const TURN_GAP_MAX: Duration = Duration::from_secs(5);

/// Shared by the proxy thread, which writes, and gRPC and HTTP, which read.
#[derive(Debug)]
pub(crate) struct State {
    recorded: Vec<RecordRule>,
    log: Arc<Log>,
    started: Instant,
    /// When the proxy thread last turned, milliseconds since `started`; `u64::MAX` once it has ended.
    turned_ms: AtomicU64,
    stop: AtomicBool,
}

impl State {
    pub(crate) fn new(recorded: Vec<RecordRule>, log: Arc<Log>) -> Self {
        Self {
            recorded,
            log,
            started: Instant::now(),
            turned_ms: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// The proxy thread has finished a turn.
    pub(crate) fn turned(&self, now: Instant) {
        self.turned_ms.store(self.ms(now), Ordering::Release);
    }

    /// The proxy thread has ended.
    pub(crate) fn ended(&self) {
        self.turned_ms.store(u64::MAX, Ordering::Release);
    }

    /// Asks the proxy thread to stop; it must be woken to see it.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// What `Recorder.Status` answers.
    pub(crate) fn status(&self) -> RecorderStatus {
        let position = self.log.cursor().position();
        let Position { epoch, offset: head } = position.expect("a recording begins with a position");
        RecorderStatus {
            epoch,
            head,
            tail: recording::tail(&self.log),
            recorded: self.recorded.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// What replays are read from.
    pub(crate) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    /// What is recorded.
    pub(crate) fn recorded(&self) -> &[RecordRule] {
        &self.recorded
    }

    /// Ready as long as messages are moved.
    pub(crate) fn readiness(&self) -> Readiness {
        match self.turned_ms.load(Ordering::Acquire) {
            u64::MAX => Err("the proxy thread has ended".to_owned()),
            turned_ms => {
                let gap = Duration::from_millis(self.ms(Instant::now()).saturating_sub(turned_ms));
                if gap > TURN_GAP_MAX {
                    Err(format!("the proxy thread has been stuck for {} s", gap.as_secs()))
                } else {
                    Ok("ready".to_owned())
                }
            }
        }
    }

    fn ms(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX - 1)
    }
}
