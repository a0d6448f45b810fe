//! A forwarder, a link that loses, repeats and delays, and replays that fail: after each run an edge has everything once and
//! in order, or a gap of the right extent where it is missing.

use std::collections::VecDeque;

use super::*;
use crate::{RecordRule, Stamper};

const SEEDS: u64 = 3_000;
const STEPS: usize = 150;

/// What a message is here: epoch, offset, and a number that no other has.
type Message = (u64, u64, u64);

/// A fault of a forwarder or a link that the simulation must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A replay of a hole comes without what is missing.
    RepairSkipped,
    /// An offset is given to two messages.
    OffsetReused,
    /// A replay begins behind its first message.
    StartsOneLate,
}

enum Packet {
    Message(Stamp, u64),
    Beat(Beat),
}

struct Simulation {
    seed: u64,
    bug: Bug,
    now: Instant,
    stamper: Stamper,
    /// All of the present epoch.
    history: Vec<Message>,
    n_published: u64,
    link: VecDeque<Packet>,
    follower: Follower<Message>,
    /// The replay on its way, and how much of it has come.
    replay: Option<(Ask, usize)>,
    replay_fails: bool,
    has_failed: bool,
    /// Where the edge's log stands.
    position: Position,
    /// What it has of the present epoch.
    log: Vec<Message>,
    lost: u64,
    fault: Option<String>,
}

impl Simulation {
    fn new(seed: u64, bug: Bug) -> Self {
        let rules = RecordRules::from_iter([RecordRule::new("")]);
        Self {
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            bug,
            now: Instant::now(),
            stamper: Stamper::new(1, rules),
            history: Vec::new(),
            n_published: 0,
            link: VecDeque::new(),
            follower: Follower::new(true),
            replay: None,
            replay_fails: false,
            has_failed: false,
            position: Position { epoch: 0, offset: 0 },
            log: Vec::new(),
            lost: 0,
            fault: None,
        }
    }

    /// xorshift64*: the same numbers everywhere.
    fn below(&mut self, n: u64) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    /// What was wrong, if anything.
    fn run(mut self) -> Option<String> {
        for _ in 0..STEPS {
            match self.below(100) {
                0..45 => self.publish(),
                45..60 => self.beat(),
                60..80 => self.deliver(),
                80..90 => self.answer(),
                90..95 => {
                    let time = self.below(900);
                    self.wait(Duration::from_millis(time));
                }
                95..97 => self.replay_fails = self.below(2) == 0,
                97..99 => self.lose(),
                _ => self.restart(),
            }
        }
        self.settle();
        self.fault
    }

    fn publish(&mut self) {
        let recorded = self.below(8) > 0;
        self.n_published += 1;
        let mut stamp = self.stamper.stamp(b"t", 1);
        if !recorded {
            stamp.offset = 0;
            self.stamper = self.stamper_at(self.stamper.head() - 1);
        } else if self.bug == Bug::OffsetReused && self.below(20) == 0 {
            // As after a crash that forgot the last number.
            self.stamper = self.stamper_at(self.stamper.head() - 1);
        }
        if recorded {
            self.history.retain(|(_, offset, _)| *offset != stamp.offset);
            self.history.push((stamp.epoch, stamp.offset, self.n_published));
        }
        // A link may lose a message, or say it twice.
        for _ in 0..[0, 1, 1, 1, 1, 1, 1, 2][self.below(8) as usize] {
            self.link.push_back(Packet::Message(stamp, self.n_published));
        }
    }

    fn stamper_at(&self, head: u64) -> Stamper {
        let mut stamper = Stamper::new(self.stamper.epoch(), self.stamper.rules().clone());
        for _ in 0..head {
            stamper.stamp(b"t", 1);
        }
        stamper
    }

    fn beat(&mut self) {
        self.link.push_back(Packet::Beat(self.stamper.beat()));
    }

    fn deliver(&mut self) {
        for _ in 0..self.below(10) {
            let Some(packet) = self.link.pop_front() else { break };
            match packet {
                Packet::Beat(beat) => self.follower.on_beat(&beat, self.now),
                Packet::Message(stamp, number) => {
                    let message = (stamp.epoch, stamp.offset, number);
                    let passing = self.follower.on_stamp(&stamp, self.now, || (message, 100));
                    if passing == Passing::Now && stamp.offset != 0 {
                        self.take(message);
                    }
                }
            }
            self.act();
        }
    }

    fn act(&mut self) {
        let actions: Vec<_> = self.follower.take_actions().collect();
        actions.into_iter().for_each(|action| self.obey(action));
    }

