//! A visit to one client's socket: everything at hand in as few writes as it takes.

use std::io::{self, ErrorKind, IoSlice};

use smallvec::SmallVec;

use super::{Hub, SessionId};
use crate::outbox::Kind;
use crate::protocol::Protocol;
use crate::session::Phase;
use crate::ws::CloseCode;

/// Slices in one `writev(2)`. The kernel takes 1,024; beyond some dozens nothing is gained.
const SLICES_MAX: usize = 128;

/// The slices of one write; on the stack for the usual few.
type Slices<'a> = SmallVec<[IoSlice<'a>; 16]>;

/// How a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Nothing waits.
    Drained,
    /// The socket takes no more: visit again when it is writable.
    Blocked,
    /// The connection is to be dropped now.
    Ended,
}

impl Hub {
    /// Writes what waits for `id` by `write`, which is `writev(2)`: it takes slices and says how many bytes went out, or
    /// `WouldBlock`. What does not go out now waits in the client's outbox, within its bound.
    pub fn visit(
        &mut self,
        id: SessionId,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Visit {
        if self.sessions[id as usize].phase == Phase::Ended {
            return Visit::Ended;
        }
        let went = self
            .write_outbox(id, &mut write)
            .and_then(|drained| if drained { self.write_staged(id, &mut write) } else { Ok(false) });
        match went {
            Ok(true) if self.is_ended(id) => Visit::Ended,
            Ok(true) => Visit::Drained,
            Ok(false) => {
                self.keep_staged(id);
                self.bound_outbox(id);
                Visit::Blocked
            }
            Err(_) => {
                self.cut(id);
                Visit::Ended
            }
        }
    }

    /// Whether all went out.
    fn write_outbox(
        &mut self,
        id: SessionId,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        let outbox = &mut self.sessions[id as usize].outbox;
        while !outbox.is_empty() {
            let slices: Slices<'_> = outbox.slices(SLICES_MAX).collect();
            let written = blocking(write(&slices))?;
            drop(slices);
            let Some(n) = written else { return Ok(false) };
            self.counts.bytes_out += n as u64;
            self.counts.deliveries += outbox.wrote(n);
        }
        Ok(true)
    }

    /// Whether all went out; what did not is in the outbox or still staged.
    fn write_staged(
        &mut self,
        id: SessionId,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        let Self { sessions, turn, counts, .. } = self;
        let session = &mut sessions[id as usize];
        let staged = std::mem::take(&mut session.staged);
        let mut frames = turn.frames(staged);
        let mut done = 0;
        loop {
            let slices: Slices<'_> =
                frames.by_ref().take(SLICES_MAX).map(|frame| IoSlice::new(frame)).collect();
            if slices.is_empty() {
                return Ok(true);
            }
            let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
            let written = blocking(write(&slices))?.unwrap_or(0);
            counts.bytes_out += written as u64;
            if written < wanted {
                let mut skip = written;
                for frame in turn.frames(staged).skip(done) {
                    if skip >= frame.len() {
                        skip -= frame.len();
                        counts.deliveries += 1;
                    } else {
                        session.outbox.push_partial(frame.clone(), Kind::Event, std::mem::take(&mut skip));
                    }
                }
                drop(slices);
                break;
            }
            done += slices.len();
            counts.deliveries += slices.len() as u64;
        }
        drop(frames);
        // Once more through the outbox: only `WouldBlock` arms the readiness that the next visit waits for.
        self.write_outbox(id, write)
    }

    /// What is still staged moves to the outbox: the turn ends, or something comes behind it.
    pub(super) fn keep_staged(&mut self, id: SessionId) {
        let Self { sessions, turn, .. } = self;
        let session = &mut sessions[id as usize];
        let staged = std::mem::take(&mut session.staged);
        if staged.is_empty() {
            return;
        }
        turn.frames(staged).for_each(|frame| session.outbox.push(frame.clone(), Kind::Event));
    }

    /// Holds a slow client to its bound.
    fn bound_outbox(&mut self, id: SessionId) {
        let bytes_max = self.limits.outbox_bytes_max;
        let session = &mut self.sessions[id as usize];
        if session.outbox.lag_bytes() <= bytes_max || session.phase != Phase::Open {
            return;
        }
        if session.protocol == Protocol::RustWebsocket {
            // It cannot be told; whole messages go, the newest stay.
            self.counts.dropped_slow += session.outbox.drop_oldest_events(bytes_max);
        }
        if session.outbox.lag_bytes() > bytes_max {
            // Replies and heartbeats go with the messages: behind a gap, a position would tell of what never came.
            session.outbox.drop_all();
            self.counts.closed_slow += 1;
            self.begin_close(id, CloseCode::SlowConsumer);
        }
    }
}

/// `None` where the socket would block.
fn blocking(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        Ok(n) => Ok(Some(n)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Some(0)),
        Err(error) => Err(error),
    }
}
