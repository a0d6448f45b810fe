//! Subscriptions whose client comes from where this edge has not been yet: they wait until that is known.

use std::time::{Duration, Instant};

use trestle_messages::Position;

use super::recover::{Begin, Start};
use super::{Hub, SessionId, TimerKind};
use crate::encode::{Since, Subscribe, Unrecovered};
use crate::{Denied, Grant};

/// So long the recorder is asked; then what is known here is the answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// So long a position that the recorder knows may take to come: as long as a hole is repaired, and as much again.
const HEAD_TIME_MAX: Duration = Duration::from_secs(4);

/// What a parked subscription waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// What the recorder says.
    ForAnswer,
    /// The log comes to its position.
    ForHead,
}

/// The commands that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Parked {
    can_ask: bool,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    session: SessionId,
    command: u64,
    wanted: Subscribe,
    wait: Wait,
    /// The recorder was asked since.
    is_asked: bool,
    until: Instant,
}

impl Parked {
    /// Whether there is somebody who may know more.
    pub(super) fn can_ask(&self) -> bool {
        self.can_ask
    }

    /// Topics for which session `id` waits.
    pub(super) fn n_topics(&self, id: SessionId) -> usize {
        self.waiting.iter().filter(|one| one.session == id).map(|one| one.wanted.topics.len()).sum()
    }

    /// Takes the commands of session `id` that `grant` does not cover.
    pub(super) fn take_denied(&mut self, id: SessionId, grant: &Grant) -> Vec<(u64, Denied)> {
        let denied = |one: &Waiting| {
            let is_its = one.session == id;
            is_its.then(|| grant.may_subscribe_to(&one.wanted.topics).err()).flatten()
        };
        let taken: Vec<_> = self.waiting.iter().filter_map(|one| Some((one.command, denied(one)?))).collect();
        self.waiting.retain(|one| denied(one).is_none());
        taken
    }

    /// The session wants nothing any more.
    pub(super) fn forget(&mut self, id: SessionId) {
        self.waiting.retain(|one| one.session != id);
    }
}

impl Hub {
    /// Whether a recorder can be asked by [`take_question`](Self::take_question). Without one, positions that are not in
    /// the log are answered at once.
    pub fn set_can_ask(&mut self, can_ask: bool) {
        self.parked.can_ask = can_ask;
    }

    /// Whether a client waits for what the recorder says who was not there at the last call. Then ask it for its epoch and
    /// head, and call [`recorder_is`](Self::recorder_is); after two seconds that is too late.
    pub fn take_question(&mut self) -> bool {
        let unasked =
            self.parked.waiting.iter_mut().filter(|one| one.wait == Wait::ForAnswer && !one.is_asked);
        unasked.map(|one| one.is_asked = true).count() > 0
    }

    /// Where the recorder stands, or `None` if it could not be asked. Whoever comes from there waits for the log to come
    /// so far; the others are answered.
    pub fn recorder_is(&mut self, head: Option<Position>) {
        for mut one in std::mem::take(&mut self.parked.waiting) {
            let Some(Since::Position(since)) = one.wanted.since.filter(|_| one.is_asked) else {
                self.parked.waiting.push(one);
                continue;
            };
            match head {
                Some(head) if head.epoch != since.epoch => {
                    self.begin(
                        one.session,
                        one.command,
                        &one.wanted,
                        Begin::Failed(Unrecovered::EpochChanged),
                    );
                }
                Some(head) if head.offset < since.offset => {
                    let begin = Begin::Failed(Unrecovered::UnknownPosition);
                    self.begin(one.session, one.command, &one.wanted, begin);
                }
                Some(_) => {
                    (one.wait, one.is_asked) = (Wait::ForHead, false);
                    one.until = self.now + HEAD_TIME_MAX;
                    self.set_timer(one.session, one.until, TimerKind::Parked);
                    self.parked.waiting.push(one);
                }
                None => self.settle(&one),
            }
        }
        self.settle_parked();
    }

    /// The command waits.
    pub(super) fn park(&mut self, session: SessionId, command: u64, wanted: &Subscribe, wait: Wait) {
        let until = self.now + if wait == Wait::ForAnswer { ANSWER_TIME_MAX } else { HEAD_TIME_MAX };
        self.set_timer(session, until, TimerKind::Parked);
        let wanted = wanted.clone();
        self.parked.waiting.push(Waiting { session, command, wanted, wait, is_asked: false, until });
    }

    /// Those start whose position has come.
    pub(super) fn settle_parked(&mut self) {
        if self.parked.waiting.is_empty() {
            return;
        }
        for one in std::mem::take(&mut self.parked.waiting) {
            match self.start(&one.wanted) {
                Start::Now(begin) => self.begin(one.session, one.command, &one.wanted, begin),
                Start::Later(_) => self.parked.waiting.push(one),
            }
        }
    }

    /// Those are answered whose time is over.
    pub(super) fn settle_overdue(&mut self) {
        let now = self.now;
        for one in self.parked.waiting.extract_if(.., |one| one.until <= now).collect::<Vec<_>>() {
            self.settle(&one);
        }
    }

    /// Session `id` says more of a subscription that waits: it waits no longer.
    pub(super) fn settle_parked_of(&mut self, id: SessionId, topics: &[Vec<u8>], exact: bool) {
        let concerns = |one: &mut Waiting| {
            let names = |topic: &Vec<u8>| topics.contains(topic);
            one.session == id && one.wanted.exact == exact && one.wanted.topics.iter().any(names)
        };
        for one in self.parked.waiting.extract_if(.., concerns).collect::<Vec<_>>() {
            self.settle(&one);
        }
    }

    /// What is known here is the answer.
    fn settle(&mut self, one: &Waiting) {
        let begin = match (self.start(&one.wanted), one.wanted.since) {
            (Start::Now(begin), _) => begin,
            (Start::Later(_), Some(Since::Position(since))) => {
                let why = self.log.seq_after(since).err();
                Begin::Failed(why.map_or(Unrecovered::UnknownPosition, |why| self.unrecovered(why)))
            }
            (Start::Later(_), _) => Begin::Live,
        };
        self.begin(one.session, one.command, &one.wanted, begin);
    }
}
