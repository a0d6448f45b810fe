//! After a storm its memory goes back to the system.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trestle_process::memory;

use crate::metrics::ShardMetrics;

/// How often it is looked whether a storm has come or passed.
const LOOK: Duration = Duration::from_millis(250);
/// Connections and subscriptions whose memory, about a megabyte, is worth the work.
const PEAK_MIN: u64 = 1_000;

/// A storm has passed when for so many looks not many went.
const QUIET_LOOKS: u32 = 4;
/// So many may always go between two looks.
const GONE_MAX: u64 = 100;

/// Looks until its task is aborted.
pub(crate) async fn follow(shards: Vec<Arc<ShardMetrics>>) {
    let mut tide = Tide::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let held = shards.iter().map(|shard| shard.connections.sum() + shard.subscriptions.value()).sum();
        if tide.has_ebbed(held) {
            let start = Instant::now();
            memory::give_back();
            tracing::debug!(took = ?start.elapsed(), "memory of those who left went back to the system");
        }
    }
}

/// How many there were, and whether most of them have gone.
#[derive(Debug, Default)]
struct Tide {
    /// The most since memory was last given back.
    peak: u64,
    /// At the last look.
    last: u64,
    /// Looks since many went between two of them.
    quiet: u32,
}

impl Tide {
    /// True once when half of them have gone and no more go.
    fn has_ebbed(&mut self, held: u64) -> bool {
        let gone = std::mem::replace(&mut self.last, held).saturating_sub(held);
        self.quiet = if gone > GONE_MAX { 0 } else { self.quiet.saturating_add(1) };
        self.peak = self.peak.max(held);
        let has_ebbed = self.peak >= PEAK_MIN && held <= self.peak / 2 && self.quiet >= QUIET_LOOKS;
        if has_ebbed {
            self.peak = held;
        }
        has_ebbed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_back_once_after_each_storm() {
        let mut tide = Tide::default();
        let (mut looks, mut given_back) = (0, Vec::new());
        let mut look = |held: u64, times: usize| {
            for _ in 0..times {
                looks += 1;
                if tide.has_ebbed(held) {
                    given_back.push((looks, held));
                }
            }
        };
        look(900, 1);
        look(0, 10); // That was none.
        look(10_000, 1);
        look(4_000, 3); // More may go.
        look(300, 10);
        look(2_000, 1);
        look(250, 10);
        assert_eq!(given_back, [(20, 300), (31, 250)]);
    }
}
