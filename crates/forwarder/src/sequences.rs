//! What publishers sent and the forwarder never got, by their own counters.

use std::time::{Duration, Instant};

use trestle_recorder::Sequences;

/// Losses are said this often at most.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Follows the counters of recorded topics, message by message.
#[derive(Debug)]
pub(crate) struct Counters {
    sequences: Sequences,
    /// Of the message on its way: its input, if its counter is followed, and its topic.
    input: Option<usize>,
    topic: Vec<u8>,
    unsaid: u64,
    said: Option<Instant>,
}

impl Counters {
    /// Follows topics that begin with one of `prefixes`.
    pub(crate) fn new(prefixes: Vec<Vec<u8>>) -> Self {
        Self { sequences: Sequences::new(prefixes), input: None, topic: Vec::new(), unsaid: 0, said: None }
    }

    /// A message of an input begins. What is not recorded is fetched on demand: there a counter that leaps may only mean that
    /// nobody listened.
    pub(crate) fn begin(&mut self, input: usize, topic: &[u8], is_recorded: bool) {
        self.input = (is_recorded && self.sequences.follows(topic)).then_some(input);
        if self.input.is_some() {
            self.topic.clear();
            self.topic.extend_from_slice(topic);
        }
    }

    /// Its last frame; returns how many messages before it are missing.
    pub(crate) fn end(&mut self, last_frame: &[u8]) -> u64 {
        let Some(input) = self.input.take() else { return 0 };
        let missing = self.sequences.see(input, &self.topic, last_frame).into();
        self.unsaid += missing;
        missing
    }

    /// Says what is missing, now and then.
    pub(crate) fn say(&mut self, now: Instant) {
        if self.unsaid > 0 && self.said.is_none_or(|said| now >= said + SAY_EVERY) {
            tracing::warn!(
                missing = self.unsaid,
                "--sequence: a publisher's counter leaps: messages were lost before they came here"
            );
            (self.unsaid, self.said) = (0, Some(now));
        }
    }
}
