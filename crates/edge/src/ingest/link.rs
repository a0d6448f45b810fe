//! What comes from a forwarder: stamped messages and beats.

use std::ops::Deref;
use std::time::Instant;

use prost::Message as _;
use trestle_messages::v1::{Beat, Stamp};
use trestle_messages::{BEAT_MARKER, Position, topic};
use trestle_recorder::{BEAT_INTERVAL, Follower, RecordRules, SegmentBuilder, StampSeen};

use super::seldom::Seldom;
use super::upstream::Upstream;

/// Reads one link. Pure but for its counters and log lines.
#[derive(Debug, Default)]
pub(super) struct Link {
    follower: Follower,
    /// Since when subscriptions travel up; what is numbered until they stand was never promised to us.
    joining: Option<Instant>,
    holes: Seldom,
    malformed: Seldom,
    epochs: Seldom,
}

/// What a message was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// A message; it is in the batch.
    Message,
    /// Nothing for the log: repeated, malformed or reserved.
    Dropped,
    /// A beat.
    Beat {
        /// Where the sequence stands, if this beat has moved it without a message.
        advanced: Option<Position>,
        /// What is recorded from now on.
        rules: Option<RecordRules>,
    },
}

impl Link {
    /// Takes one message with at least one frame; `now` never goes back.
    pub(super) fn take<F: Deref<Target = [u8]>>(
        &mut self,
        frames: &[F],
        now: Instant,
        batch: &mut SegmentBuilder,
        upstream: &Upstream,
    ) -> Taken {
        if topic::is_reserved(&frames[0]) {
            return self.take_reserved(frames, now, upstream);
        }
        let (last, body) = frames.split_last().expect("a message has a frame");
        let stamp = Stamp::decode(&last[..]).ok().filter(|stamp| stamp.epoch != 0 && !body.is_empty());
        let Some(stamp) = stamp else {
            return self.malformed(now, "a message without a stamp", upstream);
        };
        let epoch = self.follower.epoch();
        match self.follower.on_stamp(&stamp) {
            StampSeen::Unnumbered => {}
            StampSeen::Repeated => return Taken::Dropped,
            StampSeen::Next => self.joining = None,
            StampSeen::Hole { missing } => {
                if self.joining.take().is_none() {
                    self.hole(missing, now, upstream);
                }
            }
            StampSeen::NewEpoch => {
                self.joining = None;
                self.new_epoch(epoch, now, upstream);
            }
        }
        batch.push(body.iter().map(|frame| &frame[..]), stamp);
        Taken::Message
    }

