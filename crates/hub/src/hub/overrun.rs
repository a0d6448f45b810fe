//! What clients hear of a part of the sequence that is not there: missed by this shard, or not in the log.

use trestle_messages::Position;
use trestle_recorder::Gap;

use super::{Hub, SessionId};
use crate::backlog::{Loss, Waiting, What};
use crate::encode::{Lost, LostCause, LostCount, ServerMessage, Topics};
use crate::session::{Phase, Subscription};

impl Hub {
    /// The shard fell off the log and missed `messages`, those up to `until`. Each client that can be told is told that
    /// it may have lost as many; whoever was behind lost what it was behind, too.
    pub(super) fn tell_overrun(&mut self, messages: u64, until: Option<Position>) {
        self.counts.overrun += messages;
        let from = std::mem::replace(&mut self.position, until);
        let ids: Vec<_> = self.sessions.iter().map(|(index, _)| index as SessionId).collect();
        for id in ids {
            let session = &mut self.sessions[id as usize];
            if session.phase != Phase::Open || session.subscriptions.is_empty() {
                continue;
            }
            let is_told = session.protocol.is_told();
            if session.backlog.as_ref().is_some_and(|backlog| backlog.catches_up) {
                // It reads the log by itself, and sees there what is missing.
                continue;
            }
            if let Some(backlog) = session.backlog.as_mut().filter(|backlog| backlog.lag_events > 0) {
                let missed = messages + backlog.lag_events + backlog.n_shed;
                self.counts.dropped_slow += backlog.lag_events;
                let loss = &mut backlog.lost;
                loss.begin(backlog.next, backlog.position);
                (loss.count, loss.at_most) = (loss.count + missed, true);
                (loss.until, loss.cause) = (until, LostCause::ShardOverrun);
                (backlog.lag_events, backlog.lag_bytes, backlog.n_shed) = (0, 0, 0);
                (backlog.next, backlog.front_bytes) = (self.routed, 0);
                backlog.absorb_missing(u64::MAX);
                if !is_told {
                    backlog.lost = Loss::default();
                }
                continue;
            }
            if let Some(backlog) = session.backlog.as_mut() {
                // What the log still has of it, for others, is not looked for: it was not counted.
                backlog.next = backlog.next.max(self.routed);
            }
            if is_told {
                let missing =
                    Missing { from, until, messages: Some(messages), cause: LostCause::ShardOverrun };
                self.tell_missing(id, &missing, |_, _| true);
            }
        }
    }

    /// The log has come to a gap. Each client that can be told and may have wanted something of it is, in its place.
    pub(super) fn tell_gap(&mut self, gap: Gap) {
        self.position = Some(gap.until);
        // Nothing before it is replayed any more, and all are told how far they are.
        self.watch_rings();
        let ids: Vec<_> = self.sessions.iter().map(|(index, _)| index as SessionId).collect();
        for id in ids {
            let session = &self.sessions[id as usize];
            if session.phase != Phase::Open || !session.protocol.is_told() {
                continue;
            }
            let Gap { from, until, messages } = gap;
            let missing = Missing { from, until: Some(until), messages, cause: LostCause::LinkHole };
            self.tell_missing(id, &missing, |hub, held| hub.may_be_recorded(&held.topic, held.exact));
        }
    }

    /// Tells a client, in its place, of what is missing, if that `concerns` some of its subscriptions.
    fn tell_missing(
        &mut self,
        id: SessionId,
        missing: &Missing,
        concerns: impl Fn(&Self, &Subscription) -> bool,
    ) {
        let session = &self.sessions[id as usize];
        let concerned = session.subscriptions.iter().filter(|held| concerns(self, held));
        let topics = concerned.map(|held| &*held.topic).collect::<Topics<'_>>();
        if topics.0.is_empty() {
            return;
        }
        let Missing { from, until, messages, cause } = *missing;
        // How much was missing where the sequence began anew nobody knows.
        let (cause, count) = match leads_to_another_epoch(from, until) {
            true => (LostCause::EpochChanged, None),
            false => (cause, messages.map(LostCount::AtMost)),
        };
        let lost = Lost { topics, from, position: until, cause, count };
        let frame = ServerMessage::Lost(lost).frame(session.protocol.format());
        let what = What::Missing { cause, until, at_most: messages.unwrap_or(0) };
        self.push(id, Waiting { before: self.routed, frame, what });
    }
}

/// A part of the sequence that is not there.
struct Missing {
    from: Option<Position>,
    until: Option<Position>,
    /// So many at most, where that is known.
    messages: Option<u64>,
    /// Why, unless the sequence began anew.
    cause: LostCause,
}

/// Whether the sequence began anew in between.
pub(super) fn leads_to_another_epoch(from: Option<Position>, until: Option<Position>) -> bool {
    from.zip(until).is_some_and(|(from, until)| from.epoch != until.epoch)
}
