//! What is refused is logged one by one at debug; where it is a flood, a line a minute says so for everybody.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many within [`WINDOW`] are a flood.
const FLOOD_MIN: u64 = 100;
const WINDOW: Duration = Duration::from_secs(10);
/// Between two lines.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What was refused lately, over all shards.
#[derive(Debug, Default)]
pub(crate) struct Floods(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    window: Option<Instant>,
    in_window: u64,
    said: Option<Instant>,
    since_said: u64,
}

impl Floods {
    /// Something was refused, of the client at `address`.
    pub(crate) fn note(&self, cause: &str, address: IpAddr) {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner).note(Instant::now());
        if let Some(refused) = refused {
            tracing::warn!(
                refused,
                cause,
                %address,
                "a flood: clients are refused in numbers, lately this one; each is logged at debug, and counted by cause \
                 in the metrics"
            );
        }
    }
}

impl Lately {
    /// How many there were since it was last said, where it is to be said now.
    fn note(&mut self, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|since| now - since >= WINDOW) {
            (self.window, self.in_window) = (Some(now), 0);
        }
        self.in_window += 1;
        self.since_said += 1;
        let is_due = self.said.is_none_or(|said| now - said >= SAID_EVERY);
        let is_said = self.in_window >= FLOOD_MIN && is_due;
        is_said.then(|| {
            self.said = Some(now);
            std::mem::take(&mut self.since_said)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_once_a_minute_and_a_trickle_never() {
        let start = Instant::now();
        let mut lately = Lately::default();
        let trickle = (0..1_000).filter_map(|n| lately.note(start + n * Duration::from_millis(200)));
        assert_eq!(trickle.count(), 0);
        let start = start + Duration::from_secs(1_000);
        let flood = (0..100_000u32).filter_map(|n| lately.note(start + n * Duration::from_millis(1)));
        assert_eq!(flood.collect::<Vec<_>>(), [1_100, 60_000]);
    }
}
