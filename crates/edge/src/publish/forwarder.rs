//! Publications handed to the forwarder, over a call that stays open; it knows tonic, as `recorder` does.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::poll_fn;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};
use tonic::{Status, Streaming};
use trestle_hub::{ErrorCode, Unpublished};
use trestle_messages::Position;
use trestle_messages::v1::publish_reply::Outcome as Reply;
use trestle_messages::v1::server_message::ErrorCode as Code;
use trestle_messages::v1::{NotPublished, PublishReply, PublishRequest, Published};
use trestle_process::seldom::Seldom;

use super::answer::Answer;
use super::{Job, Jobs, Outcome};
use crate::recorder::{self, BACK_OFF_MAX, BACK_OFF_MIN, Options};

/// A forwarder that does not take a call within this is tried again.
const CALL_MAX: Duration = Duration::from_secs(2);
/// A forwarder that does not answer a publication for so long is given up: nobody knows what it did.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Hands over until the other end of `jobs` is gone. While there is no forwarder each is answered with `unavailable`.
pub(super) async fn serve(options: Arc<Options>, mut jobs: Jobs) {
    let (mut back_off, mut failures) = (BACK_OFF_MIN, Seldom::default());
    loop {
        let Some(called) = refusing(&mut jobs, Call::begin(&options)).await else { return };
        let failed = match called {
            Ok(mut call) => {
                back_off = BACK_OFF_MIN;
                match call.run(&mut jobs).await {
                    Ok(()) => return,
                    Err(status) => status,
                }
            }
            Err(status) => status,
        };
        if let Some(unsaid) = failures.say(Instant::now()) {
            let (url, reason) = (&options.url, failed.message());
            tracing::warn!(
                unsaid,
                "--recorder {url}: takes no publications: {:?}: {reason}; trying on",
                failed.code()
            );
        }
        if refusing(&mut jobs, sleep(back_off)).await.is_none() {
            return;
        }
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Waits for `done`; what comes meanwhile is refused. `None` if nothing can come any more.
async fn refusing<T>(jobs: &mut Jobs, done: impl Future<Output = T>) -> Option<T> {
    let mut done = pin!(done);
    loop {
        tokio::select! {
            done = &mut done => return Some(done),
            job = jobs.recv() => {
                let refused = Unpublished::new(ErrorCode::Unavailable, "the forwarder is away");
                job?.answer.give(Err(refused));
            }
        }
    }
}

/// An open call.
struct Call {
    requests: mpsc::UnboundedSender<PublishRequest>,
    replies: Streaming<PublishReply>,
    /// In the order of the requests, which is that of the replies: id, when it went, who waits.
    unanswered: VecDeque<(u64, Instant, Answer)>,
    next_id: u64,
}

impl Call {
    async fn begin(options: &Options) -> Result<Self, Status> {
        let (requests, mut sent) = mpsc::unbounded_channel();
        let mut client = recorder::connect(options).await?;
        let replies =
            timeout(CALL_MAX, client.publish(poll_fn(move |context| sent.poll_recv(context)))).await;
        let replies = replies.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner();
        Ok(Self { requests, replies, unanswered: VecDeque::new(), next_id: 0 })
    }

    /// Until nothing can come any more.
    ///
    /// # Errors
    /// Why the call ended. What is dropped with it unanswered is `unconfirmed`.
    async fn run(&mut self, jobs: &mut Jobs) -> Result<(), Status> {
        loop {
            let overdue = self.unanswered.front().map_or_else(Instant::now, |(_, at, _)| *at) + ANSWER_MAX;
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => self.send(job),
                    None => return Ok(()),
                },
                reply = self.replies.message() => match reply? {
                    Some(reply) => self.take(reply)?,
                    None => return Err(Status::unavailable("the forwarder has ended the call")),
                },
                () = sleep_until(overdue.into()), if !self.unanswered.is_empty() => {
                    return Err(Status::deadline_exceeded("a publication has no answer"));
                }
            }
        }
    }

    fn send(&mut self, Job { publish, answer }: Job) {
        let id = self.next_id;
        self.next_id += 1;
        let body = publish.body.into_iter().map(Into::into).collect();
        // Where the call has ended, so does the stream of replies, and that is the answer.
        let _ =
            self.requests.send(PublishRequest { id, topic: publish.topic.into(), body, key: publish.key });
        self.unanswered.push_back((id, Instant::now(), answer));
    }

    fn take(&mut self, PublishReply { id, outcome }: PublishReply) -> Result<(), Status> {
        match (self.unanswered.pop_front(), outcome) {
            (Some((first, _, answer)), Some(outcome)) if first == id => {
                answer.give(result(outcome));
                Ok(())
            }
            _ => Err(Status::internal("a reply that is not the next publication's")),
        }
    }
}

fn result(reply: Reply) -> Outcome {
    match reply {
        Reply::Published(Published { offset: 0, .. }) => Ok(None),
        Reply::Published(Published { epoch, offset, .. }) => Ok(Some(Position { epoch, offset })),
        Reply::Refused(NotPublished { code, reason }) => {
            let code = match Code::try_from(code) {
                Ok(Code::BadRequest) => ErrorCode::BadRequest,
                Ok(Code::InvalidTopic) => ErrorCode::InvalidTopic,
                Ok(Code::TooLarge) => ErrorCode::TooLarge,
                Ok(Code::RateLimited) => ErrorCode::RateLimited,
                Ok(Code::Unavailable) => ErrorCode::Unavailable,
                _ => ErrorCode::Internal,
            };
            Err(Unpublished::new(code, reason))
        }
    }
}
