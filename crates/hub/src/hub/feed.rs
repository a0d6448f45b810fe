//! A session that is behind is fed from the log, and from what waits for it outside.

use std::io::{self, IoSlice};

use smallvec::SmallVec;

use super::gather::{Item, Items};
use super::visit::write_once;
use super::{Hub, SessionId, Visit};
use crate::backlog::{Backlog, Loss, Waiting, What};
use crate::session::Phase;

/// Bytes that one client is given before others have their turn.
const FEED_BYTES_MAX: usize = 1 << 20;
/// Segments of the log that are looked at for one client before others have their turn.
const FEED_SEGMENTS_MAX: usize = 256;

impl Hub {
    /// Writes what a session that is behind has before it, until the socket takes no more or others have their turn. One
    /// that has caught up loses its backlog and goes on with the others.
    pub(super) fn feed(
        &mut self,
        id: SessionId,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Visit> {
        let (mut bytes_left, mut segments_left) = (FEED_BYTES_MAX, FEED_SEGMENTS_MAX);
        loop {
            if !self.is_on_the_log(id) {
                return Ok(Visit::Again);
            }
            let Some(mut backlog) = self.sessions[id as usize].backlog.take() else {
                return Ok(Visit::Drained);
            };
            let (next, lost, n_shed) = (backlog.next, backlog.lost, backlog.n_shed);
            let items = self.gather(id, &mut backlog, &mut segments_left);
            if self.missing_before(id, &backlog, next).is_some() {
                // The log dropped it while it was read.
                give_back(&mut backlog, items);
                (backlog.next, backlog.lost, backlog.n_shed) = (next, lost, n_shed);
                self.sessions[id as usize].backlog = Some(backlog);
                continue;
            }
            if items.is_empty() && backlog.begun.is_none() {
                if backlog.next < self.routed {
                    self.sessions[id as usize].backlog = Some(backlog);
                    return Ok(Visit::Again);
                }
                self.catch_up(id);
                return Ok(Visit::Drained);
            }
            let wrote = self.write_items(&mut backlog, items, write);
            backlog.is_blocked = matches!(wrote, Ok(None));
            self.sessions[id as usize].backlog = Some(backlog);
            let Some(written) = wrote? else {
                self.bound(id);
                return Ok(Visit::Blocked);
            };
            bytes_left = bytes_left.saturating_sub(written);
            if bytes_left == 0 || segments_left == 0 {
                return Ok(Visit::Again);
            }
        }
    }

    /// It has what everybody has.
    fn catch_up(&mut self, id: SessionId) {
        self.review(id);
        self.schedule(id);
    }

    /// Writes the frame that is begun and the items. `None` if the socket took no more; then what it did not take is back
    /// in its place.
    fn write_items(
        &mut self,
        backlog: &mut Backlog,
        items: Items,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        let begun = backlog.begun.take();
        let rest = begun.as_ref().map(|(frame, written, _)| &frame[*written..]);
        let slices: SmallVec<[IoSlice<'_>; 17]> =
            rest.into_iter().chain(items.iter().map(|item| &item.frame()[..])).map(IoSlice::new).collect();
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = write_once(&slices, write)?;
        drop(slices);
        self.counts.bytes_out += written as u64;
        let mut left = written;
        if let Some((frame, before, is_event)) = begun {
            let rest = frame.len() - before;
            if left < rest {
                backlog.begun = Some((frame, before + left, is_event));
                give_back(backlog, items);
                return Ok(None);
            }
            left -= rest;
            self.counts.deliveries += u64::from(is_event);
        }
        let mut items = items.into_iter();
        while left > 0 {
            let item = items.next().expect("no more is written than was given");
            let (frame, is_event) = (item.frame().clone(), item.is_event());
            self.pass_item(backlog, item);
            if left < frame.len() {
                backlog.begun = Some((frame, left, is_event));
                break;
            }
            left -= frame.len();
            self.counts.deliveries += u64::from(is_event);
        }
        backlog.front_bytes = match items.as_slice().first() {
            Some(item) if backlog.begun.is_none() && item.is_event() => item.frame().len(),
            _ => 0,
        };
        give_back(backlog, items);
        Ok((written == wanted).then_some(written))
    }

    /// An item is on its way: the place in the log moves behind it.
    fn pass_item(&mut self, backlog: &mut Backlog, item: Item) {
        let (event_bytes, step) = match item {
            Item::Logged { event_bytes, step, .. } => (event_bytes, step),
            Item::Waiting(Waiting { what, .. }) => {
                if let What::Missing { cause, .. } = what {
                    self.counts.told_lost[cause as usize] += 1;
                }
                return pass_waiting(backlog, &what);
            }
        };
        for replay in backlog.replays.iter_mut().filter(|replay| step.replays.contains(&replay.number)) {
            replay.replayed += 1;
        }
        backlog.next = backlog.next.max(step.next);
        backlog.position = step.position.or(backlog.position);
        self.counts.conflated += step.n_replaced;
        if let Some(cause) = step.told {
            self.counts.told_lost[cause as usize] += 1;
        }
        backlog.lag_events = backlog.lag_events.saturating_sub(step.n_replaced);
        match event_bytes {
            Some(bytes) => {
                backlog.lag_bytes = backlog.lag_bytes.saturating_sub(bytes);
                backlog.lag_events = backlog.lag_events.saturating_sub(1);
            }
            None => {
                backlog.n_shed = backlog.n_shed.saturating_sub(step.n_shed);
                backlog.lost = Loss::default();
            }
        }
    }

    /// Sees to it that the log still has what the session is behind. What it has not the client has lost: it is told, or
    /// closed. Returns whether the session goes on.
    pub(super) fn is_on_the_log(&mut self, id: SessionId) -> bool {
        let Some(backlog) = self.sessions[id as usize].backlog.as_deref() else { return true };
        let Some(oldest) = self.missing_before(id, backlog, backlog.next) else { return true };
        self.fall_off(id, oldest);
        self.sessions[id as usize].phase == Phase::Open
    }

    /// Where the log no longer has all of what a session reads there from message `next` on: from which on it has.
    fn missing_before(&self, id: SessionId, backlog: &Backlog, next: u64) -> Option<u64> {
        if next >= self.log.newest_seq() || !backlog.may_find() {
            return None;
        }
        let session = &self.sessions[id as usize];
        let ended = backlog.ended.iter().flat_map(|ended| &ended.subscriptions);
        let wanted = session.subscriptions.iter().chain(ended);
        let readable = wanted.map(|held| (held.next(next), self.log.readable_from(&held.topic, held.exact)));
        readable.filter(|(next, readable)| next < readable).map(|(_, readable)| readable).max()
    }
}

/// Something that is not in the log is on its way.
fn pass_waiting(backlog: &mut Backlog, what: &What) {
    match what {
        What::Missing { until, .. } => backlog.position = until.or(backlog.position),
        What::CaughtUp { replay, .. } => backlog.replays.retain(|other| other.number != *replay),
        What::Event { .. } | What::Reply => {}
    }
}

fn give_back(backlog: &mut Backlog, items: impl IntoIterator<Item = Item, IntoIter: DoubleEndedIterator>) {
    for item in items.into_iter().rev() {
        if let Item::Waiting(waiting) = item {
            backlog.unpop(waiting);
        }
    }
}
