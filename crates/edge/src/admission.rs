//! How many clients may connect in a second, over all shards.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nobody is sent away for longer. Whoever comes when all of that time is promised shares a place with somebody.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// What is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) a_second: NonZeroU32,
    /// So many at once after a quiet while.
    pub(crate) burst: NonZeroU32,
}

/// The one bucket of the process.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Locked by each handshake for some nanoseconds, and never while anything is awaited.
    bucket: Option<Mutex<Bucket>>,
}

impl Admission {
    /// Without a rate everybody is admitted.
    pub(crate) fn new(rate: Option<Rate>, now: Instant) -> Self {
        Self { bucket: rate.map(|rate| Mutex::new(Bucket::new(rate, now))) }
    }

    /// Admits a client, or says how long it should stay away.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Duration> {
        match &self.bucket {
            Some(bucket) => bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now),
            None => Ok(()),
        }
    }
}

/// A token bucket, as the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
struct Bucket {
    /// A token comes this often.
    interval: Duration,
    /// From empty to full.
    fill: Duration,
    full_at: Instant,
    /// Every token that comes before has been promised to somebody who was sent away.
    promised: Instant,
}

impl Bucket {
    fn new(Rate { a_second, burst }: Rate, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / a_second.get();
        Self { interval, fill: interval * burst.get(), full_at: now, promised: now }
    }

    /// Takes a token. Without one it promises the next that nobody was promised, so that those who are sent away by a storm
    /// come back as fast as tokens do, and not in step. Promises are not kept apart: whoever comes first gets the token.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + self.interval;
        if full_at <= now + self.fill {
            self.full_at = full_at;
            return Ok(());
        }
        let next_token = full_at - self.fill;
        let mut place = self.promised.max(next_token);
        if place > now + AWAY_MAX {
            place = next_token;
        }
        self.promised = place + self.interval;
        Err(place - now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn bucket(a_second: u32, burst: u32, now: Instant) -> Bucket {
        let [a_second, burst] = [a_second, burst].map(|n| NonZeroU32::new(n).unwrap());
        Bucket::new(Rate { a_second, burst }, now)
    }

    /// As `Retry-After` has it.
    fn whole_seconds(after: Duration) -> Duration {
        Duration::from_secs(after.as_secs() + 1)
    }

    proptest! {
        /// Whenever they come: in no stretch of time more are admitted than the burst and what that time brings, and
        /// nobody is refused while the bucket has a token.
        #[test]
        fn admits_the_rate_and_the_burst(a_second in 1u32..2_000, burst in 1u32..2_000,
                                         steps_us in proptest::collection::vec(0u64..20_000, 1..600)) {
            let start = Instant::now();
            let mut bucket = bucket(a_second, burst, start);
            let (mut now, mut tokens, mut admitted) = (start, f64::from(burst), Vec::new());
            for step in steps_us {
                let step = Duration::from_micros(step);
                now += step;
                tokens = (tokens + step.as_secs_f64() * f64::from(a_second)).min(f64::from(burst));
                let is_admitted = bucket.take(now).is_ok();
                // An interval is whole nanoseconds, so on the edge both answers are right.
                prop_assert!(!is_admitted || tokens > 0.999, "admitted with {tokens} tokens");
                prop_assert!(is_admitted || tokens < 1.001, "refused with {tokens} tokens");
                if is_admitted {
                    tokens = (tokens - 1.0).max(0.0);
                    admitted.push(now);
                }
            }
            for (nth, from) in admitted.iter().enumerate() {
                for (more, until) in admitted[nth..].iter().enumerate() {
                    let most = f64::from(burst) + (*until - *from).as_secs_f64() * f64::from(a_second) + 0.01;
                    prop_assert!((more + 1) as f64 <= most.max(1.0), "{} within {:?}", more + 1, *until - *from);
                }
            }
        }

        /// A storm that does as it is told is served at the rate, and nobody is sent away for ever.
        #[test]
        fn those_who_are_sent_away_do_not_come_back_in_step(a_second in 1u32..200, seconds_of_burst in 1u32..3, storm in 1u32..3_000) {
            let start = Instant::now();
            let burst = a_second * seconds_of_burst;
            let mut bucket = bucket(a_second, burst, start);
            let mut coming = BTreeMap::from([(start, storm)]);
            let mut last = start;
            let laps = f64::from(storm) / f64::from(a_second) / AWAY_MAX.as_secs_f64();
            while let Some((now, n)) = coming.pop_first() {
                last = now;
                // A second's worth, since whole seconds gather them. Larger storms share places, several times over.
                prop_assert!(now == start || laps > 1.0 || n <= a_second + 1, "{n} at once after {:?}", now - start);
                for _ in 0..n {
                    if let Err(after) = bucket.take(now) {
                        prop_assert!(after <= AWAY_MAX);
                        *coming.entry(now + whole_seconds(after)).or_default() += 1;
                    }
                }
            }
            let at_the_rate = f64::from(storm) / f64::from(a_second);
            prop_assert!((last - start).as_secs_f64() <= 2.0 * at_the_rate + 3.0, "{:?}", last - start);
        }
    }

    #[test]
    fn the_first_who_is_refused_comes_back_first() {
        let now = Instant::now();
        let mut bucket = bucket(10, 2, now);
        let ms = |bucket: &mut Bucket, at_ms| {
            let now = now + Duration::from_millis(at_ms);
            bucket.take(now).map_err(|after| after.as_millis())
        };
        assert_eq!(
            [0, 0, 0, 0, 0].map(|at| ms(&mut bucket, at)),
            [Ok(()), Ok(()), Err(100), Err(200), Err(300)]
        );
        assert_eq!(ms(&mut bucket, 100), Ok(()));
        assert_eq!(ms(&mut bucket, 150), Err(250), "behind those who wait");
        assert_eq!([1_000, 1_000, 1_000].map(|at| ms(&mut bucket, at)), [Ok(()), Ok(()), Err(100)]);
    }

    #[test]
    fn without_a_rate_all_are_admitted() {
        let admission = Admission::new(None, Instant::now());
        assert!((0..10_000).all(|_| admission.admit(Instant::now()).is_ok()));
    }
}
