//! After a storm its memory goes back to the system.

use std::thread;
use std::time::Instant;

use trestle_process::memory::{self, Kept};

/// Connections and subscriptions of a shard whose memory, about half a megabyte, is worth the work.
const PEAK_MIN: usize = 500;

/// A storm has passed when for so many looks not many went.
const QUIET_LOOKS: u32 = 4;
/// So many may always go between two looks.
const GONE_MAX: usize = 100;

/// Gives back what the calling thread, and all others, have freed; it does not wait for that.
pub(crate) fn give_back() {
    let kept = Kept::take();
    let work = move || {
        let start = Instant::now();
        memory::give_back(kept);
        tracing::debug!(took = ?start.elapsed(), "memory of those who left went back to the system");
    };
    if let Err(error) = thread::Builder::new().name("memory".to_owned()).spawn(work) {
        tracing::debug!(%error, "memory of those who left stays: there is no thread to give it back");
    }
}

/// How many connections and subscriptions a shard had, and whether most of them have gone.
#[derive(Debug, Default)]
pub(crate) struct Tide {
    /// The most since memory was last given back.
    peak: usize,
    /// At the last look.
    last: usize,
    /// Looks since many went between two of them.
    quiet: u32,
}

impl Tide {
    /// A look, a few times a second. True once when half of them have gone and no more go.
    pub(crate) fn has_ebbed(&mut self, held: usize) -> bool {
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
        let mut look = |held: usize, times: usize| {
            for _ in 0..times {
                looks += 1;
                if tide.has_ebbed(held) {
                    given_back.push((looks, held));
                }
            }
        };
        look(450, 1);
        look(0, 10); // That was none.
        look(10_000, 1);
        look(4_000, 3); // More may go.
        look(300, 10);
        look(2_000, 1);
        look(250, 10);
        assert_eq!(given_back, [(20, 300), (31, 250)]);
    }
}
