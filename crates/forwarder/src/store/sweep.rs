//! What the log no longer keeps leaves the store, too.

use trestle_recorder::{Log, Replay};

use super::database::{Database, DatabaseError};
use super::layout::{Batch, Kept, Sequence};

/// Bytes read and changed at once: so long a batch that comes meanwhile waits, about a millisecond.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Goes through all but the newest batch, from the oldest on, while `go_on`. What is left is, whenever it ends and at
/// whichever batch: from the rings' beginnings on every message, before them last values that were not replaced since. A
/// message goes after those that it replaced or removed, so none of them is ever taken for a last value.
pub(super) fn sweep(
    database: &Database,
    log: &Log,
    epoch: u64,
    piece_bytes: usize,
    go_on: impl Fn() -> bool,
) -> Result<(), DatabaseError> {
    // The newest batch may not be in the log yet; and it is where the head is read.
    let end = database.last_key()?;
    let Some(replay) = log.replay(0) else { return Ok(()) };
    let mut sequence = Some(Sequence::new(epoch, replay.starts().clone()));
    let needed = offsets(replay);
    let mut from = 0;
    while from < end && go_on() {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        let mut next = end;
        database.read(from..end, |key, messages| {
            if bytes > piece_bytes {
                next = key;
                return false;
            }
            bytes += cost_bytes(messages);
            changes.extend(change(messages, &needed).map(|batch| (key, batch)));
            true
        })?;
        from = next;
        if !changes.is_empty() {
            database.change(sequence.take().as_ref(), &changes)?;
        }
    }
    Ok(())
}

fn cost_bytes(messages: &[Kept<'_>]) -> usize {
    messages.iter().flat_map(|message| &message.frames).map(|frame| frame.len() + 4).sum()
}

/// What is needed of a batch; `None` if that is all of it.
fn change(messages: &[Kept<'_>], needed: &[(u64, u64)]) -> Option<Vec<u8>> {
    let is_needed = |message: &&Kept<'_>| {
        let offset = message.stamp.offset;
        let at = needed.partition_point(|(_, last)| *last < offset);
        needed.get(at).is_some_and(|(first, _)| *first <= offset)
    };
    if messages.iter().all(|message| is_needed(&message)) {
        return None;
    }
    let mut batch = Batch::default();
    for message in messages.iter().filter(is_needed) {
        batch.push(message.frames.iter().copied(), &message.stamp);
    }
    Some(batch.bytes().to_vec())
}

/// The offsets of the messages of `replay`, as first and last of those next to each other.
fn offsets(mut replay: Replay) -> Vec<(u64, u64)> {
    let (mut ranges, mut indices) = (Vec::<(u64, u64)>::new(), Vec::new());
    while let Some(segment) = replay.read(&mut indices) {
        let messages = indices.drain(..).map(|index| segment.message(index as usize));
        for offset in messages.filter_map(|message| message.position()).map(|at| at.offset) {
            match ranges.last_mut() {
                Some((_, last)) if offset == *last + 1 => *last = offset,
                _ => ranges.push((offset, offset)),
            }
        }
    }
    ranges
}
