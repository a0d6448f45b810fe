//! A visit to one client's socket: everything at hand in as few writes as it takes.

use std::io::{self, ErrorKind, IoSlice};

use smallvec::SmallVec;
use trestle_messages::Position;

use super::{Hub, SessionId};
use crate::backlog::Backlog;
use crate::session::Phase;
use crate::turn::{FrameId, List, Pieces};

/// Slices in one `writev(2)`. The kernel takes 1,024; beyond some dozens nothing is gained.
pub(super) const SLICES_MAX: usize = 128;

/// How a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Nothing waits.
    Drained,
    /// The socket takes no more: visit again when it is writable.
    Blocked,
    /// More waits, and others have their turn first: visit again soon.
    Again,
    /// The connection is to be dropped now.
    Ended,
}

impl Hub {
    /// Writes what waits for `id` by `write`, which is `writev(2)`: it takes slices and says how many bytes went out, or
    /// `WouldBlock`. A write that took less than it was given blocks, too. What does not go out now waits, in the log or in
    /// the client's backlog, within its bound.
    pub fn visit(
        &mut self,
        id: SessionId,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Visit {
        let went = if self.places[id as usize].is_behind() {
            if self.sessions[id as usize].phase == Phase::Ended {
                return Visit::Ended;
            }
            self.feed(id, &mut write)
        } else {
            self.visit_staged(id, &mut write)
        };
        match went {
            Ok(_) if self.is_ended(id) => Visit::Ended,
            Ok(visit) => visit,
            Err(_) => {
                self.cut(id);
                Visit::Ended
            }
        }
    }

    /// The common visit: a session that keeps up gets what this turn has for it.
    fn visit_staged(
        &mut self,
        id: SessionId,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Visit> {
        let Self { places, turn, counts, .. } = self;
        let list = places[id as usize].list;
        if turn.is_empty(list) {
            return Ok(Visit::Drained);
        }
        let (written, wanted) = match turn.pieces(list) {
            Pieces::One(bytes) => (write_all(&[IoSlice::new(bytes)], write)?, bytes.len()),
            Pieces::Each(frames) => {
                let slices: SmallVec<[IoSlice<'_>; 64]> =
                    frames.iter().map(|frame| IoSlice::new(turn.bytes(*frame))).collect();
                (write_all(&slices, write)?, slices.iter().map(|slice| slice.len()).sum())
            }
        };
        counts.bytes_out += written as u64;
        if written == wanted {
            counts.deliveries += turn.len(list);
            self.unstage(id);
            return Ok(Visit::Drained);
        }
        self.fall_behind(id, written);
        self.backlog(id).is_blocked = true;
        self.bound(id);
        Ok(Visit::Blocked)
    }

    /// From here on the session is fed from the log: what is staged for it, of which `written` bytes went out, becomes its
    /// backlog. Nothing changes for one that has a backlog.
    pub(super) fn fall_behind(&mut self, id: SessionId, written: usize) {
        if self.sessions[id as usize].backlog.is_some() {
            return;
        }
        let bound_bytes = self.limits.outbox_bytes_max;
        let mut backlog = Box::new(Backlog::new(self.routed, self.position, bound_bytes));
        let list = self.unstage(id);
        if !self.turn.is_empty(list) {
            self.keep_unwritten(id, list, written, &mut backlog);
        }
        self.sessions[id as usize].backlog = Some(backlog);
        self.review(id);
    }

    fn keep_unwritten(&mut self, id: SessionId, list: List, mut written: usize, backlog: &mut Backlog) {
        let frames = self.turn.frames(list);
        let is_recorded = |frame: &FrameId| self.turn.message(*frame).position().is_some();
        let mut rest = frames.iter();
        while let Some(frame) = rest.as_slice().first().filter(|_| written > 0) {
            let bytes = self.turn.bytes(*frame);
            if written < bytes.len() {
                backlog.begun = Some((bytes.clone(), written, true));
                backlog.position = self.turn.message(*frame).position().or(backlog.position);
                rest.next();
                break;
            }
            written -= bytes.len();
            self.counts.deliveries += 1;
            rest.next();
        }
        let first = rest.as_slice().iter().find(|frame| is_recorded(frame));
        if let Some(message) = first.map(|frame| self.turn.message(*frame)) {
            backlog.next = message.seq();
            // Whatever came before it and matches was sent.
            backlog.position = message.position().map(|at| Position { offset: at.offset - 1, ..at });
        }
        if backlog.begun.is_none() {
            backlog.front_bytes = rest.as_slice().first().map_or(0, |frame| self.turn.bytes(*frame).len());
        }
        for frame in rest {
            let bytes = self.turn.bytes(*frame);
            if is_recorded(frame) {
                backlog.lag_bytes += bytes.len();
                backlog.lag_events += 1;
            } else {
                backlog.push(self.waiting_event(id, &self.turn.message(*frame), bytes.clone()));
            }
        }
    }
}

/// Writes until all went out or the socket takes no more; returns how much did.
fn write_all(
    slices: &[IoSlice<'_>],
    write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut total = 0;
    for chunk in slices.chunks(SLICES_MAX) {
        let wanted: usize = chunk.iter().map(|slice| slice.len()).sum();
        let written = write_once(chunk, write)?;
        total += written;
        if written < wanted {
            break;
        }
    }
    Ok(total)
}

/// One write, again if a signal interrupted it; 0 where the socket would block.
pub(super) fn write_once(
    slices: &[IoSlice<'_>],
    write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        return match write(slices) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(n) => Ok(n),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}
