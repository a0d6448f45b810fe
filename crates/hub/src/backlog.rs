//! What a session that is behind has before it: a place in the log, and what the log does not keep.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use trestle_messages::Position;
use trestle_recorder::Listed;

use crate::encode::{LostCause, Policy};
use crate::session::Subscription;

/// Exists while anything waits for a client: its socket took no more, or a reply is on its way. Messages that are recorded
/// stay in the log, where [`next`](Self::next) points, so that a slow client costs no queue; what is not recorded, and what
/// the hub itself says, waits here, each before the message of the log that it comes before.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// A frame of which the client has a part, how much, and whether it is a message.
    pub(crate) begun: Option<(Bytes, usize, bool)>,
    waiting: VecDeque<Waiting>,
    event_bytes: usize,
    reply_bytes: usize,
    /// The log's message at which reading goes on: all before it were sent, passed over, or are in `lost`.
    pub(crate) next: u64,
    /// Every matching message up to here was sent or is declared lost.
    pub(crate) position: Option<Position>,
    /// Recorded messages that match from `next` on and were not shed: their bytes in this session's format, without those
    /// that are known to be replaced, and how many.
    pub(crate) lag_bytes: usize,
    pub(crate) lag_events: u64,
    /// How much there is in the log is not known, and not held against the client: what it asked for is still read. Once
    /// that has come to the head it is counted.
    pub(crate) catches_up: bool,
    /// What is sent again, for the commands that asked for it.
    pub(crate) replays: Vec<Replay>,
    /// Bytes of the first of all that waits, where it is known: it is not held against the client, so that a message larger
    /// than the bound reaches whoever reads.
    pub(crate) front_bytes: usize,
    /// The bound is looked at again when this much waits.
    pub(crate) bound_bytes: usize,
    /// Messages in this part of the log whose policy is `drop_oldest` are not sent, and so many of them were not passed over
    /// yet.
    pub(crate) shed: Range<u64>,
    pub(crate) n_shed: u64,
    /// Last values that are to be sent, as far as they were looked up.
    pub(crate) listed: Listed,
    /// Messages that were passed over and of which the client must hear before anything else.
    pub(crate) lost: Loss,
    /// Subscriptions that ended while messages for them waited.
    pub(crate) ended: Vec<Ended>,
    /// The last visit ended because the socket took no more.
    pub(crate) is_blocked: bool,
}

/// Subscriptions that ended together, in the order of their keys, and the message of the log before which they did.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) until: u64,
}

/// What one command has sent again.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Unique in its hub, from 1 on.
    pub(crate) number: u32,
    /// The message of the log where it ends.
    pub(crate) until: u64,
    /// Messages sent so far.
    pub(crate) replayed: u64,
}

/// A run of messages that the client does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) count: u64,
    /// The count is a bound, not a number.
    pub(crate) at_most: bool,
    /// The message of the log at which it begins: what waits to go out before that is not behind the loss.
    pub(crate) start: u64,
    /// The message behind it; `u64::MAX` where it goes on as long as anything is dropped.
    pub(crate) end: u64,
    pub(crate) from: Option<Position>,
    pub(crate) until: Option<Position>,
    pub(crate) cause: LostCause,
}

impl Default for Loss {
    fn default() -> Self {
        let cause = LostCause::SlowConsumer;
        Self { count: 0, at_most: false, start: 0, end: u64::MAX, from: None, until: None, cause }
    }
}

impl Loss {
    /// Whatever more is lost is lost from message `start` on, behind `from`, unless something was lost before.
    pub(crate) fn begin(&mut self, start: u64, from: Option<Position>) {
        if self.count == 0 {
            (self.start, self.end, self.from, self.until) = (start, u64::MAX, from, from);
        }
    }

    /// One message more.
    pub(crate) fn add(&mut self, at: Option<Position>) {
        self.count += 1;
        self.until = at.or(self.until);
    }
}

