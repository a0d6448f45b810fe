//! When the link is told how far the sequence has come.

use std::time::{Duration, Instant};

use trestle_recorder::BEAT_INTERVAL;

/// After a burst a beat follows at once, but not sooner than this after the last: a loss at the burst's end is seen
/// soon, and single messages at a high rate do not double the traffic.
const BURST_GAP: Duration = Duration::from_millis(50);

/// Says when a beat is due: every second, after a burst, and when a new edge asks.
#[derive(Debug)]
pub(crate) struct BeatClock {
    last: Instant,
    head_told: u64,
    asked: bool,
}

impl BeatClock {
    /// The first beat is due at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now, head_told: 0, asked: true }
    }

    /// An edge came that knows nothing yet.
    pub(crate) fn ask(&mut self) {
        self.asked = true;
    }

    /// Whether to beat at `now`. `quiet`: no message waits to be read, so a burst is over.
    pub(crate) fn is_due(&self, now: Instant, head: u64, quiet: bool) -> bool {
        let gap = now.duration_since(self.last);
        self.asked || gap >= BEAT_INTERVAL || (quiet && head != self.head_told && gap >= BURST_GAP)
    }

    /// How long to wait for messages at most, if none come.
    pub(crate) fn wait(&self, now: Instant, head: u64) -> Duration {
        let gap = if self.asked {
            Duration::ZERO
        } else if head != self.head_told {
            BURST_GAP
        } else {
            BEAT_INTERVAL
        };
        gap.saturating_sub(now.duration_since(self.last))
    }

    /// A beat with this head was sent.
    pub(crate) fn sent(&mut self, now: Instant, head: u64) {
        *self = Self { last: now, head_told: head, asked: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_follow_time_bursts_and_new_edges() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut clock = BeatClock::new(start);
        assert!(clock.is_due(start, 0, true), "the first at once");
        clock.sent(start, 0);
        assert!(!clock.is_due(at(999), 0, true), "nothing new and less than a second");
        assert_eq!(clock.wait(at(400), 0), Duration::from_millis(600));
        assert!(clock.is_due(at(1000), 0, false), "a second has passed, in the middle of a burst too");

        clock.sent(at(1000), 0);
        assert!(!clock.is_due(at(1010), 5, true), "too soon after the last");
        assert_eq!(clock.wait(at(1010), 5), Duration::from_millis(40));
        assert!(!clock.is_due(at(1050), 5, false), "the burst goes on");
        assert!(clock.is_due(at(1050), 5, true), "the burst is over");
        clock.sent(at(1050), 5);
        assert!(!clock.is_due(at(1200), 5, true), "told already");

        clock.ask();
        assert!(clock.is_due(at(1201), 5, false), "a new edge");
        assert_eq!(clock.wait(at(1201), 5), Duration::ZERO);
    }
}
