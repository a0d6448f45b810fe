//! What comes from a forwarder: stamped messages and beats on the link, and replays of what is missing there.

use std::ops::Deref;
use std::time::Instant;

use prost::Message as _;
use trestle_messages::v1::{Beat, Stamp};
use trestle_messages::{BEAT_MARKER, Position, topic};
use trestle_process::seldom::Seldom;
use trestle_recorder::{Batch, Errand, Follower, FollowerCounts, Kept, RecordRules};

use super::replays::{Answer, Asker};
use super::upstream::Upstream;
use super::writer::Writer;

/// Reads one link, and does what its [`Follower`] says.
#[derive(Debug)]
pub(super) struct Link {
    follower: Follower<Kept>,
    /// Where replays come from, if that was told.
    asker: Option<Asker>,
    /// News for upstream and for whoever waits to be served.
    news: News,
    counted: FollowerCounts,
    lost: Seldom,
    repaired: Seldom,
    malformed: Seldom,
    epochs: Seldom,
    foreign: Seldom,
}

/// What the link has said since the last look.
#[derive(Debug, Default)]
pub(super) struct News {
    /// What is recorded from now on.
    pub(super) rules: Option<RecordRules>,
    /// All that is kept upstream is here.
    pub(super) is_cloned: bool,
}

impl Link {
    /// Replays are asked of `asker`; without one what is lost on the link stays so.
    pub(super) fn new(asker: Option<Asker>) -> Self {
        Self {
            follower: Follower::new(asker.is_some()),
            asker,
            news: News::default(),
            counted: FollowerCounts::default(),
            lost: Seldom::default(),
            repaired: Seldom::default(),
            malformed: Seldom::default(),
            epochs: Seldom::default(),
            foreign: Seldom::default(),
        }
    }

    /// Takes one message with at least one frame; `now` never goes back.
    pub(super) fn take<F: Deref<Target = [u8]>>(&mut self, frames: &[F], now: Instant, writer: &mut Writer) {
        if topic::is_reserved(&frames[0]) {
            return self.take_reserved(frames, now, writer);
        }
        let (last, body) = frames.split_last().expect("a message has a frame");
        let stamp = Stamp::decode(&last[..]).ok().filter(|stamp| stamp.epoch != 0 && !body.is_empty());
        let Some(stamp) = stamp else {
            return self.malformed(now, "a message without a stamp", &writer.upstream);
        };
        writer.take(&mut self.follower, body, stamp, now);
        if self.follower.has_actions() {
            self.act(writer);
        }
    }

    /// Takes what has come of replays.
    pub(super) fn take_answers(&mut self, now: Instant, writer: &mut Writer) {
        let answers = self.asker.as_mut().map_or_else(Vec::new, Asker::take);
        for (ask, answer) in answers {
            match answer {
                Answer::Batch(batch) => match Batch::from_wire(batch, ask.epoch) {
                    Some(batch) => self.follower.on_replay(ask.id, batch, now),
                    None => {
                        self.malformed(now, "a replay that is none", &writer.upstream);
                        self.follower.on_replay_failed(ask.id, now);
                    }
                },
                Answer::End => self.follower.on_replay_end(ask.id, now),
                Answer::Failed => self.follower.on_replay_failed(ask.id, now),
            }
            self.act(writer);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant, writer: &mut Writer) {
        self.follower.tick(now);
        self.act(writer);
    }

    /// What was said since the last call. Also counts, and says what went wrong.
    pub(super) fn take_news(&mut self, now: Instant, upstream: &Upstream) -> News {
        let counts = self.follower.counts();
        if counts != self.counted {
            upstream.count(&counts);
            self.say(&counts, now);
            self.counted = counts;
        }
        std::mem::take(&mut self.news)
    }

    /// Whether three beats have been missed at `now`; never before the first.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.follower.is_stale(now)
    }

    /// Whether a beat has ever come.
    pub(super) fn has_followed(&self) -> bool {
        self.follower.has_followed()
    }

