//! A replay as it goes out: batches of the log's messages, made when the edge takes them, or ended when it takes none.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use trestle_messages::v1::{RecordRule, ReplayBatch, ReplayRequest};
use trestle_recorder::{Log, ReplayBatches};

/// Bytes of the frames in one batch, beyond which it is closed.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// What was sent on the link is in the log at the end of the proxy's turn; a replay waits so long for it at most.
const APPENDED_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(2);

/// What is held for an edge that takes nothing: the segments that its replay has not come by, which the log may have let go
/// since.
#[derive(Clone)]
pub(crate) struct Patience {
    /// `--replay-timeout`.
    pub(crate) take_max: Duration,
    /// Replays that it ended.
    pub(crate) ended: Counter,
}

/// Begins a replay of `log`, whose rules are `recorded`.
///
/// # Errors
/// `FAILED_PRECONDITION` if nothing is recorded, or the epoch asked for is not the log's.
pub(crate) async fn begin(
    log: Arc<Log>,
    recorded: &[RecordRule],
    request: ReplayRequest,
    patience: Patience,
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
    Ok(hand_on(ReplayBatches::new(replay, recorded, through, BATCH_BYTES_MAX), patience))
}

/// The batches, each made while the one before is on its way. A stream that nobody reads is never asked for the next, so they
/// belong to a task of their own, which lets go of them in time.
fn hand_on(
    batches: ReplayBatches,
    patience: Patience,
) -> impl Stream<Item = Result<ReplayBatch, Status>> + Send + use<> {
    let (give, taken) = mpsc::channel(1);
    let (end, ended) = oneshot::channel();
    tokio::spawn(async move {
        for batch in batches {
            match timeout(patience.take_max, give.reserve()).await {
                Ok(Ok(place)) => place.send(batch),
                // The call has ended.
                Ok(Err(_)) => return,
                Err(_) => {
                    let took_none_for = patience.take_max;
                    tracing::warn!(
                        ?took_none_for,
                        "a replay is ended: whoever asked for it takes no more of it"
                    );
                    patience.ended.inc();
                    // It may have gone just now.
                    let _ = end.send(took_none_for);
                    return;
                }
            }
        }
    });
    let batches = stream::unfold(taken, |mut taken| async { Some((Ok(taken.recv().await?), taken)) });
    let end = stream::once(ended).filter_map(|ended| async {
        let reason = format!("no batch was taken for {:?}; ask again", ended.ok()?);
        Some(Err(Status::aborted(reason)))
    });
    batches.chain(end)
}

async fn until_appended(log: &Log, through: u64) {
    let deadline = Instant::now() + APPENDED_WITHIN;
    let is_there = || log.cursor().position().is_some_and(|position| position.offset >= through);
    while !is_there() && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}
