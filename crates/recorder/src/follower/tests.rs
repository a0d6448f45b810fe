//! One rule of the link each.

use super::*;
use crate::{RecordRule, Stamper};

type Actions = Vec<Action<&'static str>>;

struct Fixture {
    follower: Follower<&'static str>,
    now: Instant,
}

impl Fixture {
    fn new(repairs: bool) -> Self {
        Self { follower: Follower::new(repairs), now: Instant::now() }
    }

    /// One that has cloned epoch 1 up to offset 5.
    fn cloned() -> Self {
        let mut f = Self::new(true);
        f.beat(1, 5);
        let batch = Batch { start: Some(start(1, 5)), messages: vec![(4, "four"), (5, "five")], through: 5 };
        f.follower.on_replay(1, batch, f.now);
        f.follower.on_replay_end(1, f.now);
        assert_eq!(f.done().last(), Some(&Action::Cloned));
        f
    }

    fn stamp(&mut self, epoch: u64, offset: u64) -> Passing {
        let stamp = Stamp { epoch, offset, time_unix_ns: 1, ..Stamp::default() };
        self.follower.on_stamp(&stamp, self.now, || ("held", 10))
    }

    fn beat(&mut self, epoch: u64, head: u64) {
        let beat = Beat { head, ..Stamper::new(epoch, rules()).beat() };
        self.follower.on_beat(&beat, self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.follower.tick(self.now);
    }

    fn done(&mut self) -> Actions {
        self.follower.take_actions().collect()
    }
}

fn rules() -> RecordRules {
    RecordRules::from_iter([RecordRule::new("a")])
}

fn start(epoch: u64, head: u64) -> (Position, RecordRules, RingStarts) {
    (at(epoch, head), rules(), RingStarts { rings: vec![(b"a".to_vec(), 3)], last_values_after: 0 })
}

fn at(epoch: u64, offset: u64) -> Position {
    Position { epoch, offset }
}

fn gap(from: Position, until: Position, messages: Option<u64>) -> Action<&'static str> {
    Action::Gap(Gap { from: Some(from), until, messages })
}

fn ask(id: u64, epoch: u64, after: u64, through: u64) -> Action<&'static str> {
    Action::Replay(Ask { id, epoch, after, through })
}

#[test]
fn a_start_clones_what_is_kept_and_then_what_came_meanwhile() {
    let mut f = Fixture::new(true);
    assert_eq!(f.stamp(1, 5), Passing::Later, "before the first beat nobody knows what is recorded");
    assert_eq!(f.done(), []);
    f.beat(1, 5);
    assert_eq!(f.done(), [Action::Rules(rules()), ask(1, 1, 0, 0)]);
    assert_eq!(f.stamp(1, 7), Passing::Later);
    assert_eq!(f.stamp(1, 6), Passing::Later);
    let first = Batch { start: Some(start(1, 5)), messages: vec![(2, "two")], through: 2 };
    f.follower.on_replay(1, first, f.now);
    let (position, _, starts) = start(1, 5);
    assert_eq!(f.done(), [Action::Begin(position, starts), Action::Deliver("two")]);
    f.follower.on_replay(1, Batch { start: None, messages: vec![(5, "five")], through: 5 }, f.now);
    f.follower.on_replay_end(1, f.now);
    let deliver = Action::Deliver;
    let expected =
        [deliver("five"), Action::Advance(at(1, 5)), deliver("held"), deliver("held"), Action::Cloned];
    assert_eq!(f.done(), expected);
    assert_eq!(f.stamp(1, 8), Passing::Now);
    assert_eq!((f.follower.position(), f.follower.counts().holes), (at(1, 8), 0));
}

#[test]
fn what_is_missing_is_asked_for_and_what_is_behind_it_waits() {
    let mut f = Fixture::cloned();
    assert_eq!(f.stamp(1, 8), Passing::Later);
    assert_eq!(f.stamp(1, 0), Passing::Now, "what is not recorded waits for nothing");
    assert_eq!(f.stamp(1, 4), Passing::Dropped);
    assert_eq!(f.done(), [ask(2, 1, 5, 7)]);
    let batch = Batch { start: Some(start(1, 8)), messages: vec![(6, "six"), (7, "seven")], through: 7 };
    f.follower.on_replay(2, batch, f.now);
    f.follower.on_replay_end(2, f.now);
    assert_eq!(f.done(), ["six", "seven", "held"].map(Action::Deliver));
    let counts = f.follower.counts();
    assert_eq!((counts.holes, counts.repaired, counts.missing), (1, 2, 0));
}

#[test]
fn a_beat_shows_a_lost_tail() {
    let mut f = Fixture::cloned();
    f.beat(1, 7);
    assert_eq!(f.done(), [ask(2, 1, 5, 7)]);
    let batch = Batch { start: Some(start(1, 7)), messages: vec![(7, "seven")], through: 7 };
    f.follower.on_replay(2, batch, f.now);
    f.follower.on_replay_end(2, f.now);
    assert_eq!(
        f.done(),
        [gap(at(1, 5), at(1, 6), Some(1)), Action::Deliver("seven")],
        "six is gone upstream"
    );
}

