//! From the log to the sessions: who gets which message, and in which encoding.

use std::sync::Arc;
use std::time::Instant;

use trestle_messages::Position;
use trestle_recorder::{Message, Segment};

use super::place::Kinds;
use super::{Hub, SessionId};
use crate::backlog::{Waiting, What};
use crate::decode::Decoders;
use crate::encode::{self, DEFLATE_BYTES_MIN, Format, Policy};
use crate::session::{Phase, deciding};
use crate::trie::Seat;
use crate::turn::{FrameId, Kind, Turn};
use crate::ws::Deflater;

/// Lists and frames in a turn before their sockets are visited: bounds a turn's memory (some 50 bytes each).
const TURN_WEIGHT_MAX: usize = 1 << 18;

/// A message is compressed where at least so many sessions of the shard that want it negotiated it: for fewer, sending it
/// as it is costs less.
const DEFLATED_SESSIONS_MIN: usize = 4;

/// Sessions set aside while one message is routed; kept for their memory.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Those for whom it is not just staged.
    special: Vec<SessionId>,
    /// Those who came before it was known whether to compress it.
    deflating: Vec<SessionId>,
}

impl Hub {
    /// Stages what the log has for those who want it, until the turn is full. Returns whether there was anything; then the
    /// sessions of [`take_dirty`](Self::take_dirty) are to be visited, and there may be more.
    pub fn pull(&mut self, now: Instant) -> bool {
        self.now = self.now.max(now);
        if self.unrouted.is_empty() {
            self.read_log();
        }
        let any = !self.unrouted.is_empty();
        while let Some(segment) = self.unrouted.front().cloned() {
            self.turn.begin(&segment);
            for index in self.unrouted_from..segment.len() {
                if self.turn.weight() >= TURN_WEIGHT_MAX {
                    self.unrouted_from = index;
                    return true;
                }
                self.route(&segment, index);
            }
            self.unrouted.pop_front();
            self.unrouted_from = 0;
            self.routed = segment.end_seq();
            if let Some(gap) = segment.gap() {
                self.tell_gap(gap);
            }
        }
        self.routed = self.cursor.next_seq();
        self.position = self.cursor.position();
        self.settle_parked();
        self.release(now);
        any
    }

    fn read_log(&mut self) {
        let mut segments = Vec::new();
        let overrun = self.log.read(&mut self.cursor, &mut segments);
        self.unrouted = segments.into();
        if let Err(overrun) = overrun {
            let until = self.unrouted.iter().find_map(|segment| position_before(segment));
            self.routed = self.unrouted.front().map_or(self.cursor.next_seq(), |segment| segment.first_seq());
            self.tell_overrun(overrun.messages, until.or(self.cursor.position()));
        }
    }

    /// One message, to everybody who wants it.
    fn route(&mut self, segment: &Arc<Segment>, index: usize) {
        let message = segment.message(index);
        let mut frames: [Option<FrameId>; Kinds::COUNT] = [None; Kinds::COUNT];
        let Aside { mut special, mut deflating } = std::mem::take(&mut self.aside);
        let Self { places, subscribers, turn, dirty, deflater, decoders, .. } = self;
        let mut encoding = Encoding { message, index, decoders, deflater, wanted: 0 };
        subscribers.matches_by_topic(message.topic(), |seats| {
            for Seat { subscriber, .. } in seats {
                let place = &mut places[*subscriber as usize];
                if !place.is_common() {
                    special.push(*subscriber);
                    continue;
                }
                let frame = &mut frames[usize::from(place.kind)];
                if frame.is_none() {
                    *frame = encoding.make(turn, place.kind);
                }
                let Some(frame) = *frame else {
                    deflating.push(*subscriber);
                    continue;
                };
                turn.stage(&mut place.list, frame);
                if place.mark_dirty() {
                    dirty.push(*subscriber);
                }
            }
        });
        for id in &deflating {
            let place = &mut places[*id as usize];
            let kind = place.kind;
            let frame = frames[usize::from(kind)].get_or_insert_with(|| encoding.make_anyway(turn, kind));
            turn.stage(&mut place.list, *frame);
            if place.mark_dirty() {
                dirty.push(*id);
            }
        }
        // Before whatever looks through the log for those who are behind: for them it is there already.
        self.routed = message.seq() + 1;
        for id in &special {
            self.route_special(*id, &message, index);
        }
        self.position = message.position().or(self.position);
        special.clear();
        deflating.clear();
        self.aside = Aside { special, deflating };
    }

    /// A message for a session that is behind, paced, or conflating.
    fn route_special(&mut self, id: SessionId, message: &Message<'_>, index: usize) {
        let number = message.seq() + 1;
        let session = &mut self.sessions[id as usize];
        if session.last_seen == number || session.phase != Phase::Open {
            return;
        }
        session.last_seen = number;
        let conflates = self.places[id as usize].conflates();
        if session.pace.as_ref().is_some_and(|pace| pace.concerns(message.topic())) {
            return self.hold(id, message);
        }
        if conflates {
            self.note_latest(message);
        }
        let format = Kinds::format(self.places[id as usize].kind);
        if self.sessions[id as usize].backlog.is_some() {
            self.count_behind(id, message, format);
        } else {
            let frame = self.turn.add(index, encode::frame(message, format, &self.decoders).clone());
            self.turn.stage(&mut self.places[id as usize].list, frame);
            self.mark_dirty(id);
        }
    }

