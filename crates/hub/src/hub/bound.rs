//! What happens to a session that is too far behind.

use std::ops::{ControlFlow, Range};

use trestle_messages::Position;
use trestle_recorder::{Listed, Message};

use super::gather::is_replaced;
use super::{Hub, SessionId};
use crate::backlog::{Backlog, Loss, Waiting, What};
use crate::catch_up::Pending;
use crate::encode::{self, LostCause, Policy};
use crate::session::{Phase, Session};
use crate::ws::CloseCode;

/// What is dropped at once, as a part of the bound: so the search for it is shared by many messages.
const SLACK: usize = 8;

impl Hub {
    /// Holds a slow client to its bound: what newer messages replace goes, then the oldest of `drop_oldest`; if that is not
    /// enough the connection is closed with 4008.
    pub(super) fn bound(&mut self, id: SessionId) {
        let session = &self.sessions[id as usize];
        let Some(backlog) = session.backlog.as_ref().filter(|_| session.phase == Phase::Open) else { return };
        if backlog.behind_bytes() <= backlog.bound_bytes {
            return;
        }
        if !self.is_on_the_log(id) {
            return;
        }
        let bytes_max = self.limits.outbox_bytes_max;
        if self.sessions[id as usize].has_policy(Policy::Conflate) {
            self.forget_replaced(id);
        }
        if self.backlog(id).behind_bytes() > bytes_max
            && self.sessions[id as usize].has_policy(Policy::DropOldest)
        {
            self.drop_oldest(id);
        }
        let backlog = self.backlog(id);
        if backlog.behind_bytes() > bytes_max {
            return self.close_slow(id);
        }
        let behind_bytes = backlog.behind_bytes();
        let conflates = self.sessions[id as usize].has_policy(Policy::Conflate);
        // What is replaced is only seen by a look at everything: the next one is due when there is that much more.
        self.backlog(id).bound_bytes =
            if conflates { bytes_max.max(behind_bytes + bytes_max / SLACK) } else { bytes_max };
    }

    /// Holds all clients together to their bound: those for whom most waits are closed with 4008, until an eighth is free.
    /// Looks at every session.
    pub fn bound_outboxes(&mut self) {
        let own = |session: &Session| {
            let held = session.pace.as_ref().map_or(0, |pace| pace.bytes());
            held + session.backlog.as_ref().map_or(0, |backlog| backlog.own_bytes())
        };
        let waiting = self.sessions.iter().map(|(id, session)| (own(session), id as SessionId));
        let mut waiting: Vec<_> = waiting.filter(|(bytes, _)| *bytes > 0).collect();
        let mut sum: usize = waiting.iter().map(|(bytes, _)| bytes).sum();
        let max = self.limits.outboxes_bytes_max;
        if sum <= max {
            return;
        }
        waiting.sort_unstable();
        while sum > max - max / SLACK
            && let Some((bytes, id)) = waiting.pop()
        {
            sum -= bytes;
            if self.sessions[id as usize].phase == Phase::Open {
                self.counts.closed_full += 1;
                self.close_slow(id);
            }
        }
    }

    /// The client is too slow, and nothing that waits for it may be dropped.
    pub(super) fn close_slow(&mut self, id: SessionId) {
        if self.sessions[id as usize].phase != Phase::Open {
            return;
        }
        self.counts.closed_slow += 1;
        self.turn_out(id, CloseCode::SlowConsumer);
    }

    /// Counts anew what waits, without what newer messages of the same topics replace.
    fn forget_replaced(&mut self, id: SessionId) {
        let mut lag_bytes = 0;
        let latest = std::mem::take(&mut self.latest);
        self.look_through(id, |backlog, policy, message, frame_bytes| {
            let is_replaced = policy == Policy::Conflate
                && latest.get(message.topic()).is_some_and(|seq| *seq > message.seq());
            let is_shed = policy == Policy::DropOldest && backlog.shed.contains(&message.seq());
            lag_bytes += if is_replaced || is_shed { 0 } else { frame_bytes };
            ControlFlow::Continue(())
        });
        let backlog = self.sessions[id as usize].backlog.as_mut().expect("it is behind");
        backlog.lag_bytes = lag_bytes;
        let mut conflated = 0;
        backlog.retain(|waiting| {
            let goes = is_replaced(waiting, &latest);
            conflated += u64::from(goes);
            !goes
        });
        self.counts.conflated += conflated;
        self.latest = latest;
    }

    /// Drops the oldest messages whose policy allows it, until a little less than the bound waits.
    fn drop_oldest(&mut self, id: SessionId) {
        let target = self.limits.outbox_bytes_max - self.limits.outbox_bytes_max / SLACK;
        let backlog = self.backlog(id);
        let queue: Vec<_> = backlog.waiting().filter_map(Droppable::of).collect();
        let mut shedding = Shedding::new(backlog, target);
        let mut queue = queue.into_iter().peekable();
        self.look_through(id, |_, policy, message, frame_bytes| {
            while let Some(waiting) = queue.next_if(|waiting| waiting.seq < message.seq()) {
                shedding.consider(waiting)?;
            }
            let (seq, position) = (message.seq(), message.position());
            shedding.consider(Droppable {
                seq,
                position,
                bytes: frame_bytes,
                may_go: policy == Policy::DropOldest,
            })
        });
        let _ = queue.try_for_each(|waiting| shedding.consider(waiting));
        self.shed(id, &shedding);
    }

