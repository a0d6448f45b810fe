//! How fast an address may publish by `POST`, where there is no connection to count by.

use std::hash::RandomState;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::address::Site;

/// Addresses whose buckets are full again are forgotten this often.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// The time since it was made.
#[derive(Debug, Clone, Copy)]
struct Since(Instant);

impl Clock for Since {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

type Buckets = RateLimiter<Site, HashMapStateStore<Site, RandomState>, Since, NoOpMiddleware<Duration>>;

/// A bucket of tokens for each address, over all shards.
#[derive(Debug)]
pub(crate) struct Pace {
    a_second: u32,
    buckets: Option<Buckets>,
    forgot: Mutex<Instant>,
}

impl Pace {
    /// So many a second, and at once; 0: no limit.
    pub(crate) fn new(a_second: u32, now: Instant) -> Self {
        let quota = NonZeroU32::new(a_second).map(Quota::per_second);
        let buckets = quota.map(|quota| RateLimiter::new(quota, HashMapStateStore::default(), Since(now)));
        Self { a_second, buckets, forgot: Mutex::new(now) }
    }

    /// Whether the client at `address` may publish now.
    ///
    /// # Errors
    /// Why not, for people.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<(), String> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        // Whoever finds it locked leaves it to the other.
        if let Ok(mut forgot) = self.forgot.try_lock()
            && now.saturating_duration_since(*forgot) >= FORGET_EVERY
        {
            *forgot = now;
            buckets.retain_recent();
            buckets.shrink_to_fit();
        }
        let taken = buckets.check_key(&Site::from(address));
        taken.map_err(|_| format!("more than {} publications a second from this address", self.a_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_and_is_forgotten() {
        let now = Instant::now();
        let pace = Pace::new(2, now);
        let take = |address: [u8; 4], now| pace.take(address.into(), now).is_ok();
        assert_eq!([(); 3].map(|()| take([192, 0, 2, 1], now)), [true, true, false]);
        assert!(take([192, 0, 2, 2], now));
        let full = Pace::new(1_000_000, now);
        (0..1_000u32).for_each(|n| full.take(IpAddr::from(n.to_be_bytes()), now).unwrap());
        let buckets = full.buckets.as_ref().unwrap();
        assert_eq!(buckets.len(), 1_000);
        full.take(IpAddr::from([192, 0, 2, 1]), now + FORGET_EVERY).unwrap();
        assert!(buckets.len() < 1_000, "their buckets were full long before");
        let none = Pace::new(0, now);
        assert!((0..1_000).all(|_| none.take(IpAddr::from([192, 0, 2, 1]), now).is_ok()));
    }
}
