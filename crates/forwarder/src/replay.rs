//! A replay as it goes out: batches of the log's messages, made when the edge takes them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::time::{Instant, sleep};
use tonic::Status;
use trestle_messages::v1::{RecordRule, ReplayBatch, ReplayRequest};
use trestle_recorder::{Log, ReplayBatches};

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
    let batches = ReplayBatches::new(replay, recorded, through, BATCH_BYTES_MAX);
    Ok(stream::iter(batches.map(Ok)))
}

async fn until_appended(log: &Log, through: u64) {
    let deadline = Instant::now() + APPENDED_WITHIN;
    let is_there = || log.cursor().position().is_some_and(|position| position.offset >= through);
    while !is_there() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}
