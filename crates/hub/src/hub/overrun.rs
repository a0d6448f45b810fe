//! What happens to the clients of a shard that fell off the log.

use trestle_messages::Position;

use super::{Hub, SessionId};
use crate::backlog::Loss;
use crate::encode::{Lost, LostCause, LostCount, ServerMessage, Topics};
use crate::protocol::Protocol;
use crate::session::Phase;

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
            let is_told = session.protocol == Protocol::Json;
            if let Some(backlog) = session.backlog.as_mut().filter(|backlog| backlog.lag_events > 0) {
                let missed = messages + backlog.lag_events + backlog.n_shed;
                self.counts.dropped_slow += backlog.lag_events;
                let loss = &mut backlog.lost;
                loss.begin(backlog.next, backlog.position);
                (loss.count, loss.at_most) = (loss.count + missed, true);
                (loss.until, loss.cause) = (until, LostCause::ShardOverrun);
                (backlog.lag_events, backlog.lag_bytes, backlog.n_shed) = (0, 0, 0);
                (backlog.next, backlog.front_bytes) = (self.routed, 0);
                backlog.lost = if is_told { *loss } else { Loss::default() };
            } else if is_told {
                let topics = session.subscriptions.iter().map(|held| &*held.topic).collect::<Topics<'_>>();
                let (cause, count) = (LostCause::ShardOverrun, Some(LostCount::AtMost(messages)));
                let lost = ServerMessage::Lost(Lost { topics, from, position: until, cause, count }).frame();
                self.push_reply(id, lost);
            }
        }
    }
}
