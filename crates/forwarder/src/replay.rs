//! A replay as it goes out: batches of the log's messages, made when the edge takes them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::try_unfold;
use tokio::time::{Instant, sleep};
use tonic::Status;
use trestle_messages::v1::{RecordRule, RecordedMessage, ReplayBatch, ReplayRequest, ReplayStart, Ring};
use trestle_recorder::{Log, Message, Replay, RingStarts, Segment};

/// Bytes of the frames in one batch, beyond which it is closed.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// What was sent on the link is in the log at the end of the proxy's turn; a replay waits so long for it at most.
const APPENDED_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(2);

/// Begins a replay of `log`, whose rules are `recorded`.
///
/// # Errors
/// `FAILED_PRECONDITION` if nothing is recorded, or the epoch asked for is not the log's.
pub(crate) async fn begin(
    log: Arc<Log>,
    recorded: &[RecordRule],
    request: ReplayRequest,
) -> Result<impl Stream<Item = Result<ReplayBatch, Status>> + Send + use<>, Status> {
    let ReplayRequest { epoch, after, through } = request;
    if recorded.is_empty() {
        return Err(Status::failed_precondition("nothing is recorded here"));
    }
    until_appended(&log, through).await;
    let replay = log.replay(after).ok_or_else(|| Status::failed_precondition("nothing is recorded here"))?;
    let position = replay.position();
    if epoch != position.epoch && (epoch, after) != (0, 0) {
        let reason = format!("the epoch is {}, not {epoch}", position.epoch);
        return Err(Status::failed_precondition(reason));
    }
    let through = if through == 0 { position.offset } else { through.min(position.offset) };
    let start = start(&replay, recorded);
    let sending = Sending { replay, through, segment: None, start: Some(start), sent: false };
    Ok(try_unfold(sending, |mut sending| async move { Ok(sending.next().map(|batch| (batch, sending))) }))
}

async fn until_appended(log: &Log, through: u64) {
    let deadline = Instant::now() + APPENDED_WITHIN;
    let is_there = || log.cursor().position().is_some_and(|position| position.offset >= through);
    while !is_there() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}

fn start(replay: &Replay, recorded: &[RecordRule]) -> ReplayStart {
    let RingStarts { rings, last_values_after } = replay.starts();
    let complete_after =
        |rule: &RecordRule| rings.iter().find(|(prefix, _)| *prefix == rule.prefix).map_or(0, |(_, at)| *at);
    let ring = |rule: &RecordRule| Ring { complete_after: complete_after(rule), rule: Some(rule.clone()) };
    ReplayStart {
        epoch: replay.position().epoch,
        head: replay.position().offset,
        rings: recorded.iter().map(ring).collect(),
        last_values_after: *last_values_after,
    }
}

/// A replay on its way.
struct Sending {
    replay: Replay,
    through: u64,
    /// What is being sent, and which of its messages are left, the last first.
    segment: Option<(Arc<Segment>, Vec<u32>)>,
    start: Option<ReplayStart>,
    /// The last batch is out.
    sent: bool,
}

impl Sending {
    /// The next batch; the last one says where the replay ends, even if it has no message.
    fn next(&mut self) -> Option<ReplayBatch> {
        if self.sent {
            return None;
        }
        let mut batch = ReplayBatch { messages: Vec::new(), through: 0, start: self.start.take() };
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX {
            let Some((segment, left)) = &mut self.segment else {
                let mut indices = Vec::new();
                self.segment = self.replay.read(&mut indices).map(|segment| {
                    indices.reverse();
                    (segment, indices)
                });
                if self.segment.is_none() {
                    return Some(self.last(batch));
                }
                continue;
            };
            let Some(index) = left.pop() else {
                self.segment = None;
                continue;
            };
            let message = segment.message(index as usize);
            let offset = message.position().map_or(0, |position| position.offset);
            if offset > self.through {
                return Some(self.last(batch));
            }
            let message = recorded(&message);
            bytes += message.frames.iter().map(bytes::Bytes::len).sum::<usize>();
            batch.through = offset;
            batch.messages.push(message);
        }
        Some(batch)
    }

    fn last(&mut self, batch: ReplayBatch) -> ReplayBatch {
        self.sent = true;
        ReplayBatch { through: self.through, ..batch }
    }
}

fn recorded(message: &Message<'_>) -> RecordedMessage {
    let frames = message.frames().map(bytes::Bytes::copy_from_slice).collect();
    RecordedMessage { frames, stamp: Some(message.stamp()) }
}