#[test]
fn a_hole_that_is_not_repaired_in_time_is_a_loss() {
    let mut f = Fixture::cloned();
    f.stamp(1, 8);
    assert_eq!(f.done(), [ask(2, 1, 5, 7)]);
    f.follower.on_replay_failed(2, f.now);
    f.wait(RETRY);
    assert_eq!(f.done(), [ask(3, 1, 5, 7)]);
    f.wait(REPAIR_MAX - RETRY);
    assert_eq!(f.done(), [gap(at(1, 5), at(1, 7), Some(2)), Action::Deliver("held")]);
    f.follower.on_replay(3, Batch { start: None, messages: vec![(6, "late")], through: 7 }, f.now);
    assert_eq!(f.done(), [], "it was told as lost");
    assert_eq!((f.stamp(1, 9), f.follower.counts().missing), (Passing::Now, 2));
}

/// The chain simulation found it: a replay that broke off behind its last message left the hole's time running, and the next
/// hole was given up at once.
#[test]
fn a_replay_that_fails_at_its_end_leaves_no_hole() {
    let mut f = Fixture::cloned();
    f.beat(1, 7);
    assert_eq!(f.done(), [ask(2, 1, 5, 7)]);
    let batch = Batch { start: Some(start(1, 7)), messages: vec![(6, "six"), (7, "seven")], through: 7 };
    f.follower.on_replay(2, batch, f.now);
    f.follower.on_replay_failed(2, f.now);
    f.done();
    f.wait(REPAIR_MAX);
    f.beat(1, 9);
    assert_eq!((f.done(), f.follower.counts().holes), (vec![ask(3, 1, 7, 9)], 2));
    f.wait(REPAIR_MAX / 2);
    assert_eq!(f.done(), [], "there is time to repair it");
}

#[test]
fn too_much_behind_a_hole_does_not_wait() {
    let mut f = Fixture::cloned();
    let stamp = Stamp { epoch: 1, offset: 7, time_unix_ns: 1, ..Stamp::default() };
    f.follower.on_stamp(&stamp, f.now, || ("large", HELD_BYTES_MAX + 1));
    assert_eq!(f.done()[..2], [gap(at(1, 5), at(1, 6), Some(1)), Action::Deliver("large")]);
}

#[test]
fn a_new_forwarder_is_followed_once_the_old_one_is_silent() {
    let mut f = Fixture::cloned();
    assert_eq!(f.stamp(2, 1), Passing::Dropped, "there may be two");
    f.now += BEAT_INTERVAL;
    f.beat(1, 5);
    assert_eq!((f.stamp(2, 2), f.follower.counts().foreign), (Passing::Dropped, 2));
    f.now += REPLACED_AFTER;
    assert_eq!(f.stamp(2, 3), Passing::Later);
    assert_eq!(f.done(), [gap(at(1, 5), at(2, 0), None), ask(2, 2, 0, 0)]);
    let messages = vec![(1, "one"), (2, "two"), (3, "three")];
    f.follower.on_replay(2, Batch { start: Some(start(2, 3)), messages, through: 3 }, f.now);
    f.follower.on_replay_end(2, f.now);
    let delivered = f.done().into_iter().filter(|action| matches!(action, Action::Deliver(_))).count();
    assert_eq!((delivered, f.follower.position()), (3, at(2, 3)));
    assert_eq!(f.stamp(2, 4), Passing::Now);
    assert_eq!(f.stamp(1, 6), Passing::Dropped);
}

#[test]
fn without_a_recorder_a_hole_is_a_loss_at_once() {
    let mut f = Fixture::new(false);
    f.beat(1, 5);
    assert_eq!(f.done(), [Action::Advance(at(1, 5)), Action::Rules(rules())]);
    assert_eq!(f.stamp(1, 6), Passing::Now);
    f.wait(Duration::ZERO);
    assert_eq!(f.done(), [Action::Cloned]);
    assert_eq!(f.stamp(1, 8), Passing::Later);
    assert_eq!(f.done(), [gap(at(1, 6), at(1, 7), Some(1)), Action::Deliver("held")]);
    assert_eq!(f.stamp(1, 10), Passing::Later);
    assert_eq!(f.done(), [gap(at(1, 8), at(1, 9), Some(1)), Action::Deliver("held")]);
    f.beat(1, 12);
    assert_eq!(f.done(), [gap(at(1, 10), at(1, 12), Some(2))]);
    assert_eq!(f.stamp(2, 4), Passing::Later);
    assert_eq!(f.done(), [gap(at(1, 12), at(2, 3), None), Action::Deliver("held")]);
    assert_eq!(f.follower.counts().missing, 4);
}