    /// What `shedding` found goes.
    fn shed(&mut self, id: SessionId, shedding: &Shedding) {
        let session = &mut self.sessions[id as usize];
        let is_told = session.protocol.is_told();
        let backlog = session.backlog.as_mut().expect("it is behind");
        let before = shedding.before;
        let mut n_queue = 0;
        backlog.retain(|waiting| {
            let goes =
                matches!(waiting.what, What::Event { policy: Policy::DropOldest, seq, .. } if seq < before);
            n_queue += u64::from(goes);
            !goes
        });
        if n_queue > 0 {
            backlog.lost.begin(backlog.next, backlog.position);
            backlog.lost.count += n_queue;
        }
        backlog.lag_bytes = backlog.lag_bytes.saturating_sub(shedding.log_bytes);
        backlog.lag_events = backlog.lag_events.saturating_sub(shedding.n_log);
        backlog.n_shed += shedding.n_log;
        if !backlog.catches_up {
            backlog.shed.end = backlog.shed.end.max(before);
        }
        self.counts.dropped_slow += shedding.n_log + n_queue;
        if !shedding.keeps_log && shedding.n_log > 0 {
            // Nothing stays before them: the log need not keep them for this client.
            backlog.lost.begin(backlog.next, backlog.position);
            backlog.lost.count += std::mem::take(&mut backlog.n_shed);
            let (last, until) = shedding.last.unzip();
            backlog.lost.until = until;
            backlog.next = backlog.next.max(before);
            backlog.absorb_missing(last.unwrap_or(0));
        }
        if !is_told {
            // All its messages may go, so that all that went came first.
            backlog.lost = Loss::default();
        }
        if backlog.begun.is_none() {
            backlog.front_bytes = shedding.front_bytes.unwrap_or(0);
        }
    }

