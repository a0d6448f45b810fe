//! Where a subscription starts: live, behind what its client missed, or with last values first.

use trestle_messages::Position;
use trestle_recorder::NotHere;

use super::parked::Wait;
use super::sessions::Terms;
use super::{Hub, SessionId};
use crate::backlog::{Replay, Waiting, What};
use crate::encode::{
    CaughtUp, Outcome, Recorded, Recovery, Reply, ServerMessage, Since, Subscribe, Subscribed, Unrecovered,
};

/// Whether a subscription can start.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    Now(Begin),
    Later(Wait),
}

/// How it does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// With what comes from now on.
    Live,
    /// The same, because what the client missed cannot be sent again.
    Failed(Unrecovered),
    /// With message `from` of the log, the first behind `since`.
    Replay { from: u64, since: Position },
}

impl Hub {
    /// Decides for all topics of a command together: all that is recorded of what they missed is there, or nothing of it
    /// is sent.
    pub(super) fn start(&self, wanted: &Subscribe) -> Start {
        let failed = |reason| Start::Now(Begin::Failed(reason));
        let since = match wanted.since {
            None => return Start::Now(Begin::Live),
            Some(_) if self.recorded(wanted) == Recorded::None => return failed(Unrecovered::NotRecorded),
            Some(Since::Unknown) => return failed(Unrecovered::UnknownPosition),
            Some(Since::Position(since)) => since,
        };
        match self.log.seq_after(since) {
            Ok(from) if from > self.routed => Start::Later(Wait::ForHead),
            Ok(from) => {
                let is_there = |topic: &Vec<u8>| self.log.complete_from(topic, wanted.exact) <= from;
                let is_whole = self.log.complete_from_all() <= from || wanted.topics.iter().all(is_there);
                match is_whole {
                    true => Start::Now(Begin::Replay { from, since }),
                    false => failed(Unrecovered::HistoryTruncated),
                }
            }
            Err(_) if self.parked.can_ask() => Start::Later(Wait::ForAnswer),
            Err(why) => Start::Now(Begin::Failed(self.unrecovered(why))),
        }
    }

    /// What is said of a position that is not here, as far as is known here.
    pub(super) fn unrecovered(&self, why: NotHere) -> Unrecovered {
        match why {
            NotHere::OtherEpoch if self.position.is_some() => Unrecovered::EpochChanged,
            NotHere::OtherEpoch | NotHere::Ahead => Unrecovered::UnknownPosition,
        }
    }

    /// The subscription of a command stands from here on. Its reply goes out where it starts, then what it is sent first,
    /// then `caught_up`, then what comes after.
    pub(super) fn begin(&mut self, id: SessionId, command: u64, wanted: &Subscribe, begin: Begin) {
        self.queue_loss(id);
        let session = &self.sessions[id as usize];
        let renews = wanted.topics.iter().any(|topic| session.find(topic, wanted.exact).is_ok());
        let recorded = self.recorded(wanted);
        let (replay, recovery) = match begin {
            Begin::Live => (None, None),
            Begin::Failed(reason) => (None, Some(Recovery::Failed(reason))),
            Begin::Replay { from, since } => (Some((from, since)), Some(Recovery::Recovered)),
        };
        let snapshot = wanted.snapshot && replay.is_none() && recorded != Recorded::None;
        let head = self.routed;
        let place = match replay {
            Some((from, _)) => from,
            None if snapshot => self.log.oldest_seq().min(head),
            None => head,
        };
        let number = if place < head { self.go_back(id, place, replay.map(|(_, since)| since)) } else { 0 };
        let interval = wanted.interval_min.unwrap_or_default();
        let from = replay.map(|(from, _)| from);
        for topic in &wanted.topics {
            let terms = Terms { policy: wanted.policy, interval, from, snapshot, replay: number };
            self.subscribe(id, topic, wanted.exact, terms);
        }
        self.follow_subscriptions(id);
        let position = match replay {
            Some((_, since)) => Some(since),
            None if renews => self.reached(id, snapshot),
            None => self.position,
        };
        let format = self.sessions[id as usize].protocol.format();
        let topics = wanted.topics.iter().map(Vec::as_slice).collect();
        let outcome = Outcome::Subscribed(Subscribed { topics, position, recorded, recovery });
        let frame = ServerMessage::Reply(Reply { id: Some(command), outcome }).frame(format);
        self.push(id, Waiting { before: place, frame, what: What::Reply });
        let position = if place < head || !renews { self.position } else { self.reached(id, false) };
        let what = match number {
            0 => What::Reply,
            replay => What::CaughtUp { command, replay, position },
        };
        let frame = ServerMessage::CaughtUp(CaughtUp { id: command, position, replayed: 0 }).frame(format);
        self.push(id, Waiting { before: head, frame, what });
    }

    /// The session reads the log from message `place` on, which is before the head, and the client has come to `since`
    /// before it. What its subscriptions have by now they do not get again. Returns the number of the replay.
    fn go_back(&mut self, id: SessionId, place: u64, since: Option<Position>) -> u32 {
        self.fall_behind(id, 0);
        let head = self.routed;
        let session = &mut self.sessions[id as usize];
        let backlog = session.backlog.as_deref_mut().expect("it is behind");
        let has_lag = backlog.next < head;
        let ended = backlog.ended.iter_mut().flat_map(|ended| &mut ended.subscriptions);
        session.subscriptions.iter_mut().chain(ended).for_each(|held| held.note_served(backlog.next));
        backlog.go_back(place, since);
        // Of the hub, so that no subscription belongs to one that came later.
        self.replays = self.replays.checked_add(1).unwrap_or(1);
        let number = self.replays;
        backlog.replays.push(Replay { number, until: head, replayed: 0 });
        // What `max_hz` holds comes before what is sent again: that may be newer, and would overtake it.
        if let Some(pace) = session.pace.as_mut().filter(|_| !has_lag) {
            let held = pace.take_all();
            self.push_held_before(id, place, held);
        }
        number
    }

    /// How far the client has come with what it holds: all up to there was sent, or waits to go out before a reply does
    /// that is said now. If it `overtakes`, only what was sent counts.
    fn reached(&self, id: SessionId, overtakes: bool) -> Option<Position> {
        let session = &self.sessions[id as usize];
        let held_back = session.pace.as_ref().and_then(|pace| pace.holds_back());
        let behind = session.backlog.as_ref().filter(|_| overtakes).and_then(|backlog| backlog.position);
        let earlier = |a: Position, b: Position| if b.offset < a.offset { b } else { a };
        let limits = held_back.into_iter().chain(behind);
        limits.reduce(earlier).or(self.position)
    }

    /// How much of what `wanted` matches upstream records.
    fn recorded(&self, wanted: &Subscribe) -> Recorded {
        let all = wanted.topics.iter().all(|topic| self.rules.covers(topic));
        let some = wanted.topics.iter().any(|topic| self.may_be_recorded(topic, wanted.exact));
        match (all, some) {
            (true, _) => Recorded::All,
            (false, true) => Recorded::Some,
            (false, false) => Recorded::None,
        }
    }

    /// Whether a subscription may match something that upstream records.
    pub(super) fn may_be_recorded(&self, topic: &[u8], exact: bool) -> bool {
        let inside = |prefix: &[u8]| !exact && prefix.starts_with(topic);
        self.rules.covers(topic) || self.rules.iter().any(|rule| inside(&rule.prefix))
    }
}
