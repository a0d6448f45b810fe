//! One coarse timer wheel for all sessions of a shard, instead of a sleep for each.

use std::time::{Duration, Instant};

/// Timers fire within one tick behind their time. Nothing a browser waits for is finer.
pub const TICK: Duration = Duration::from_millis(250);

/// A round of the wheel is 128 s; longer timers go round again.
const SLOTS: usize = 512;

/// Timers that fire once. A timer is not cancelled: whoever set it ignores what no longer concerns it, and may have it
/// forgotten.
#[derive(Debug)]
pub struct Wheel<T> {
    slots: Vec<Vec<(u64, T)>>,
    start: Instant,
    /// Ticks already fired.
    fired: u64,
}

impl<T> Wheel<T> {
    /// An empty wheel whose time begins at `now`.
    pub fn new(now: Instant) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), start: now, fired: 0 }
    }

    /// Fires `timer` at the first [`fire`](Self::fire) not before `at`.
    pub fn set(&mut self, at: Instant, timer: T) {
        let due = at.saturating_duration_since(self.start).as_nanos().div_ceil(TICK.as_nanos());
        let due = u64::try_from(due).unwrap_or(u64::MAX).max(self.fired + 1);
        self.slots[Self::slot(due)].push((due, timer));
    }

    /// Moves all timers that are due at `now` to `out`, in the order of their ticks.
    pub fn fire(&mut self, now: Instant, out: &mut Vec<T>) {
        let elapsed = now.saturating_duration_since(self.start).as_nanos() / TICK.as_nanos();
        let end = u64::try_from(elapsed).unwrap_or(u64::MAX);
        // After a pause longer than a round, each slot is visited once, not once for every tick of the pause.
        let from = (self.fired + 1).max(end.saturating_sub(SLOTS as u64 - 1));
        for tick in from..=end {
            let slot = &mut self.slots[Self::slot(tick)];
            out.extend(slot.extract_if(.., |(due, _)| *due <= end).map(|(_, timer)| timer));
            shrink(slot);
        }
        self.fired = self.fired.max(end);
    }

    /// Forgets timers that concern nobody any more, which otherwise stay until their time. It looks at all.
    pub fn retain(&mut self, mut concerns: impl FnMut(&T) -> bool) {
        for slot in &mut self.slots {
            slot.retain(|(_, timer)| concerns(timer));
            shrink(slot);
        }
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(Vec::is_empty)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }

    fn slot(tick: u64) -> usize {
        usize::try_from(tick % SLOTS as u64).expect("less than the number of slots")
    }
}

/// After a storm the memory goes back.
fn shrink<T>(slot: &mut Vec<T>) {
    if slot.len() < slot.capacity() / 4 {
        slot.shrink_to(slot.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each timer fires once: never early, and at the first look a tick behind its time.
        #[test]
        fn fires_once_and_in_time(timers in proptest::collection::vec(0u64..400_000, 0..40),
                                  looks in proptest::collection::vec(1u64..60_000, 1..40)) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start);
            for ms in &timers {
                wheel.set(start + Duration::from_millis(*ms), *ms);
            }
            let (mut now, mut fired) = (0, Vec::new());
            for step in looks {
                now += step;
                let mut due = Vec::new();
                wheel.fire(start + Duration::from_millis(now), &mut due);
                prop_assert!(due.iter().all(|ms| *ms <= now));
                fired.extend(due);
                let tick_ms = TICK.as_millis() as u64;
                let late = timers.iter().filter(|ms| **ms + tick_ms <= now && !fired.contains(ms)).count();
                prop_assert_eq!(late, 0);
            }
            let mut expected: Vec<_> = timers.iter().filter(|ms| fired.contains(ms)).copied().collect();
            expected.sort_unstable();
            fired.sort_unstable();
            prop_assert_eq!(fired, expected, "each once");
        }

        /// What is forgotten does not fire, everything else does as if nothing had been.
        #[test]
        fn forgets_what_it_is_told_to(timers in proptest::collection::vec(0u64..400_000, 0..80), parts in 1u64..5) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start);
            for ms in &timers {
                wheel.set(start + Duration::from_millis(*ms), *ms);
            }
            wheel.retain(|ms| ms % parts == 0);
            let mut fired = Vec::new();
            wheel.fire(start + Duration::from_millis(500_000), &mut fired);
            fired.sort_unstable();
            let mut expected: Vec<_> = timers.into_iter().filter(|ms| ms % parts == 0).collect();
            expected.sort_unstable();
            prop_assert_eq!(fired, expected);
            prop_assert!(wheel.is_empty());
        }
    }
}