/// Something that is not in the log.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// It goes out before this message of the log.
    pub(crate) before: u64,
    pub(crate) frame: Bytes,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// A message that is not recorded, or one that `max_hz` held back.
    Event {
        policy: Policy,
        /// Where a newer one of the same topic replaces it, or a token may end before it is sent.
        topic: Option<Box<[u8]>>,
        /// A newer one of the same topic replaces it.
        conflates: bool,
        seq: u64,
        position: Option<Position>,
    },
    /// What answers or informs this one client.
    Reply,
    /// News of a part of the sequence that this hub never had. It takes the client to `until`.
    Missing { cause: LostCause, until: Option<Position>, at_most: u64 },
    /// What a command asked for was sent. Its frame is made when its turn comes.
    CaughtUp { command: u64, replay: u32, position: Option<Position> },
}

impl What {
    pub(crate) fn is_event(&self) -> bool {
        matches!(self, Self::Event { .. })
    }
}

impl Backlog {
    /// Nothing waits; the log is read from `next` on, and the client is at `position`.
    pub(crate) fn new(next: u64, position: Option<Position>, bound_bytes: usize) -> Self {
        Self {
            begun: None,
            waiting: VecDeque::new(),
            event_bytes: 0,
            reply_bytes: 0,
            next,
            position,
            lag_bytes: 0,
            lag_events: 0,
            front_bytes: 0,
            bound_bytes,
            catches_up: false,
            replays: Vec::new(),
            shed: 0..0,
            n_shed: 0,
            listed: Listed::default(),
            lost: Loss::default(),
            ended: Vec::new(),
            is_blocked: false,
        }
    }

    /// Queues behind everything that waits to go out before message `waiting.before`, and that is the order it must keep.
    pub(crate) fn push(&mut self, waiting: Waiting) {
        *self.bytes_of(&waiting) += waiting.frame.len();
        let at = self.waiting.iter().rposition(|other| other.before <= waiting.before).map_or(0, |at| at + 1);
        self.waiting.insert(at, waiting);
    }

    /// Takes the first that waits to go out before message `before`.
    pub(crate) fn pop_before(&mut self, before: u64) -> Option<Waiting> {
        let waiting = self.waiting.pop_front_if(|waiting| waiting.before <= before)?;
        *self.bytes_of(&waiting) -= waiting.frame.len();
        Some(waiting)
    }

    /// Gives back what was taken last.
    pub(crate) fn unpop(&mut self, waiting: Waiting) {
        *self.bytes_of(&waiting) += waiting.frame.len();
        self.waiting.push_front(waiting);
    }

    fn bytes_of(&mut self, waiting: &Waiting) -> &mut usize {
        if waiting.what.is_event() { &mut self.event_bytes } else { &mut self.reply_bytes }
    }