    /// Epoch and the offset up to which all was taken or given up.
    pub(super) fn position(&self) -> Position {
        self.follower.position()
    }

    fn take_reserved<F: Deref<Target = [u8]>>(&mut self, frames: &[F], now: Instant, writer: &mut Writer) {
        // A later release may send more on reserved topics; what we do not know is none of our business.
        match frames {
            [topic, marker, beat] if topic[..] == *topic::RESERVED && marker[..] == *BEAT_MARKER => {
                match Beat::decode(&beat[..]) {
                    Ok(beat) if beat.epoch != 0 => {
                        self.follower.on_beat(&beat, now);
                        self.act(writer);
                    }
                    _ => self.malformed(now, "a beat that is none", &writer.upstream),
                }
            }
            _ => writer.upstream.reserved.add(1),
        }
    }

    fn act(&mut self, writer: &mut Writer) {
        for action in self.follower.take_actions() {
            match writer.obey(action) {
                Some(Errand::Rules(rules)) => self.news.rules = Some(rules),
                Some(Errand::Replay(ask)) => {
                    tracing::debug!(?ask, "a replay is asked for");
                    if let Some(asker) = &self.asker {
                        asker.ask(ask);
                    }
                }
                Some(Errand::Cloned) => self.news.is_cloned = true,
                None => {}
            }
        }
    }

    fn say(&mut self, counts: &FollowerCounts, now: Instant) {
        let (before, Position { epoch, offset }) = (&self.counted, self.position());
        if counts.missing > before.missing
            && let Some(unsaid) = self.lost.say(now)
        {
            let missing = counts.missing - before.missing;
            tracing::warn!(missing, before = offset, unsaid, "messages were lost on the link");
        }
        if counts.repaired > before.repaired
            && let Some(unsaid) = self.repaired.say(now)
        {
            let repaired = counts.repaired - before.repaired;
            tracing::info!(repaired, unsaid, "messages that the link had lost came by a replay");
        }
        if counts.epoch_changes > before.epoch_changes
            && let Some(unsaid) = self.epochs.say(now)
        {
            tracing::warn!(
                epoch,
                unsaid,
                "the sequence goes on in a new epoch: the forwarder has begun anew"
            );
        }
        if counts.foreign > before.foreign
            && let Some(unsaid) = self.foreign.say(now)
        {
            tracing::warn!(
                unsaid,
                "another forwarder speaks on --link, and is not heard while the first one does"
            );
        }
    }

