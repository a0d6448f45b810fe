//! The run's one clock, monotonic, shared by who publishes and who receives.

use std::time::{Duration, Instant};

/// Nanoseconds since the run's beginning.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now, at 0.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds so far; about 25 ns of work.
    #[inline]
    pub fn now_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).expect("584 years")
    }

    /// Sleeps until the clock shows `at_ns`.
    pub fn sleep_until(self, at_ns: u64) {
        let wait_ns = at_ns.saturating_sub(self.now_ns());
        if wait_ns > 0 {
            std::thread::sleep(Duration::from_nanos(wait_ns));
        }
    }
}

/// Seconds as the clock counts them.
pub fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// What the clock counted, as seconds.
pub fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
