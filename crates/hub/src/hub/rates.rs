//! How fast a client may say things: a bucket of tokens for its commands, another for its publications.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::{Hub, SessionId};
use crate::ErrorCode;
use crate::encode::CommandError;
use crate::limits::Limits;
use crate::ws::CloseCode;

/// Refused so often in a row a client is closed with 4029: it does not wait when it is told to.
const REFUSED_MAX: u32 = 1_000;

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// A command, a ping, or something that is neither.
    Command,
    Publication,
}

/// The hub's time as governor asks for it: since the hub was made.
#[derive(Debug, Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, Hand, NoOpMiddleware<Duration>>;

/// The buckets of a client that has said something.
#[derive(Debug)]
pub(crate) struct Buckets {
    commands: Option<(Bucket, NonZeroU32)>,
    publications: Option<(Bucket, NonZeroU32)>,
    /// In a row.
    refused: u32,
}

/// What fills the buckets.
#[derive(Debug)]
pub(super) struct Rates {
    start: Instant,
    hand: Hand,
    commands: Option<Quota>,
    publications: Option<Quota>,
}

impl Rates {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let quota = |a_second, burst| {
            let a_second = NonZeroU32::new(a_second)?;
            Some(Quota::per_second(a_second).allow_burst(NonZeroU32::new(burst).unwrap_or(a_second)))
        };
        let commands = quota(limits.commands_per_second, limits.commands_burst);
        let publications = quota(limits.publications_per_second, limits.publications_per_second);
        Self { start: now, hand: Hand::default(), commands, publications }
    }

    fn buckets(&self) -> Box<Buckets> {
        let bucket = |quota: Quota| (Bucket::direct_with_clock(quota, self.hand.clone()), quota.burst_size());
        let (commands, publications) = (self.commands.map(bucket), self.publications.map(bucket));
        Box::new(Buckets { commands, publications, refused: 0 })
    }

    fn is_off(&self) -> bool {
        self.commands.is_none() && self.publications.is_none()
    }

    fn show(&self, now: Instant) {
        let since = u64::try_from((now - self.start).as_nanos()).unwrap_or(u64::MAX);
        self.hand.0.store(since, Ordering::Relaxed);
    }
}

impl Buckets {
    /// So many tokens, or as many as there can be at once.
    fn take(&self, said: Said, n: u32) -> bool {
        let bucket = match said {
            Said::Command => &self.commands,
            Said::Publication => &self.publications,
        };
        let n = NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        bucket.as_ref().is_none_or(|(bucket, burst)| matches!(bucket.check_n(n.min(*burst)), Ok(Ok(()))))
    }
}

impl Hub {
    /// Whether the client may say this now, which counts as `n`. Who goes on saying what it may not is closed.
    pub(super) fn may_say(&mut self, id: SessionId, said: Said, n: usize) -> bool {
        if self.rates.is_off() {
            return true;
        }
        self.rates.show(self.now);
        let buckets = self.sessions[id as usize].buckets.get_or_insert_with(|| self.rates.buckets());
        if buckets.take(said, u32::try_from(n).unwrap_or(u32::MAX)) {
            buckets.refused = 0;
            return true;
        }
        buckets.refused += 1;
        let is_too_often = buckets.refused >= REFUSED_MAX;
        self.fault(id, ErrorCode::RateLimited, "more in a second than it may");
        if is_too_often {
            self.begin_close(id, CloseCode::TooManyRequests);
        }
        false
    }

    /// What a client is told that says too much.
    pub(super) fn too_fast(&self, id: Option<u64>, said: Said) -> CommandError {
        let reason = match said {
            Said::Command => format!("more than {} commands a second", self.limits.commands_per_second),
            Said::Publication => {
                format!("more than {} publications a second", self.limits.publications_per_second)
            }
        };
        CommandError { id, code: ErrorCode::RateLimited, reason, unparsed: false }
    }
}