    /// Whether three beats have been missed at `now`; never before the first.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.follower.is_stale(now)
    }

    /// Whether a beat has ever come.
    pub(super) fn has_followed(&self) -> bool {
        self.follower.has_followed()
    }

    /// Epoch and newest offset seen.
    pub(super) fn position(&self) -> Position {
        Position { epoch: self.follower.epoch(), offset: self.follower.head() }
    }

    fn take_reserved<F: Deref<Target = [u8]>>(
        &mut self,
        frames: &[F],
        now: Instant,
        upstream: &Upstream,
    ) -> Taken {
        // A later release may send more on reserved topics; what we do not know is none of our business.
        let [topic, marker, beat] = frames else { return reserved(upstream) };
        if topic[..] != *topic::RESERVED || marker[..] != *BEAT_MARKER {
            return reserved(upstream);
        }
        match Beat::decode(&beat[..]) {
            Ok(beat) if beat.epoch != 0 => self.beat(&beat, now, upstream),
            _ => self.malformed(now, "a beat that is none", upstream),
        }
    }

    fn beat(&mut self, beat: &Beat, now: Instant, upstream: &Upstream) -> Taken {
        let before = self.position();
        let seen = self.follower.on_beat(beat, now);
        let joining = self.joining.is_some_and(|since| now < since + BEAT_INTERVAL);
        if seen.lost_tail > 0 && !joining {
            self.hole(seen.lost_tail, now, upstream);
        }
        if before.epoch != 0 && before.epoch != beat.epoch {
            self.new_epoch(before.epoch, now, upstream);
        }
        if seen.rules_changed {
            self.joining = Some(now);
        } else if !joining {
            self.joining = None;
        }
        Taken::Beat {
            advanced: (before != self.position()).then_some(self.position()),
            rules: seen.rules_changed.then(|| self.follower.rules().clone()),
        }
    }

    fn hole(&mut self, missing: u64, now: Instant, upstream: &Upstream) {
        upstream.holes.add(1);
        upstream.missing.add(missing);
        if let Some(unsaid) = self.holes.say(now) {
            let before = self.position().offset;
            tracing::warn!(missing, before, unsaid, "messages were lost on the link");
        }
    }

    fn new_epoch(&mut self, before: u64, now: Instant, upstream: &Upstream) {
        upstream.epoch_changes.add(1);
        if let Some(unsaid) = self.epochs.say(now) {
            let epoch = self.follower.epoch();
            tracing::warn!(
                before,
                epoch,
                unsaid,
                "the sequence goes on in a new epoch: the forwarder has begun anew, or there are two"
            );
        }
    }

    fn malformed(&mut self, now: Instant, what: &str, upstream: &Upstream) -> Taken {
        upstream.malformed.add(1);
        if let Some(unsaid) = self.malformed.say(now) {
            tracing::warn!(unsaid, "dropped {what}: is --link a forwarder's link (port 5557)?");
        }
        Taken::Dropped
    }
}

