//! Publications that come by gRPC, on their way to the proxy thread, and the answers on their way back.

use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use trestle_messages::Position;
use trestle_messages::topic::{TOPIC_BYTES_MAX, is_reserved};
use trestle_messages::v1::publish_reply::Outcome;
use trestle_messages::v1::server_message::ErrorCode;
use trestle_messages::v1::{NotPublished, PublishReply, PublishRequest, Published};
use trestle_process::wake::Waker;

use crate::metrics::PublicationMetrics;

/// All frames of a publication together. What waits for the proxy thread is bounded by this and [`QUEUE_MAX`].
const BODY_BYTES_MAX: usize = 1 << 20;
/// Frames behind the topic.
const PARTS_MAX: usize = 64;
const KEY_BYTES_MAX: usize = 64;
/// A request that is somewhat too large is refused; one beyond this ends its call.
pub(crate) const REQUEST_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// Publications that wait for the proxy thread, which takes them each turn. Beyond it callers wait, and are not read.
const QUEUE_MAX: usize = 256;
/// Publications of one call without an answer; beyond it no more of its requests are read.
const UNANSWERED_MAX: usize = 1_024;

/// A publication that may be sent.
pub(crate) struct Publication {
    /// The topic first.
    pub(crate) frames: Vec<Bytes>,
    pub(crate) key: Option<String>,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What became of a publication.
pub(crate) type Answer = Result<Sent, Refused>;

/// It went out, now or before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// `None` where it is not recorded.
    pub(crate) position: Option<Position>,
    /// It was sent before.
    pub(crate) is_repeat: bool,
}

/// It did not go out.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: ErrorCode,
    pub(crate) reason: String,
}

/// What the proxy thread takes.
pub(crate) struct Submissions {
    queue: mpsc::Receiver<Publication>,
    waker: Waker,
}

impl Submissions {
    /// The next one, if there is one.
    pub(crate) fn take(&mut self) -> Option<Publication> {
        self.queue.try_recv().ok()
    }

    /// The thread has not taken all: it is woken again.
    pub(crate) fn come_back(&self) {
        self.waker.wake();
    }

    /// No more are accepted; those that were are to be taken.
    pub(crate) fn close(&mut self) {
        self.queue.close();
    }
}

/// Where publications are handed in.
#[derive(Clone)]
pub(crate) struct Submit {
    queue: mpsc::Sender<Publication>,
    waker: Waker,
    metrics: PublicationMetrics,
    frame_bytes_max: usize,
}

/// The two ends; `waker` wakes the thread that takes.
pub(crate) fn channel(
    waker: Waker,
    metrics: PublicationMetrics,
    frame_bytes_max: ByteSize,
) -> (Submit, Submissions) {
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let frame_bytes_max = usize::try_from(frame_bytes_max.as_u64()).unwrap_or(usize::MAX);
    let submissions = Submissions { queue, waker: waker.clone() };
    (Submit { queue: sender, waker, metrics, frame_bytes_max }, submissions)
}

impl Submit {
    /// Answers `requests` in their order, until they end or the forwarder does.
    pub(crate) fn answers(
        self,
        requests: impl Stream<Item = Result<PublishRequest, Status>> + Send,
    ) -> impl Stream<Item = Result<PublishReply, Status>> + Send {
        let ended = self.queue.clone();
        let ended = async move { ended.closed().await };
        requests
            .take_until(Box::pin(ended))
            .then(move |request| {
                let submit = self.clone();
                async move { submit.submit(request?).await }
            })
            .map(|submitted| async move { submitted?.reply().await })
            .buffered(UNANSWERED_MAX)
    }

    /// Hands it in. One after the other, so that what comes first is sent first.
    async fn submit(&self, request: PublishRequest) -> Result<Submitted, Status> {
        let id = request.id;
        let metrics = self.metrics.clone();
        let (answer, answered) = oneshot::channel();
        match self.check(request) {
            Ok((frames, key)) => {
                let sent = self.queue.send(Publication { frames, key, answer }).await;
                sent.map_err(|_| Status::unavailable("the forwarder ends"))?;
                self.waker.wake();
            }
            Err((code, reason)) => {
                // The other end is held here.
                let _ = answer.send(Err(Refused { code, reason }));
            }
        }
        Ok(Submitted { id, answered, metrics })
    }

    fn check(&self, request: PublishRequest) -> Result<(Vec<Bytes>, Option<String>), (ErrorCode, String)> {
        let PublishRequest { topic, body, key, .. } = request;
        let frames = || body.iter().chain([&topic]);
        let bytes: usize = frames().map(Bytes::len).sum();
        let longest = frames().map(Bytes::len).max().unwrap_or(0);
        // Without a body the topic is all of the message, and begins with what it is subscribed by.
        let is_whole = body.is_empty();
        let wrong = if topic.len() > TOPIC_BYTES_MAX && !is_whole {
            (
                ErrorCode::InvalidTopic,
                format!("a topic of {} bytes, at most {TOPIC_BYTES_MAX} are allowed", topic.len()),
            )
        } else if is_reserved(&topic) {
            (ErrorCode::InvalidTopic, "topics that begin with \\0trestle are reserved".to_owned())
        } else if body.len() > PARTS_MAX {
            (
                ErrorCode::TooLarge,
                format!("{} frames behind the topic, at most {PARTS_MAX} are allowed", body.len()),
            )
        } else if bytes > BODY_BYTES_MAX || longest > self.frame_bytes_max {
            let (frame, all) = (self.frame_bytes_max, BODY_BYTES_MAX);
            let reason = format!("{bytes} bytes, at most {all} and {frame} in a frame are allowed");
            (ErrorCode::TooLarge, reason)
        } else if key.as_ref().is_some_and(|key| !(1..=KEY_BYTES_MAX).contains(&key.len())) {
            (ErrorCode::BadRequest, format!("a key has 1 to {KEY_BYTES_MAX} bytes"))
        } else {
            return Ok(([topic].into_iter().chain(body).collect(), key));
        };
        Err(wrong)
    }
}

/// A publication that was handed in or refused.
struct Submitted {
    id: u64,
    answered: oneshot::Receiver<Answer>,
    metrics: PublicationMetrics,
}

impl Submitted {
    /// # Errors
    /// If the proxy thread ended without an answer: whether the publication was sent is not known.
    async fn reply(self) -> Result<PublishReply, Status> {
        let answer = self.answered.await.map_err(|_| Status::unavailable("the forwarder ends"))?;
        let counter = match &answer {
            Ok(Sent { is_repeat: false, .. }) => &self.metrics.published,
            Ok(Sent { is_repeat: true, .. }) => &self.metrics.repeated,
            Err(_) => &self.metrics.refused,
        };
        counter.inc();
        let outcome = match answer {
            Ok(Sent { position, is_repeat: repeated }) => {
                let Position { epoch, offset } = position.unwrap_or(Position { epoch: 0, offset: 0 });
                Outcome::Published(Published { epoch, offset, repeated })
            }
            Err(Refused { code, reason }) => Outcome::Refused(NotPublished { code: code.into(), reason }),
        };
        Ok(PublishReply { id: self.id, outcome: Some(outcome) })
    }
}