    fn obey(&mut self, action: Action<Message>) {
        match action {
            Action::Replay(ask) => self.replay = Some((ask, 0)),
            Action::Deliver(message) => self.take(message),
            Action::Gap(gap) => {
                if gap.from != Some(self.position) {
                    self.wrong(format!("{gap:?} at {:?}", self.position));
                }
                if gap.until.epoch != self.position.epoch {
                    self.log.clear();
                    self.has_failed = false;
                } else if !self.has_failed {
                    self.wrong(format!("lost though every replay worked: {gap:?}"));
                }
                self.lost += gap.messages.unwrap_or(0);
                self.position = gap.until;
            }
            Action::Advance(position) => {
                if position.epoch == self.position.epoch && position != self.position {
                    self.wrong(format!("{position:?} without a message from {:?}", self.position));
                }
                self.position = position;
            }
            Action::Begin(position, _) => {
                if self.position.epoch != position.epoch {
                    self.position = Position { offset: 0, ..position };
                }
            }
            Action::Rules(_) | Action::Cloned => {}
        }
    }

    fn take(&mut self, message: Message) {
        let (epoch, offset, _) = message;
        if (epoch, offset) != (self.position.epoch, self.position.offset + 1) {
            self.wrong(format!("{message:?} behind {:?}", self.position));
        }
        self.position = Position { epoch, offset };
        self.log.push(message);
    }

    fn answer(&mut self) {
        let Some((ask, sent)) = self.replay else { return };
        if self.replay_fails || ask.epoch != self.stamper.epoch() {
            self.has_failed |= self.replay_fails;
            self.replay = None;
            self.follower.on_replay_failed(ask.id, self.now);
            return self.act();
        }
        let head = self.stamper.head();
        let through = if ask.through == 0 { head } else { ask.through.min(head) };
        let late = u64::from(self.bug == Bug::StartsOneLate);
        let wanted = |offset: u64| offset > ask.after + late && offset <= through;
        let mut messages: Vec<_> =
            self.history.iter().filter(|(_, offset, _)| wanted(*offset)).copied().collect();
        if self.bug == Bug::RepairSkipped && ask.through != 0 {
            messages.clear();
        }
        let n = 1 + self.below(5) as usize;
        let batch: Vec<_> = messages.iter().skip(sent).take(n).map(|message| (message.1, *message)).collect();
        let is_last = sent + n >= messages.len();
        let reached = if is_last { through } else { batch.last().map_or(0, |(offset, _)| *offset) };
        let start = (sent == 0).then(|| {
            let position = Position { epoch: ask.epoch, offset: head };
            (position, self.stamper.rules().clone(), RingStarts::default())
        });
        self.replay = (!is_last).then_some((ask, sent + n));
        self.follower.on_replay(ask.id, Batch { start, messages: batch, through: reached }, self.now);
        if is_last {
            self.follower.on_replay_end(ask.id, self.now);
        }
        self.act();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        // A replay that takes too long has failed, too.
        self.has_failed |= self.replay.is_some() && time > Duration::ZERO;
        self.follower.tick(self.now);
        self.act();
    }

    /// The connection breaks: what was on its way is gone.
    fn lose(&mut self) {
        self.link.clear();
    }

    fn restart(&mut self) {
        let epoch = self.stamper.epoch() + 1;
        // What the edge had not yet is gone.
        self.has_failed = true;
        self.stamper = Stamper::new(epoch, self.stamper.rules().clone());
        self.history.clear();
        self.link.clear();
        self.replay = None;
        if let Some(ask) = self.follower.asked {
            self.follower.on_replay_failed(ask.id, self.now);
        }
    }

    /// Everything works from now on, for long enough.
    fn settle(&mut self) {
        self.replay_fails = false;
        for _ in 0..60 {
            self.beat();
            self.deliver();
            (0..20).for_each(|_| self.answer());
            self.now += Duration::from_millis(300);
            self.follower.tick(self.now);
            self.act();
            while !self.link.is_empty() {
                self.deliver();
            }
        }
        let head = Position { epoch: self.stamper.epoch(), offset: self.stamper.head() };
        if self.position != head && head.offset > 0 {
            self.wrong(format!("the edge is at {:?}, the forwarder at {head:?}", self.position));
        }
        let has_all = self.log.len() as u64 + self.lost >= head.offset;
        let unlike = self.log.iter().find(|message| !self.history.contains(message));
        if let Some(message) = unlike.filter(|message| message.0 == head.epoch) {
            self.wrong(format!("{message:?} is not what was published there"));
        }
        if !has_all {
            self.wrong(format!("{} of {} messages, {} lost", self.log.len(), head.offset, self.lost));
        }
    }

    fn wrong(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }
}

/// The first seed that finds a fault.
fn first_fault(bug: Bug) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| Simulation::new(seed, bug).run().map(|fault| (seed, fault)))
}

#[test]
fn an_edge_has_everything_once_or_a_gap_in_its_place() {
    let fault = first_fault(Bug::None);
    assert_eq!(fault, None, "seed and fault");
}

#[test]
fn the_simulation_finds_what_it_is_there_for() {
    for bug in [Bug::RepairSkipped, Bug::OffsetReused, Bug::StartsOneLate] {
        assert!(first_fault(bug).is_some(), "{bug:?} was not found");
    }
}
