//! What is on its way, within its bounds, and the one answer that each gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use trestle_hub::{ErrorCode, Unpublished};

use super::Outcome;
use crate::tally::Labelled;

/// Publications of the whole edge without an answer. 10,000: a second at a rate that one forwarder takes. Beyond it:
/// `unavailable`.
const WAITING_MAX: usize = 10_000;
/// The same in bytes.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// All publications without an answer, counted at each, which is seldom compared with deliveries.
#[derive(Debug, Default)]
pub(super) struct OnTheWay {
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    pub(super) outcomes: Arc<Outcomes>,
}

impl OnTheWay {
    /// Whether another may go, which is counted already.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) <= WAITING_MAX
            && self.waiting_bytes.load(Ordering::Relaxed) <= WAITING_BYTES_MAX
    }
}

/// How many publications ended how. Threads of shards and the one that sends all count.
#[derive(Debug)]
pub(crate) struct Outcomes(Labelled<11>);

impl Default for Outcomes {
    fn default() -> Self {
        Self(Labelled::new([
            Self::PUBLISHED,
            ErrorCode::Unauthorized.as_str(),
            ErrorCode::TokenExpired.as_str(),
            ErrorCode::Forbidden.as_str(),
            ErrorCode::Unavailable.as_str(),
            ErrorCode::Unconfirmed.as_str(),
            ErrorCode::RateLimited.as_str(),
            ErrorCode::InvalidTopic.as_str(),
            ErrorCode::TooLarge.as_str(),
            ErrorCode::BadRequest.as_str(),
            ErrorCode::Internal.as_str(),
        ]))
    }
}

impl Outcomes {
    const PUBLISHED: &str = "published";

    pub(super) fn count(&self, outcome: &Outcome) {
        self.0.count(outcome.as_ref().map_or_else(|error| error.code.as_str(), |_| Self::PUBLISHED));
    }

    /// Each outcome's name, and how many there were.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.each()
    }
}

/// Whoever waits for the outcome. Dropped, it says that there is no answer.
pub(super) struct Answer {
    give: Option<Box<dyn FnOnce(Outcome) + Send>>,
    bytes: usize,
    on_the_way: Arc<OnTheWay>,
}

impl Answer {
    pub(super) fn new(
        on_the_way: Arc<OnTheWay>,
        bytes: usize,
        give: impl FnOnce(Outcome) + Send + 'static,
    ) -> Self {
        on_the_way.waiting.fetch_add(1, Ordering::Relaxed);
        on_the_way.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { give: Some(Box::new(give)), bytes, on_the_way }
    }

    pub(super) fn give(mut self, outcome: Outcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Some(give) = self.give.take() {
            self.on_the_way.waiting.fetch_sub(1, Ordering::Relaxed);
            self.on_the_way.waiting_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            self.on_the_way.outcomes.count(&outcome);
            give(outcome);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let reason = "the link to the forwarder broke: it may have been published or not";
        self.settle(Err(Unpublished::new(ErrorCode::Unconfirmed, reason)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn each_gets_one_answer_and_leaves_its_room() {
        let (on_the_way, (tell, told)) = (Arc::<OnTheWay>::default(), mpsc::channel());
        let answer = |bytes| {
            let tell = tell.clone();
            Answer::new(Arc::clone(&on_the_way), bytes, move |outcome| tell.send(outcome).unwrap())
        };
        answer(1).give(Ok(None));
        assert_eq!(told.recv().unwrap(), Ok(None));
        drop(answer(1));
        assert_eq!(told.recv().unwrap().unwrap_err().code, ErrorCode::Unconfirmed);
        let large = answer(WAITING_BYTES_MAX + 1);
        assert!(!on_the_way.has_room());
        large.give(Err(Unpublished::new(ErrorCode::Unavailable, "")));
        let many: Vec<_> = (0..WAITING_MAX).map(|_| answer(1)).collect();
        assert!(on_the_way.has_room());
        let one_more = answer(1);
        assert!(!on_the_way.has_room());
        drop((many, one_more));
        assert!(on_the_way.has_room());
        let counts: Vec<_> = on_the_way.outcomes.each().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counts, [("published", 1), ("unavailable", 1), ("unconfirmed", 2 + WAITING_MAX as u64)]);
    }
}