#[test]
fn until_the_subscription_stands_nothing_was_promised() {
    let mut f = Fixture::new(false);
    f.beat(1, 5);
    f.done();
    assert_eq!(f.stamp(1, 8), Passing::Later);
    assert_eq!(f.done(), [Action::Advance(at(1, 7)), Action::Deliver("held")]);
    assert_eq!(f.stamp(1, 10), Passing::Later);
    assert_eq!(f.done()[0], gap(at(1, 8), at(1, 9), Some(1)));
}

/// The chain simulation found it: without a recorder an edge took clients at the first beat, while its subscriptions were
/// still on their way up, and what it missed meanwhile its clients missed without a word.
#[test]
fn without_a_recorder_clients_come_once_the_subscription_stands() {
    let mut f = Fixture::new(false);
    f.beat(1, 5);
    f.beat(1, 8);
    assert_eq!(f.done(), [Action::Advance(at(1, 5)), Action::Rules(rules()), Action::Advance(at(1, 8))]);
    f.wait(BEAT_INTERVAL);
    assert_eq!(f.done(), [Action::Cloned]);
    f.follower.on_beat(&Stamper::new(1, RecordRules::everything()).beat(), f.now);
    f.done();
    f.beat(1, 9);
    assert_eq!(
        f.done()[1],
        gap(at(1, 8), at(1, 9), Some(1)),
        "who is here is told, whatever is on its way up"
    );
}

#[test]
fn three_missed_beats_are_silence() {
    let mut f = Fixture::new(true);
    assert!(!f.follower.is_stale(f.now + Duration::from_secs(100)), "never followed is not stale");
    f.beat(1, 0);
    assert!(!f.follower.is_stale(f.now + BEAT_INTERVAL * 3));
    assert!(f.follower.is_stale(f.now + BEAT_INTERVAL * 3 + Duration::from_millis(1)));
}

#[test]
fn where_nothing_is_recorded_nothing_is_cloned() {
    let mut f = Fixture::new(true);
    f.follower.on_beat(&Stamper::new(1, RecordRules::nothing()).beat(), f.now);
    assert_eq!(f.done(), [Action::Rules(RecordRules::nothing()), Action::Cloned]);
}

/// The chain simulation found it: an edge that lives through a new epoch clones it, and a ring there may begin behind its
/// first messages already. Whoever comes to the edge then is told; its clients, who were there all the time, were not.
#[test]
fn what_rings_of_a_new_epoch_have_let_go_is_told() {
    let mut f = Fixture::cloned();
    f.wait(2 * BEAT_INTERVAL);
    f.beat(2, 9);
    assert_eq!(f.done(), [gap(at(1, 5), at(2, 0), None), ask(2, 2, 0, 0)]);
    let (position, rules, starts) = start(2, 9);
    let begin = Action::Begin(position, starts.clone());
    let batch = Batch {
        start: Some((position, rules.clone(), starts)),
        messages: vec![(2, "two"), (4, "four")],
        through: 4,
    };
    f.follower.on_replay(2, batch, f.now);
    let told = gap(at(1, 5), at(2, 3), None);
    assert_eq!(f.done(), [begin, Action::Deliver("two"), told, Action::Deliver("four")]);
    // It breaks off and is asked for again; by then the ring begins later still.
    f.follower.on_replay_failed(2, f.now);
    f.wait(RETRY);
    assert_eq!(f.done(), [ask(3, 2, 4, 0)]);
    let starts = RingStarts { rings: vec![(b"a".to_vec(), 9)], last_values_after: 0 };
    let batch = Batch { start: Some((position, rules, starts.clone())), messages: Vec::new(), through: 9 };
    f.follower.on_replay(3, batch, f.now);
    f.follower.on_replay_end(3, f.now);
    let told = gap(at(1, 5), at(2, 9), None);
    assert_eq!(f.done(), [Action::Begin(position, starts), told, Action::Advance(at(2, 9))]);
}

/// Found by fuzzing: to look behind the last offset that there is overflowed.
#[test]
fn nothing_is_behind_the_last_offset() {
    for repairs in [false, true] {
        let mut f = Fixture::new(repairs);
        f.beat(1, 0);
        f.stamp(2, u64::MAX);
        f.wait(Duration::from_secs(2));
        f.beat(2, u64::MAX);
        f.wait(Duration::from_secs(2));
        assert_eq!(f.stamp(2, u64::MAX), if repairs { Passing::Later } else { Passing::Dropped });
    }
}

/// Found by fuzzing: two leaps over all offsets there are overflowed the count of what is missing.
#[test]
fn what_is_missing_is_counted_to_the_end_of_numbers() {
    let mut f = Fixture::new(false);
    for epoch in [1, 2] {
        f.beat(epoch, 1);
        f.wait(BEAT_INTERVAL);
        assert_eq!(f.stamp(epoch, u64::MAX), Passing::Later);
    }
    assert_eq!(f.follower.counts().missing, u64::MAX);
}
