//! The forwarder's `Recorder`, asked for what is missing here and where the sequence stands; beside `control` and `publish/forwarder` the only room that knows tonic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use trestle_messages::Position;
use trestle_messages::v1::recorder_client::RecorderClient;
use trestle_messages::v1::{RecorderStatusRequest, ReplayRequest};
use trestle_process::grpc::{Access, Presenter};
use trestle_process::seldom::Seldom;
use trestle_recorder::Ask;
use warp::http::Uri;

use crate::ingest::{Answer, Answers, Replays};

/// A recorder that does not answer within this is tried again.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A connection that carries nothing is probed this often, and given up as long after.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// After a failure it is tried again so much later …
pub(crate) const BACK_OFF_MIN: Duration = Duration::from_millis(50);
/// … and twice as much after each further one, up to this: an edge that waits for its forwarder is ready soon after it.
pub(crate) const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// Where the sequence stands is asked for this long; a client waits for it.
const STATUS_MAX: Duration = Duration::from_secs(2);

/// What is needed to reach it.
#[derive(Debug)]
pub(crate) struct Options {
    /// `--recorder`.
    pub(crate) url: Uri,
    /// What it is shown.
    pub(crate) access: Access,
    /// All frames of a message together.
    pub(crate) message_bytes_max: usize,
}

/// A batch has a message at least, and what it holds beside the frames.
const BATCH_OVERHEAD_BYTES: usize = 4 << 20;

pub(crate) type Client = RecorderClient<InterceptedService<Channel, Presenter>>;

/// Answers `replays` until their other end is gone.
pub(crate) async fn serve(options: Arc<Options>, replays: Replays) {
    let Replays { mut asks, answers } = replays;
    let connection = Connection { options, client: None };
    let mut recorder = Recorder { connection, back_off: BACK_OFF_MIN, failures: Seldom::default() };
    let mut next = asks.recv().await;
    while let Some(ask) = next {
        next = tokio::select! {
            // It makes the one under way worthless, which ends with its stream.
            newer = asks.recv() => newer,
            () = recorder.answer(ask, &answers) => asks.recv().await,
        };
    }
}

/// What shards want to know: where the sequence stands.
#[derive(Debug, Clone)]
pub(crate) struct Questions(mpsc::UnboundedSender<oneshot::Sender<Option<Position>>>);

impl Questions {
    /// Where the recorder stands; `None` if it could not be asked within two seconds.
    pub(crate) async fn position(&self) -> Option<Position> {
        let (answer, answered) = oneshot::channel();
        // Nobody answers during shutdown.
        self.0.send(answer).ok()?;
        answered.await.ok().flatten()
    }
}

/// The questions, and the task that answers them until the last asker is gone.
pub(crate) fn questions(options: Arc<Options>) -> (Questions, impl Future<Output = ()> + Send) {
    let (ask, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<_>>();
    let mut connection = Connection { options, client: None };
    let answer = async move {
        let mut askers = Vec::new();
        // All who ask before a call have its answer.
        while asked.recv_many(&mut askers, usize::MAX).await > 0 {
            let position = timeout(STATUS_MAX, connection.position()).await;
            let position = position.ok().and_then(Result::ok);
            if position.is_none() {
                connection.client = None;
            }
            for asker in askers.drain(..) {
                // Its shard may have ended.
                let _ = asker.send(position);
            }
        }
    };
    (Questions(ask), answer)
}

struct Recorder {
    connection: Connection,
    back_off: Duration,
    failures: Seldom,
}

impl Recorder {
    async fn answer(&mut self, ask: Ask, answers: &Answers) {
        let answer = match self.replay(ask, answers).await {
            Ok(()) => {
                self.back_off = BACK_OFF_MIN;
                Answer::End
            }
            // The forwarder has begun anew, or records nothing: its next beat says so.
            Err(status) if status.code() == Code::FailedPrecondition => {
                tracing::debug!(
                    "--recorder {}: no replay: {}",
                    self.connection.options.url,
                    status.message()
                );
                Answer::Failed
            }
            Err(status) => {
                self.connection.client = None;
                self.say(&status);
                tokio::time::sleep(self.back_off).await;
                self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
                Answer::Failed
            }
        };
        answers.send(ask, answer).await;
    }

    async fn replay(&mut self, ask: Ask, answers: &Answers) -> Result<(), Status> {
        let Ask { epoch, after, through, .. } = ask;
        let client = self.connection.client().await?;
        let mut batches = client.replay(ReplayRequest { epoch, after, through }).await?.into_inner();
        while let Some(batch) = batches.message().await? {
            if !answers.send(ask, Answer::Batch(batch)).await {
                break;
            }
        }
        Ok(())
    }

    fn say(&mut self, status: &Status) {
        if let Some(unsaid) = self.failures.say(Instant::now()) {
            let (url, reason) = (&self.connection.options.url, status.message());
            tracing::warn!(unsaid, "--recorder {url}: no replay: {:?}: {reason}; trying on", status.code());
        }
    }
}

struct Connection {
    options: Arc<Options>,
    /// Made anew after each failure, so that the name is resolved anew, too.
    client: Option<Client>,
}

impl Connection {
    async fn position(&mut self) -> Result<Position, Status> {
        let status = self.client().await?.status(RecorderStatusRequest {}).await?.into_inner();
        Ok(Position { epoch: status.epoch, offset: status.head })
    }

    async fn client(&mut self) -> Result<&mut Client, Status> {
        let client = match self.client.take() {
            Some(client) => client,
            None => connect(&self.options).await?,
        };
        Ok(self.client.insert(client))
    }
}

/// A client on a connection of its own.
///
/// # Errors
/// Why the forwarder is not reached.
pub(crate) async fn connect(options: &Options) -> Result<Client, Status> {
    let Options { url, access, message_bytes_max } = options;
    let endpoint = Endpoint::from(url.clone())
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let channel = endpoint.connect().await.map_err(|error| Status::from_error(error.into()))?;
    let client = RecorderClient::with_interceptor(channel, access.presenter());
    Ok(client.max_decoding_message_size(message_bytes_max.saturating_add(BATCH_OVERHEAD_BYTES)))
}