fn reserved(upstream: &Upstream) -> Taken {
    upstream.reserved.add(1);
    Taken::Dropped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trestle_recorder::{RecordRule, Stamper};

    use super::*;

    struct Fixture {
        link: Link,
        batch: SegmentBuilder,
        upstream: Upstream,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let (link, batch) = (Link::default(), SegmentBuilder::default());
            Self { link, batch, upstream: Upstream::default(), now: Instant::now() }
        }

        fn take(&mut self, frames: &[&[u8]]) -> Taken {
            self.link.take(frames, self.now, &mut self.batch, &self.upstream)
        }

        fn message(&mut self, epoch: u64, offset: u64) -> Taken {
            let stamp = Stamp { epoch, offset, time_unix_ns: 1, ..Stamp::default() };
            self.take(&[b"jobs/1", b"body", &stamp.encode_to_vec()])
        }

        fn beat(&mut self, epoch: u64, head: u64) -> Taken {
            let beat = Beat { head, ..Stamper::new(epoch, RecordRules::everything()).beat() };
            self.take(&[topic::RESERVED, BEAT_MARKER, &beat.encode_to_vec()])
        }

        fn losses(&self) -> (u64, u64) {
            (self.upstream.holes.value(), self.upstream.missing.value())
        }
    }

    fn advanced(epoch: u64, offset: u64) -> Taken {
        Taken::Beat { advanced: Some(Position { epoch, offset }), rules: None }
    }

    #[test]
    fn the_first_beat_gives_the_rules() {
        let mut f = Fixture::new();
        let rules = Some(RecordRules::everything());
        assert_eq!(f.beat(7, 5), Taken::Beat { advanced: Some(Position { epoch: 7, offset: 5 }), rules });
        assert!(f.link.has_followed());
        assert_eq!(f.beat(7, 5), Taken::Beat { advanced: None, rules: None });
    }

    #[test]
    fn what_went_by_before_the_subscription_stood_is_no_loss() {
        let mut f = Fixture::new();
        f.beat(7, 5);
        f.now += BEAT_INTERVAL / 2;
        assert_eq!(f.beat(7, 8), advanced(7, 8));
        assert_eq!(f.message(7, 12), Taken::Message);
        assert_eq!(f.losses(), (0, 0));
        assert_eq!(f.message(7, 15), Taken::Message);
        assert_eq!(f.losses(), (1, 2), "but now it stands");
    }

    #[test]
    fn holes_and_lost_tails_are_counted_and_repeats_dropped() {
        let mut f = Fixture::new();
        f.beat(7, 0);
        for (offset, taken) in
            [(1, Taken::Message), (2, Taken::Message), (2, Taken::Dropped), (5, Taken::Message)]
        {
            assert_eq!(f.message(7, offset), taken, "{offset}");
        }
        assert_eq!(f.losses(), (1, 2));
        f.now += BEAT_INTERVAL;
        assert_eq!(f.beat(7, 9), advanced(7, 9));
        assert_eq!(f.losses(), (2, 6));
        assert_eq!(f.message(7, 8), Taken::Dropped, "told as lost already");
        assert_eq!(f.batch.len(), 3);
    }

    #[test]
    fn another_epoch_is_counted_once_and_is_no_hole() {
        let mut f = Fixture::new();
        f.beat(7, 0);
        f.message(7, 1);
        f.message(8, 40);
        assert_eq!(f.beat(8, 40), Taken::Beat { advanced: None, rules: None });
        assert_eq!((f.upstream.epoch_changes.value(), f.losses()), (1, (0, 0)));
        assert_eq!(f.beat(9, 0), advanced(9, 0));
        assert_eq!(f.upstream.epoch_changes.value(), 2);
    }

    #[test]
    fn the_stamp_is_taken_off() {
        let mut f = Fixture::new();
        let stamp = Stamp { epoch: 7, original_frames: true, body_start: 6, ..Stamp::default() };
        f.take(&[b"10001", b"10001 23", &stamp.encode_to_vec()]);
        let log = trestle_recorder::Log::new(1 << 20);
        let (mut cursor, mut segments) = (log.cursor(), Vec::new());
        log.append(&mut f.batch);
        log.read(&mut cursor, &mut segments).unwrap();
        let message = segments[0].message(0);
        assert_eq!(message.frames().collect::<Vec<_>>(), [&b"10001"[..], b"10001 23"]);
        assert_eq!((message.body().collect::<Vec<_>>(), message.position()), (vec![&b"23"[..]], None));
    }

    #[test]
    fn what_is_no_message_of_a_link_is_dropped_and_counted() {
        let mut f = Fixture::new();
        let stamp = Stamp { epoch: 7, offset: 1, ..Stamp::default() }.encode_to_vec();
        for frames in [
            &[&b"topic"[..], b"no stamp"][..],
            &[b"topic", b"body", b""],
            &[&stamp],
            &[b"topic"],
            &[topic::RESERVED, BEAT_MARKER, b"\xff"],
            &[topic::RESERVED, BEAT_MARKER, b""],
        ] {
            assert_eq!(f.take(frames), Taken::Dropped, "{frames:?}");
        }
        assert_eq!(f.upstream.malformed.value(), 6);
        assert_eq!(f.take(&[topic::RESERVED, b"trestle.v2.News", b"x"]), Taken::Dropped);
        assert_eq!(f.take(&[b"\0trestle/x", b"y", &stamp]), Taken::Dropped);
        assert_eq!((f.upstream.reserved.value(), f.batch.len(), f.link.has_followed()), (2, 0, false));
    }

    #[test]
    fn rules_that_change_are_passed_on() {
        let mut f = Fixture::new();
        f.beat(7, 0);
        let rules = RecordRules::from_iter([RecordRule::new("jobs/")]);
        let beat = Stamper::new(7, rules.clone()).beat();
        let taken = f.take(&[topic::RESERVED, BEAT_MARKER, &beat.encode_to_vec()]);
        assert_eq!(taken, Taken::Beat { advanced: None, rules: Some(rules) });
        assert!(!f.link.is_stale(f.now + Duration::from_secs(3)));
        assert!(f.link.is_stale(f.now + Duration::from_secs(4)));
    }
}