    /// The log has dropped what a session waits for, up to message `oldest`. Whose socket took no more was too slow; for
    /// the others the shard was.
    pub(super) fn fall_off(&mut self, id: SessionId, oldest: u64) {
        let is_blocked = self.backlog(id).is_blocked;
        let session = &self.sessions[id as usize];
        if session.phase != Phase::Open {
            let routed = self.routed;
            return self.backlog(id).next = routed;
        }
        if is_blocked && session.has_policy(Policy::Disconnect) {
            return self.close_slow(id);
        }
        let is_told = session.protocol.is_told();
        let backlog = self.backlog(id);
        // What is left before it is there for others.
        let start = backlog.next;
        backlog.next = start.max(oldest);
        let (mut lag_bytes, mut lag_events, mut n_shed, mut first) = (0, 0, 0, None);
        self.look_into_log(id, |backlog, policy, message, frame_bytes| {
            if policy == Policy::DropOldest && backlog.shed.contains(&message.seq()) {
                n_shed += 1;
            } else {
                lag_bytes += frame_bytes;
                lag_events += 1;
            }
            first = first.or(message.position().map(|at| (message.seq(), at)));
            // What is left of what is sent again is not counted.
            if backlog.catches_up { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // Where nothing is left the sequence stands at the head, and nothing up to there matches.
        let until = first.map_or(self.position, |(_, at)| Some(Position { offset: at.offset - 1, ..at }));
        let backlog = self.sessions[id as usize].backlog.as_mut().expect("it is behind");
        let gone = if backlog.catches_up {
            (lag_bytes, lag_events, n_shed) = (0, 0, 0);
            between(backlog.position, until).unwrap_or(u64::MAX).min(oldest - start).max(1)
        } else {
            backlog.lag_events.saturating_sub(lag_events)
        };
        let (count, cause) = match is_blocked {
            true => (&mut self.counts.dropped_slow, LostCause::SlowConsumer),
            false => (&mut self.counts.overrun, LostCause::ShardOverrun),
        };
        *count += gone;
        let lost = &mut backlog.lost;
        let end = if lost.count == 0 { oldest } else { lost.end.max(oldest) };
        lost.begin(start, backlog.position);
        lost.end = end;
        lost.count += gone + backlog.n_shed.saturating_sub(n_shed);
        (lost.until, lost.at_most, lost.cause) = (until, true, cause);
        backlog.absorb_missing(first.map_or(u64::MAX, |(seq, _)| seq));
        let lost = &backlog.lost;
        backlog.lost = if is_told && lost.count > 0 { *lost } else { Loss::default() };
        (backlog.lag_bytes, backlog.lag_events, backlog.n_shed) = (lag_bytes, lag_events, n_shed);
        backlog.front_bytes = 0;
    }

    /// Some of what waits in the log is not wanted any more: counts what still is.
    pub(super) fn recount(&mut self, id: SessionId) {
        let (mut lag_bytes, mut lag_events, mut n_shed) = (0, 0, 0);
        self.look_into_log(id, |backlog, policy, message, frame_bytes| {
            if policy == Policy::DropOldest && backlog.shed.contains(&message.seq()) {
                n_shed += 1;
            } else if !backlog.catches_up {
                lag_bytes += frame_bytes;
                lag_events += 1;
            }
            ControlFlow::Continue(())
        });
        let backlog = self.backlog(id);
        (backlog.lag_bytes, backlog.lag_events, backlog.n_shed) = (lag_bytes, lag_events, n_shed);
        backlog.front_bytes = 0;
    }

    /// Looks at each message in the log that waits for a session and is held against it: its policy, and its bytes in the
    /// session's format.
    fn look_through(
        &self,
        id: SessionId,
        look: impl FnMut(&Backlog, Policy, &Message<'_>, usize) -> ControlFlow<()>,
    ) {
        if !self.sessions[id as usize].backlog.as_ref().is_some_and(|backlog| backlog.catches_up) {
            self.look_into_log(id, look);
        }
    }

    /// The same of each message that waits.
    fn look_into_log(
        &self,
        id: SessionId,
        mut look: impl FnMut(&Backlog, Policy, &Message<'_>, usize) -> ControlFlow<()>,
    ) {
        let session = &self.sessions[id as usize];
        let backlog = session.backlog.as_ref().expect("it is behind");
        let held = &session.subscriptions[..];
        let (part, mut listed) = ((backlog.next, self.routed), Listed::default());
        let mut pending = Pending::new(&self.log, (held, &backlog.ended), part, &mut listed);
        while let Some(found) = pending.find(&mut { usize::MAX }) {
            if found.is_snapshot {
                continue;
            }
            let message = found.message();
            let frame_bytes = encode::frame(&message, session.protocol.format(), &self.decoders).len();
            if look(backlog, session.policy(found.held), &message, frame_bytes).is_break() {
                break;
            }
        }
    }
}

/// Recorded messages from behind `from` up to `until`, where that can be said.
fn between(from: Option<Position>, until: Option<Position>) -> Option<u64> {
    let (from, until) = from.zip(until).filter(|(from, until)| from.epoch == until.epoch)?;
    Some(until.offset.saturating_sub(from.offset))
}

/// Something that waits, as it is weighed.
struct Droppable {
    seq: u64,
    position: Option<Position>,
    bytes: usize,
    may_go: bool,
}

impl Droppable {
    fn of(waiting: &Waiting) -> Option<Self> {
        let What::Event { policy, seq, position, .. } = waiting.what else { return None };
        let may_go = policy == Policy::DropOldest;
        Some(Self { seq, position, bytes: waiting.frame.len(), may_go })
    }
}

/// The search for how much of the oldest must go. The first of what stays is not held against the client.
#[derive(Debug)]
struct Shedding {
    target: usize,
    left: usize,
    /// Of the first that stays; 0 while a frame is begun, which then is the first.
    front_bytes: Option<usize>,
    shed: Range<u64>,
    /// All that may go and comes before this message goes.
    before: u64,
    /// Of those in the log.
    n_log: u64,
    log_bytes: usize,
    /// The last of those: the message and its position.
    last: Option<(u64, Position)>,
    /// Something in the log before it stays.
    keeps_log: bool,
}

impl Shedding {
    fn new(backlog: &Backlog, target: usize) -> Self {
        Self {
            target,
            left: backlog.behind_bytes() + backlog.front_bytes,
            front_bytes: backlog.begun.is_some().then_some(0),
            shed: backlog.shed.clone(),
            before: 0,
            n_log: 0,
            log_bytes: 0,
            last: None,
            keeps_log: false,
        }
    }

    /// The next one, in order; a break once enough has gone.
    fn consider(&mut self, one: Droppable) -> ControlFlow<()> {
        let in_log = one.position.map(|at| (one.seq, at));
        let is_in_log = in_log.is_some();
        if one.may_go && is_in_log && self.shed.contains(&one.seq) {
            return ControlFlow::Continue(());
        }
        let front_bytes = self.front_bytes.unwrap_or(one.bytes);
        if self.left.saturating_sub(front_bytes) <= self.target {
            self.front_bytes = Some(front_bytes);
            return ControlFlow::Break(());
        }
        if !one.may_go {
            self.front_bytes = Some(front_bytes);
            self.keeps_log |= is_in_log;
            return ControlFlow::Continue(());
        }
        self.left -= one.bytes;
        self.before = one.seq + 1;
        if is_in_log {
            self.n_log += 1;
            self.log_bytes += one.bytes;
            self.last = in_log;
        }
        ControlFlow::Continue(())
    }
}
