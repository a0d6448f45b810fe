//! Keeps a log readable when the same fault happens a thousand times a second.

use std::time::{Duration, Instant};

/// One line at most in this time.
const EVERY: Duration = Duration::from_secs(10);

/// Lets a fault be said at once, then at most every ten seconds.
#[derive(Debug, Default)]
pub struct Seldom {
    next: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// The fault has happened. If it is time to say so: how often it has happened unsaid since the last time.
    pub fn say(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.unsaid += 1;
            return None;
        }
        self.next = Some(now + EVERY);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_first_and_then_how_many() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.say(start), Some(0));
        assert!((0..99).all(|_| seldom.say(start).is_none()));
        assert_eq!(seldom.say(start + EVERY), Some(99));
        assert_eq!(seldom.say(start + EVERY), None);
    }
}