    fn malformed(&mut self, now: Instant, what: &str, upstream: &Upstream) {
        upstream.malformed.add(1);
        if let Some(unsaid) = self.malformed.say(now) {
            tracing::warn!(
                unsaid,
                "dropped {what}: are --link and --recorder a forwarder's (ports 5557 and 9091)?"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use trestle_messages::v1::{RecordedMessage, ReplayBatch, ReplayStart, Ring};
    use trestle_process::wake;
    use trestle_recorder::{BEAT_INTERVAL, Log, RecordRule, Stamper};

    use super::*;
    use crate::ingest::replays::{self, Replays};

    struct Fixture {
        link: Link,
        log: Arc<Log>,
        cursor: trestle_recorder::Cursor,
        writer: Writer,
        upstream: Arc<Upstream>,
        now: Instant,
        replays: Option<Replays>,
    }

    impl Fixture {
        fn new(with_recorder: bool) -> Self {
            let (waker, _) = wake::pair().unwrap();
            let (asker, replays) = with_recorder.then(|| replays::channel(waker)).unzip();
            let (log, upstream) = (Arc::new(Log::new(1 << 20)), Arc::new(Upstream::default()));
            let writer = Writer::new(Arc::clone(&log), Vec::new(), Arc::clone(&upstream));
            let cursor = log.cursor();
            Self { link: Link::new(asker), log, cursor, writer, upstream, now: Instant::now(), replays }
        }

        fn take(&mut self, frames: &[&[u8]]) {
            self.link.take(frames, self.now, &mut self.writer);
        }

        fn message(&mut self, epoch: u64, offset: u64) {
            let stamp = Stamp { epoch, offset, time_unix_ns: 1, ..Stamp::default() };
            self.take(&[b"jobs/1", b"body", &stamp.encode_to_vec()]);
        }

        fn beat(&mut self, epoch: u64, head: u64) {
            let beat = Beat { head, ..Stamper::new(epoch, RecordRules::everything()).beat() };
            self.take(&[topic::RESERVED, BEAT_MARKER, &beat.encode_to_vec()]);
        }

        /// The offsets that came into the log since the last call; a gap is the offset that it ends at, negative.
        fn logged(&mut self) -> Vec<i64> {
            self.writer.flush();
            let mut segments = Vec::new();
            self.log.read(&mut self.cursor, &mut segments).unwrap();
            let offsets = segments.iter().flat_map(|segment| {
                let gap = segment.gap().map(|gap| -(gap.until.offset as i64));
                let messages =
                    segment.messages().map(|message| message.position().map_or(0, |at| at.offset as i64));
                gap.into_iter().chain(messages)
            });
            offsets.collect()
        }

        fn news(&mut self) -> News {
            self.link.take_news(self.now, &self.upstream)
        }

        fn answer(&mut self, ask: trestle_recorder::Ask, answer: Answer) {
            let replays = self.replays.as_ref().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert!(runtime.block_on(replays.answers.send(ask, answer)));
            self.link.take_answers(self.now, &mut self.writer);
        }

        fn asked(&mut self) -> trestle_recorder::Ask {
            self.replays.as_mut().unwrap().asks.try_recv().expect("a replay is asked for")
        }
    }

    fn replayed(offsets: &[u64], through: u64) -> ReplayBatch {
        let message = |offset: &u64| RecordedMessage {
            frames: vec![Bytes::from_static(b"jobs/1"), Bytes::from_static(b"replayed")],
            stamp: Some(Stamp { epoch: 7, offset: *offset, time_unix_ns: 1, ..Stamp::default() }),
        };
        let rules: Vec<trestle_messages::v1::RecordRule> = (&RecordRules::everything()).into();
        let rings = rules.into_iter().map(|rule| Ring { rule: Some(rule), complete_after: 2 }).collect();
        let start = ReplayStart { epoch: 7, head: through, rings, last_values_after: 0 };
        ReplayBatch { messages: offsets.iter().map(message).collect(), through, start: Some(start) }
    }

    #[test]
    fn what_is_kept_upstream_comes_first_and_a_hole_is_filled() {
        let mut f = Fixture::new(true);
        f.beat(7, 5);
        let news = f.news();
        assert_eq!((news.rules, news.is_cloned), (Some(RecordRules::everything()), false));
        f.message(7, 6);
        assert_eq!(f.logged(), [0; 0], "it waits for what came before it");
        let ask = f.asked();
        f.answer(ask, Answer::Batch(replayed(&[1, 3, 4, 5], 5)));
        f.answer(ask, Answer::End);
        assert!(f.news().is_cloned);
        assert_eq!(f.logged(), [1, 3, 4, 5, 6]);

        f.message(7, 9);
        f.message(7, 0);
        assert_eq!(f.logged(), [0], "what has no place in the sequence waits for nothing");
        let ask = f.asked();
        assert_eq!((ask.after, ask.through), (6, 8));
        f.answer(ask, Answer::Batch(replayed(&[7, 8], 8)));
        f.answer(ask, Answer::End);
        assert_eq!(f.logged(), [7, 8, 9]);
        f.news();
        let upstream = &f.upstream;
        assert_eq!((upstream.cloned.value(), upstream.repaired.value(), upstream.holes.value()), (4, 2, 1));
        assert_eq!((upstream.missing.value(), upstream.gaps.value(), upstream.replays.value()), (0, 0, 2));
    }

    #[test]
    fn a_replay_that_is_none_is_asked_for_again() {
        let mut f = Fixture::new(true);
        f.beat(7, 5);
        let mut wrong = replayed(&[1], 5);
        wrong.messages[0].stamp = None;
        let mut twice = replayed(&[2, 2], 5);
        twice.start = None;
        for batch in [wrong, twice] {
            let ask = f.asked();
            f.answer(ask, Answer::Batch(batch));
            f.now += BEAT_INTERVAL;
            f.link.tick(f.now, &mut f.writer);
        }
        assert_eq!((f.upstream.malformed.value(), f.logged()), (2, vec![]));
        f.asked();
    }

    #[test]
    fn without_a_recorder_what_is_lost_is_lost_in_its_place() {
        let mut f = Fixture::new(false);
        f.beat(7, 0);
        let news = f.news();
        assert!(!news.is_cloned && news.rules.is_some(), "subscriptions travel up");
        f.message(7, 1);
        f.link.tick(f.now, &mut f.writer);
        assert!(f.news().is_cloned, "they stand");
        for offset in [2, 2, 5] {
            f.message(7, offset);
        }
        assert_eq!(f.logged(), [1, 2, -4, 5]);
        f.now += BEAT_INTERVAL;
        f.beat(7, 9);
        f.message(7, 8);
        assert_eq!(f.logged(), [-9], "told as lost already");
        f.news();
        assert_eq!((f.upstream.holes.value(), f.upstream.missing.value()), (2, 6));
        assert_eq!(f.upstream.gaps.value(), 2);
    }

    #[test]
    fn the_stamp_is_taken_off() {
        let mut f = Fixture::new(false);
        let stamp = Stamp { epoch: 7, original_frames: true, body_start: 6, ..Stamp::default() };
        f.take(&[b"10001", b"10001 23", &stamp.encode_to_vec()]);
        f.writer.flush();
        let mut segments = Vec::new();
        f.log.read(&mut f.cursor, &mut segments).unwrap();
        let message = segments[0].message(0);
        assert_eq!(message.frames().collect::<Vec<_>>(), [&b"10001"[..], b"10001 23"]);
        assert_eq!((message.body().collect::<Vec<_>>(), message.position()), (vec![&b"23"[..]], None));
    }

    #[test]
    fn what_is_no_message_of_a_link_is_dropped_and_counted() {
        let mut f = Fixture::new(false);
        let stamp = Stamp { epoch: 7, offset: 1, ..Stamp::default() }.encode_to_vec();
        for frames in [
            &[&b"topic"[..], b"no stamp"][..],
            &[b"topic", b"body", b""],
            &[&stamp],
            &[b"topic"],
            &[topic::RESERVED, BEAT_MARKER, b"\xff"],
            &[topic::RESERVED, BEAT_MARKER, b""],
        ] {
            f.take(frames);
        }
        assert_eq!(f.upstream.malformed.value(), 6);
        f.take(&[topic::RESERVED, b"trestle.v2.News", b"x"]);
        f.take(&[b"\0trestle/x", b"y", &stamp]);
        assert_eq!((f.upstream.reserved.value(), f.logged(), f.link.has_followed()), (2, vec![], false));
    }

    #[test]
    fn rules_that_change_are_passed_on() {
        let mut f = Fixture::new(false);
        f.beat(7, 0);
        f.news();
        let rules = RecordRules::from_iter([RecordRule::new("jobs/")]);
        let beat = Stamper::new(7, rules.clone()).beat();
        f.take(&[topic::RESERVED, BEAT_MARKER, &beat.encode_to_vec()]);
        let news = f.news();
        assert_eq!((news.rules, news.is_cloned), (Some(rules), false));
        assert!(!f.link.is_stale(f.now + BEAT_INTERVAL * 3));
        assert!(f.link.is_stale(f.now + BEAT_INTERVAL * 4));
    }
}
