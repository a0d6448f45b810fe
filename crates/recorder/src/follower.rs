//! The edge's end of the link: what the stamps and beats say about it.

use std::time::{Duration, Instant};

use trestle_messages::v1::{Beat, Stamp};

use crate::RecordRules;

/// A forwarder beats this often, and after each burst.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// After so many missed beats the upstream counts as silent.
pub const BEATS_MISSED_MAX: u32 = 3;

/// What a stamp means for the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampSeen {
    /// Not recorded: outside the sequence.
    Unnumbered,
    /// The next in order, or the first of all.
    Next,
    /// Seen before; to be dropped.
    Repeated,
    /// Offsets in between never came. The message itself is good.
    Hole {
        /// Messages missing in front of this one.
        missing: u64,
    },
    /// The first of another epoch: the sequence begins anew with it.
    NewEpoch,
}

/// What a beat changed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BeatSeen {
    /// The first beat since start: the link works.
    pub first: bool,
    /// The forwarder records other topics than it did.
    pub rules_changed: bool,
    /// Messages at the end that were sent, but never came.
    pub lost_tail: u64,
}

/// Follows one forwarder. Feed it every stamp and beat in the order of the link; time never goes back.
#[derive(Debug, Default)]
pub struct Follower {
    epoch: u64,
    head: u64,
    rules: RecordRules,
    last_beat: Option<Instant>,
}

impl Follower {
    /// A message's stamp.
    pub fn on_stamp(&mut self, stamp: &Stamp) -> StampSeen {
        if stamp.offset == 0 {
            return StampSeen::Unnumbered;
        }
        let before = (self.epoch, self.head);
        if stamp.epoch == self.epoch && stamp.offset <= self.head {
            return StampSeen::Repeated;
        }
        (self.epoch, self.head) = (stamp.epoch, stamp.offset);
        match before {
            (0, _) => StampSeen::Next,
            (epoch, _) if epoch != stamp.epoch => StampSeen::NewEpoch,
            (_, head) if head + 1 == stamp.offset => StampSeen::Next,
            (_, head) => StampSeen::Hole { missing: stamp.offset - head - 1 },
        }
    }

    /// A beat, received at `now`. A beat of another epoch moves the follower there at its head.
    pub fn on_beat(&mut self, beat: &Beat, now: Instant) -> BeatSeen {
        let rules = RecordRules::from(&beat.recorded[..]);
        let first = self.last_beat.replace(now).is_none();
        let mut seen = BeatSeen { first, rules_changed: first || rules != self.rules, lost_tail: 0 };
        if beat.epoch == self.epoch {
            seen.lost_tail = beat.head.saturating_sub(self.head);
        }
        if beat.epoch != self.epoch || beat.head > self.head {
            (self.epoch, self.head) = (beat.epoch, beat.head);
        }
        self.rules = rules;
        seen
    }

    /// Whether a beat has come at all.
    pub fn has_followed(&self) -> bool {
        self.last_beat.is_some()
    }

    /// Whether [`BEATS_MISSED_MAX`] beats have been missed at `now`; never before the first beat.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.last_beat.is_some_and(|last| now.duration_since(last) > BEAT_INTERVAL * BEATS_MISSED_MAX)
    }

    /// The epoch followed; 0 before the first stamp or beat.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest offset seen.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// What the forwarder records, by its last beat.
    pub fn rules(&self) -> &RecordRules {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stamper;

    fn stamp(epoch: u64, offset: u64) -> Stamp {
        Stamp { epoch, offset, time_unix_ns: 1, ..Stamp::default() }
    }

    #[test]
    fn a_sequence_with_every_fault() {
        let mut follower = Follower::default();
        let script = [
            (stamp(1, 5), StampSeen::Next),
            (stamp(1, 6), StampSeen::Next),
            (stamp(1, 0), StampSeen::Unnumbered),
            (stamp(1, 6), StampSeen::Repeated),
            (stamp(1, 9), StampSeen::Hole { missing: 2 }),
            (stamp(1, 8), StampSeen::Repeated),
            (stamp(2, 1), StampSeen::NewEpoch),
            (stamp(2, 2), StampSeen::Next),
        ];
        for (step, (stamp, expected)) in script.into_iter().enumerate() {
            assert_eq!(follower.on_stamp(&stamp), expected, "step {step}");
        }
    }

    #[test]
    fn beats_show_the_rules_a_lost_tail_and_silence() {
        let (mut follower, start) = (Follower::default(), Instant::now());
        let mut stamper = Stamper::new(4, RecordRules::everything());
        assert!(!follower.is_stale(start + Duration::from_secs(100)), "never followed is not stale");

        let first = follower.on_beat(&stamper.beat(), start);
        assert_eq!(first, BeatSeen { first: true, rules_changed: true, lost_tail: 0 });
        assert!(follower.rules().is_recorded(b"anything"));

        let last = (0..3).map(|_| stamper.stamp(b"a", 1)).last().unwrap();
        let next = follower.on_beat(&stamper.beat(), start + BEAT_INTERVAL);
        assert_eq!(next, BeatSeen { first: false, rules_changed: false, lost_tail: 3 });
        assert_eq!(follower.on_stamp(&last), StampSeen::Repeated, "told as lost, so no longer welcome");

        assert!(!follower.is_stale(start + BEAT_INTERVAL * 4));
        assert!(follower.is_stale(start + BEAT_INTERVAL * 4 + Duration::from_millis(1)));
    }
}
