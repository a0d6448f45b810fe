//! The forwarder's end of the link: numbers what is recorded and says how far it has come.

use trestle_messages::Position;
use trestle_messages::v1::{Beat, Stamp};

use crate::RecordRules;

/// Gives each recorded message the next offset of its epoch. One owner, one sequence.
#[derive(Debug)]
pub struct Stamper {
    epoch: u64,
    head: u64,
    rules: RecordRules,
}

impl Stamper {
    /// Begins `epoch` (never 0, never used before) at offset 1.
    ///
    /// # Panics
    /// If `epoch` is 0, which on the wire means none.
    pub fn new(epoch: u64, rules: RecordRules) -> Self {
        Self::behind(Position { epoch, offset: 0 }, rules)
    }

    /// Goes on behind `position`, the last that was given out.
    ///
    /// # Panics
    /// If its epoch is 0.
    pub fn behind(position: Position, rules: RecordRules) -> Self {
        let Position { epoch, offset: head } = position;
        assert_ne!(epoch, 0, "an epoch of 0 means none");
        Self { epoch, head, rules }
    }

    /// The stamp of a message on `topic` that came in at `now` (Unix nanoseconds). An unrecorded topic gets offset 0
    /// and leaves the sequence alone.
    pub fn stamp(&mut self, topic: &[u8], now: u64) -> Stamp {
        let mut offset = 0;
        if self.rules.is_recorded(topic) {
            self.head += 1;
            offset = self.head;
        }
        Stamp { epoch: self.epoch, offset, time_unix_ns: now, original_frames: false, body_start: 0 }
    }

    /// What the link is told every second and after each burst.
    pub fn beat(&self) -> Beat {
        Beat { epoch: self.epoch, head: self.head, tail: self.head + 1, recorded: (&self.rules).into() }
    }

    /// The epoch of every stamp.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest offset given out; 0 before the first.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// What is recorded.
    pub fn rules(&self) -> &RecordRules {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecordRule;

    #[test]
    fn recorded_topics_are_contiguous_and_others_take_no_number() {
        let mut stamper = Stamper::new(9, RecordRules::from_iter([RecordRule::new("jobs/")]));
        let offsets =
            [&b"jobs/1"[..], b"other", b"jobs/2", b"job", b"jobs/"].map(|t| stamper.stamp(t, 5).offset);
        assert_eq!(offsets, [1, 0, 2, 0, 3]);
        let beat = stamper.beat();
        assert_eq!((beat.epoch, beat.head, beat.tail, beat.recorded.len()), (9, 3, 4, 1));
    }
}
