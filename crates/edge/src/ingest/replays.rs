//! How the ingest thread asks for replays, and how they come to it.

use tokio::sync::mpsc;
use trestle_messages::v1::ReplayBatch;
use trestle_process::wake::Waker;
use trestle_recorder::Ask;

/// Answers that wait for the ingest thread. A batch is 256 KiB or one message: beyond that the recorder waits.
const ANSWERS_MAX: usize = 4;

/// The ingest thread's end.
#[derive(Debug)]
pub(super) struct Asker {
    // Unbounded, because the thread must not wait; it asks only when the last answer has ended or failed.
    asks: mpsc::UnboundedSender<Ask>,
    answers: mpsc::Receiver<(Ask, Answer)>,
    waker: Waker,
}

/// The end of whoever reaches the recorder.
#[derive(Debug)]
pub(crate) struct Replays {
    /// What is asked; a newer one makes those before it worthless.
    pub(crate) asks: mpsc::UnboundedReceiver<Ask>,
    pub(crate) answers: Answers,
}

/// Where answers go.
#[derive(Debug)]
pub(crate) struct Answers {
    answers: mpsc::Sender<(Ask, Answer)>,
    waker: Waker,
}

/// A part of a replay.
#[derive(Debug)]
pub(crate) enum Answer {
    Batch(ReplayBatch),
    /// All batches have come.
    End,
    /// No more will come.
    Failed,
}

pub(super) fn channel(waker: Waker) -> (Asker, Replays) {
    let (ask, asks) = mpsc::unbounded_channel();
    let (answer, answers) = mpsc::channel(ANSWERS_MAX);
    let asker = Asker { asks: ask, answers, waker: waker.clone() };
    (asker, Replays { asks, answers: Answers { answers: answer, waker } })
}

impl Asker {
    /// Asks; returns at once.
    pub(super) fn ask(&self, ask: Ask) {
        // Nobody listens during shutdown.
        let _ = self.asks.send(ask);
    }

    /// The answers that have come, so many at most that messages do not wait long for them. Whatever is left or comes later
    /// wakes again.
    pub(super) fn take(&mut self) -> Vec<(Ask, Answer)> {
        let answers: Vec<_> = std::iter::from_fn(|| self.answers.try_recv().ok()).take(ANSWERS_MAX).collect();
        if answers.len() == ANSWERS_MAX {
            self.waker.wake();
        }
        answers
    }
}

impl Answers {
    /// Passes on a part of the answer to `ask`, when there is room. False if nobody wants it any more. Cancel safe.
    pub(crate) async fn send(&self, ask: Ask, answer: Answer) -> bool {
        let is_wanted = self.answers.send((ask, answer)).await.is_ok();
        self.waker.wake();
        is_wanted
    }
}