    /// A message that a session will get later: out of the log, if it is kept there.
    fn count_behind(&mut self, id: SessionId, message: &Message<'_>, format: Format) {
        if message.position().is_some() && self.backlog(id).catches_up {
            // It comes to it by itself. Whoever reads is visited; who does not is when it can be written to.
            if !self.backlog(id).is_blocked {
                self.mark_dirty(id);
            }
            return;
        }
        let frame = encode::frame(message, format, &self.decoders);
        if message.position().is_some() {
            let backlog = self.backlog(id);
            if backlog.has_nothing() {
                backlog.front_bytes = frame.len();
            }
            backlog.lag_bytes += frame.len();
            backlog.lag_events += 1;
        } else {
            let waiting = self.waiting_event(id, message, frame.clone());
            self.backlog(id).push(waiting);
        }
        // Whoever may still take everything at the next visit is not slow.
        if self.backlog(id).is_blocked {
            self.bound(id);
        }
    }

    /// A message that the log does not keep, as it waits for a session.
    pub(super) fn waiting_event(&self, id: SessionId, message: &Message<'_>, frame: bytes::Bytes) -> Waiting {
        let session = &self.sessions[id as usize];
        let held = deciding(&session.subscriptions, message.topic(), message.seq());
        let policy = held.map_or(Policy::Disconnect, |held| session.policy(held));
        let conflates = policy == Policy::Conflate;
        let topic = (conflates || self.verifier.is_some()).then(|| message.topic().into());
        let (seq, position) = (message.seq(), message.position());
        Waiting { before: seq, frame, what: What::Event { policy, topic, conflates, seq, position } }
    }

    fn note_latest(&mut self, message: &Message<'_>) {
        match self.latest.get_mut(message.topic()) {
            Some(latest) => *latest = message.seq(),
            None => {
                self.latest.insert(message.topic().into(), message.seq());
            }
        }
        if self.latest.len() > self.latest_max.max(1_024) {
            let oldest = self.log.newest_seq();
            self.latest.retain(|_, seq| *seq >= oldest);
            self.latest_max = 2 * self.latest.len();
        }
    }

    /// The frame of a message for a session that is not served with others: compressed where somebody had it compressed.
    pub(super) fn frame_for<'a>(kind: Kind, message: &Message<'a>, decoders: &Decoders) -> &'a bytes::Bytes {
        let format = Kinds::format(kind);
        let deflated =
            Kinds::window(kind).and_then(|window| encode::deflated_already(message, format, window));
        deflated.unwrap_or_else(|| encode::frame(message, format, decoders))
    }
}

/// Makes a message's frame for each kind of list that is to have it.
struct Encoding<'a> {
    message: Message<'a>,
    /// In its segment.
    index: usize,
    decoders: &'a Decoders,
    deflater: &'a mut Deflater,
    /// Sessions that would have it compressed, as far as they were seen.
    wanted: usize,
}

impl Encoding<'_> {
    /// `None` where it is not yet known whether compression pays: then the session waits.
    #[cold]
    fn make(&mut self, turn: &mut Turn, kind: Kind) -> Option<FrameId> {
        if let Some(window) = Kinds::window(kind) {
            self.wanted += 1;
            let format = Kinds::format(kind);
            let is_made = encode::deflated_already(&self.message, format, window).is_some();
            if self.pays_by_size() && self.wanted < DEFLATED_SESSIONS_MIN && !is_made {
                return None;
            }
            self.wanted = if is_made { DEFLATED_SESSIONS_MIN } else { self.wanted };
        }
        Some(self.make_anyway(turn, kind))
    }

    fn make_anyway(&mut self, turn: &mut Turn, kind: Kind) -> FrameId {
        let (message, format) = (&self.message, Kinds::format(kind));
        let pays = self.wanted >= DEFLATED_SESSIONS_MIN && self.pays_by_size();
        let frame = match Kinds::window(kind).filter(|_| pays) {
            Some(window) => encode::deflated(message, format, self.decoders, window, self.deflater),
            None => encode::frame(message, format, self.decoders),
        };
        turn.add(self.index, frame.clone())
    }

    fn pays_by_size(&self) -> bool {
        body_bytes(&self.message) >= DEFLATE_BYTES_MIN
    }
}

fn body_bytes(message: &Message<'_>) -> usize {
    message.body().map(<[u8]>::len).sum()
}

/// Where the sequence stands before a segment, if that can be told from it.
fn position_before(segment: &Segment) -> Option<Position> {
    let first = segment.messages().find_map(|message| message.position());
    let before_first = first.map(|first| Position { offset: first.offset - 1, ..first });
    before_first.or_else(|| segment.gap().and_then(|gap| gap.from))
}