    /// Reading goes on at message `place`, if that is before where it stands; the client goes back to `position`.
    pub(crate) fn go_back(&mut self, place: u64, position: Option<Position>) {
        let next = self.next;
        self.shed.start = self.shed.start.max(next);
        if self.n_shed == 0 {
            self.shed = 0..0;
        }
        (self.catches_up, self.lag_bytes, self.lag_events) = (true, 0, 0);
        // What is asked for now may want others.
        self.listed = Listed::default();
        let is_before =
            |at: &Position| self.position.is_none_or(|now| now.epoch == at.epoch && at.offset < now.offset);
        self.position = position.filter(is_before).or(self.position);
        if place >= next {
            // It stands there for last values, which take the client no further.
            return;
        }
        // What nothing of the log comes before still goes first, and says nothing of what comes again.
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.before <= next) {
            waiting.before = place;
            if let What::Missing { until, .. } = &mut waiting.what {
                *until = None;
            }
        }
        self.next = place;
    }

    /// What is missing inside of what is lost, which comes up to message `through`, becomes a part of it: told by itself,
    /// behind it, that would take the client back.
    pub(crate) fn absorb_missing(&mut self, through: u64) {
        let mut lost = self.lost;
        self.retain(|waiting| match waiting.what {
            What::Missing { at_most, .. } if lost.start < waiting.before && waiting.before <= through => {
                (lost.count, lost.at_most) = (lost.count + at_most, true);
                false
            }
            _ => true,
        });
        self.lost = lost;
    }

    /// Nothing more comes out of the log, nor anything that tells how far the client would have come with it.
    pub(crate) fn break_off(&mut self, next: u64) {
        self.retain(|waiting| match waiting.what {
            What::Event { position, .. } => position.is_none(),
            What::Reply => true,
            What::Missing { .. } | What::CaughtUp { .. } => false,
        });
        (self.next, self.catches_up) = (self.next.max(next), false);
        (self.lag_bytes, self.lag_events, self.n_shed) = (0, 0, 0);
        (self.lost, self.front_bytes) = (Loss::default(), 0);
        self.replays.clear();
    }

    /// Keeps what `keep` says.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Waiting) -> bool) {
        let (mut event_bytes, mut reply_bytes) = (0, 0);
        self.waiting.retain(|waiting| {
            let keeps = keep(waiting);
            let bytes = if waiting.what.is_event() { &mut event_bytes } else { &mut reply_bytes };
            *bytes += if keeps { waiting.frame.len() } else { 0 };
            keeps
        });
        (self.event_bytes, self.reply_bytes) = (event_bytes, reply_bytes);
    }

    pub(crate) fn waiting(&self) -> impl DoubleEndedIterator<Item = &Waiting> {
        self.waiting.iter()
    }

    /// Nothing waits outside the log.
    pub(crate) fn has_no_queue(&self) -> bool {
        self.begun.is_none() && self.waiting.is_empty()
    }

    /// Nothing waits at all, in the log or outside.
    pub(crate) fn has_nothing(&self) -> bool {
        self.has_no_queue() && !self.catches_up && self.lag_events == 0
    }

    /// The log may have something to send or to pass over.
    pub(crate) fn may_find(&self) -> bool {
        self.catches_up || self.lag_events + self.n_shed > 0
    }

    /// Bytes of replies that wait.
    pub(crate) fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// All that waits, in the log and outside.
    pub(crate) fn bytes(&self) -> usize {
        let begun = self.begun.as_ref().map_or(0, |(frame, written, _)| frame.len() - written);
        begun + self.lag_bytes + self.event_bytes + self.reply_bytes
    }

    /// What waits outside of the log.
    pub(crate) fn own_bytes(&self) -> usize {
        self.event_bytes + self.reply_bytes
    }

    /// What is held against the client: all that waits behind the first frame.
    pub(crate) fn behind_bytes(&self) -> usize {
        (self.lag_bytes + self.event_bytes + self.reply_bytes).saturating_sub(self.front_bytes)
    }

    /// Nothing of what waits is to be sent any more, but the rest of a frame that the client has in part.
    pub(crate) fn give_up(&mut self, next: u64) {
        let begun = self.begun.take();
        let is_blocked = self.is_blocked;
        *self = Self { begun, is_blocked, ..Self::new(next, self.position, usize::MAX) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(before: u64, text: &'static str) -> Waiting {
        Waiting { before, frame: Bytes::from_static(text.as_bytes()), what: What::Reply }
    }

    #[test]
    fn what_waits_keeps_its_place_in_the_log() {
        let mut backlog = Backlog::new(5, None, 100);
        for (before, text) in [(7, "seven"), (9, "nine"), (7, "seven too"), (5, "five")] {
            backlog.push(reply(before, text));
        }
        assert_eq!(backlog.reply_bytes(), 22);
        let mut taken = Vec::new();
        for seq in 5..10 {
            while let Some(waiting) = backlog.pop_before(seq) {
                taken.push((seq, waiting.frame));
            }
        }
        let taken: Vec<_> = taken.iter().map(|(seq, frame)| (*seq, str::from_utf8(frame).unwrap())).collect();
        assert_eq!(taken, [(5, "five"), (7, "seven"), (7, "seven too"), (9, "nine")]);
        assert!(backlog.has_no_queue() && backlog.bytes() == 0);
    }

    #[test]
    fn a_begun_frame_is_finished() {
        let mut backlog = Backlog::new(1, None, 100);
        backlog.begun = Some((Bytes::from_static(b"frame"), 2, true));
        backlog.push(reply(1, "reply"));
        assert_eq!((backlog.bytes(), backlog.behind_bytes()), (8, 5));
        backlog.give_up(9);
        assert_eq!((backlog.bytes(), backlog.next), (3, 9));
    }
}
