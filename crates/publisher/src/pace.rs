//! When the next message is due at a rate, by a schedule and not by sleeps, so that errors do not add up.

use std::time::{Duration, Instant};

/// Arrears beyond this are forgiven: after a long stall the rate goes on, a flood does not make up for it.
const ARREARS_MAX: Duration = Duration::from_secs(1);

/// The longest gap that is planned; a lower rate sends one message in this time. A year is as good as never.
const GAP_S_MAX: f64 = 31_536_000.0;

/// A schedule of messages at an even rate. `now` must not go back.
#[derive(Debug)]
pub(crate) struct Pacer {
    rate: f64,
    start: Instant,
    sent: u64,
}

impl Pacer {
    /// `rate` messages a second, positive; the first is due at `now`.
    pub(crate) fn new(rate: f64, now: Instant) -> Self {
        Self { rate: rate.max(1.0 / GAP_S_MAX), start: now, sent: 0 }
    }

    /// How many messages are due.
    pub(crate) fn due(&mut self, now: Instant) -> u64 {
        let arrears = now.saturating_duration_since(self.next_at());
        if arrears > ARREARS_MAX {
            self.start += arrears - ARREARS_MAX;
        }
        let elapsed = now.saturating_duration_since(self.start).as_secs_f64();
        // The first is due at once, the n-th after n - 1 gaps.
        let scheduled = (elapsed * self.rate) as u64 + 1;
        scheduled.saturating_sub(self.sent)
    }

    /// So many were sent.
    pub(crate) fn count(&mut self, n: u64) {
        self.sent += n;
    }

    /// When the next one is due.
    pub(crate) fn next_at(&self) -> Instant {
        let seconds = (self.sent as f64 / self.rate).min(GAP_S_MAX * 100.0);
        self.start + Duration::from_secs_f64(seconds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends all that is due at each of the times; returns how many went out.
    fn run(rate: f64, times: impl Iterator<Item = Duration>) -> u64 {
        let start = Instant::now();
        let mut pacer = Pacer::new(rate, start);
        for time in times {
            let n = pacer.due(start + time);
            pacer.count(n);
        }
        pacer.sent
    }

    proptest! {
        /// However the wakes fall, the count is the rate times the time, to one message.
        #[test]
        fn keeps_the_rate(rate in 0.01f64..1e6, gaps in prop::collection::vec(0u64..900, 1..50)) {
            let mut now = Duration::ZERO;
            let times: Vec<_> = gaps.iter().map(|&ms| { now += Duration::from_millis(ms); now }).collect();
            let sent = run(rate, times.into_iter());
            let ideal = 1.0 + now.as_secs_f64() * rate;
            prop_assert!((sent as f64 - ideal).abs() <= 1.0 + ideal * 1e-9, "{} of {}", sent, ideal);
        }

        /// Whoever waits until the next one is due finds exactly one due, or two where floats round.
        #[test]
        fn the_next_one_is_due_when_it_says(rate in 0.01f64..1e5, n in 0u64..10_000) {
            let mut pacer = Pacer::new(rate, Instant::now());
            pacer.sent = n;
            let next = pacer.next_at() + Duration::from_nanos(1_000);
            prop_assert!((1..=2).contains(&pacer.due(next)));
        }
    }

    #[test]
    fn a_stall_is_made_up_for_a_second_only() {
        let sent = run(1_000.0, [Duration::ZERO, Duration::from_secs(60)].into_iter());
        assert!((1_001..=1_003).contains(&sent), "{sent}");
    }
}
