//! How much a log keeps.

use std::time::Duration;

/// What a log holds beside its rings, which the record rules bound. With them its memory stays below about
/// `bytes_max + 2 × (all rings + last_values_bytes_max) + waste_bytes_max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The newest messages of all topics, with their encodings: what shards and slow sessions read. 64 MiB is some seconds
    /// of the fastest feed. Beyond it the oldest are dropped, but for what a ring or a last value keeps; the newest
    /// segment always stays.
    pub bytes_max: usize,
    /// Topics with a last value: 100,000. Beyond it the least recently updated goes.
    pub last_values_max: usize,
    /// Bytes of all last values, frames and the 72 that a message costs beside them: 64 MiB. Beyond it the least recently
    /// updated goes.
    pub last_values_bytes_max: u64,
    /// A last value that is older goes at the next [`expire`](crate::Log::expire): 24 hours, a day that nobody looked.
    pub last_value_age_max: Duration,
    /// Memory of messages that nobody needs any more is taken back when there is more of it than of others and than this:
    /// 1 MiB.
    pub waste_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes_max: 64 << 20,
            last_values_max: 100_000,
            last_values_bytes_max: 64 << 20,
            last_value_age_max: Duration::from_secs(24 * 60 * 60),
            waste_bytes_max: 1 << 20,
        }
    }
}

/// Nanoseconds of a bound; one of more than 584 years is none.
pub(super) fn nanos(age: Duration) -> u64 {
    u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)
}
