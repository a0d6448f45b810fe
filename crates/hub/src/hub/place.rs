//! Where each session stands in the turn, and in which encoding it is served.

use super::{Hub, SessionId};
use crate::encode::{Format, Policy};
use crate::session::{Phase, Session};
use crate::turn::{Kind, List, Turn};
use crate::ws::DeflateWindow;

/// Where a session stands in the turn. All that a delivery touches of a session that keeps up: it is small and in one row
/// with the others, because with ten thousand sessions each line of memory is a miss.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) list: List,
    pub(super) kind: Kind,
    flags: u8,
}

/// On the list of those to be visited.
const DIRTY: u8 = 1;
/// It has a backlog, or is about to end: visits go through the backlog.
const BEHIND: u8 = 2;
/// A limited subscription decides when messages go.
const PACED: u8 = 4;
/// Somebody wants to know the newest message of each topic, for when the session falls behind.
const CONFLATES: u8 = 8;

impl Place {
    /// Whether it was.
    pub(super) fn take_dirty(&mut self) -> bool {
        let was = self.flags & DIRTY != 0;
        self.flags &= !DIRTY;
        was
    }

    /// Whether it was not.
    pub(super) fn mark_dirty(&mut self) -> bool {
        let was = self.flags & DIRTY != 0;
        self.flags |= DIRTY;
        !was
    }

    pub(super) fn is_behind(self) -> bool {
        self.flags & BEHIND != 0
    }

    /// A message is just staged for it.
    pub(super) fn is_common(self) -> bool {
        self.flags & (BEHIND | PACED | CONFLATES) == 0
    }

    pub(super) fn conflates(self) -> bool {
        self.flags & CONFLATES != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }
}

/// The kinds of lists: an encoding each.
pub(super) struct Kinds;

/// As it is, and for each window.
const ENCODINGS: usize = 1 + DeflateWindow::ALL.len();

impl Kinds {
    pub(super) const COUNT: usize = Format::ALL.len() * ENCODINGS;

    fn of(session: &Session) -> Kind {
        let encoding = session.deflate.map_or(0, |deflate| 1 + deflate.window as usize);
        (session.protocol.format() as usize * ENCODINGS + encoding) as Kind
    }

    pub(super) fn format(kind: Kind) -> Format {
        Format::ALL[usize::from(kind) / ENCODINGS]
    }

    pub(super) fn window(kind: Kind) -> Option<DeflateWindow> {
        DeflateWindow::ALL.get((usize::from(kind) % ENCODINGS).wrapping_sub(1)).copied()
    }
}

impl Hub {
    /// Gives a session its place.
    pub(super) fn take_place(&mut self, id: SessionId) {
        let kind = Kinds::of(&self.sessions[id as usize]);
        let place = Place { list: Turn::empty(kind), kind, flags: 0 };
        if self.places.len() <= id as usize {
            self.places.resize(id as usize + 1, place);
        }
        self.places[id as usize] = place;
    }

    /// The session goes.
    pub(super) fn leave_place(&mut self, id: SessionId) {
        let place = &mut self.places[id as usize];
        self.n_conflating -= usize::from(place.conflates());
        // Whoever is on the list of those to be visited is passed over there.
        place.flags = 0;
    }

    /// What concerns routing has changed for a session; its place says so.
    pub(super) fn review(&mut self, id: SessionId) {
        let session = &self.sessions[id as usize];
        let place = &mut self.places[id as usize];
        let conflates = session.has_policy(Policy::Conflate);
        let had = place.conflates();
        self.n_conflating = self.n_conflating + usize::from(conflates) - usize::from(had);
        place.set(CONFLATES, conflates);
        place.set(BEHIND, session.backlog.is_some() || session.phase != Phase::Open);
        place.set(PACED, session.pace.is_some());
        if self.n_conflating == 0 && !self.latest.is_empty() {
            self.latest = super::Latest::default();
            self.latest_max = 0;
        }
    }
}
