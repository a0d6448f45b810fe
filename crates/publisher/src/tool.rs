//! The tool: publishes on one topic what it is given, and ends.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Instant;

use anyhow::Context as _;
use tracing::info;
use trestle_messages::EVENT_MARKER;
use trestle_process::exit::Exit;

use crate::config::{Payloads, Tool};
use crate::event::{Envelope, host_name, unix_ns};
use crate::kinds::load::Load;
use crate::kinds::stdin::{Lines, Next, typed};
use crate::pace::Pacer;
use crate::socket::{Outlets, Sent};

/// Messages sent before the tool looks up for subscriptions and a stop.
const BATCH_MAX: u64 = 256;

/// Publishes until its bodies end or it is stopped; what is queued then leaves while the socket lingers.
pub(crate) fn run(outlets: Outlets, tool: &Tool) -> anyhow::Result<()> {
    let mut session = Session {
        outlets,
        tool,
        source: Source::open(tool.payloads)?,
        envelope: Envelope::new(host_name(), unix_ns()),
        n_sent: 0,
    };
    let result = session.run();
    info!(messages = session.n_sent, "published");
    result
}

struct Session<'a> {
    outlets: Outlets,
    tool: &'a Tool,
    source: Source,
    envelope: Envelope,
    n_sent: u64,
}

/// Why a batch ended.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// All of it was sent.
    Full,
    /// The input has nothing more yet.
    NeedsInput,
    /// There are no more messages, or it shall stop.
    End,
}

impl Session<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        // At first all endpoints must want the topic, so that each gets the first message; later one is enough.
        if !self.wait_until_wanted(0)? {
            return Ok(());
        }
        let mut pacer = self.tool.rate.map(|rate| Pacer::new(rate, Instant::now()));
        while !self.outlets.is_stopped() {
            if self.source.has_next() && !self.wait_until_wanted(self.outlets.len() - 1)? {
                return Ok(());
            }
            let due = pacer.as_mut().map_or(BATCH_MAX, |pacer| pacer.due(Instant::now()).min(BATCH_MAX));
            let n_before = self.n_sent;
            let turn = self.send_batch(due)?;
            pacer.iter_mut().for_each(|pacer| pacer.count(self.n_sent - n_before));
            match turn {
                Turn::End => return Ok(()),
                Turn::NeedsInput => self.wait_for_input()?,
                Turn::Full => {
                    let next_at = pacer.as_ref().map_or_else(Instant::now, Pacer::next_at);
                    self.outlets.poll(Some(next_at), None)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until no more than `uncovered_max` endpoints lack a subscription to the topic; false when it shall stop.
    fn wait_until_wanted(&mut self, uncovered_max: usize) -> anyhow::Result<bool> {
        let topic = &self.tool.topic;
        let mut until = None;
        loop {
            let uncovered = self.outlets.uncovered(topic);
            if uncovered.len() <= uncovered_max {
                return Ok(true);
            }
            let until = *until.get_or_insert_with(|| Instant::now() + self.tool.wait);
            if Instant::now() >= until {
                let (wait, n) = (self.tool.wait, self.n_sent);
                return Err(Exit::unavailable(format!(
                    "{}: nobody has subscribed to {:?} for {wait:?}; {n} messages were sent before",
                    uncovered.join(", "),
                    String::from_utf8_lossy(topic),
                ))
                .into());
            }
            self.outlets.poll(Some(until), None)?;
            if self.outlets.is_stopped() {
                return Ok(false);
            }
        }
    }

    fn send_batch(&mut self, n_max: u64) -> anyhow::Result<Turn> {
        let left = self.tool.count.map_or(u64::MAX, |count| count.get() - self.n_sent);
        for _ in 0..n_max.min(left) {
            let body = match &mut self.source {
                Source::Generated(load) => load.next(),
                Source::Stdin(lines) => match lines.next()? {
                    Next::Line(line) => line,
                    Next::Empty => return Ok(Turn::NeedsInput),
                    Next::End => return Ok(Turn::End),
                },
            };
            let topic = &self.tool.topic[..];
            let sent = if self.tool.raw {
                self.outlets.send(&[topic, body], self.tool.wait)?
            } else {
                let event = self.envelope.seal(typed(body), unix_ns());
                self.outlets.send(&[topic, EVENT_MARKER, &event], self.tool.wait)?
            };
            if sent == Sent::Stopped {
                return Ok(Turn::End);
            }
            self.n_sent += 1;
        }
        Ok(if left <= n_max { Turn::End } else { Turn::Full })
    }

    fn wait_for_input(&mut self) -> anyhow::Result<()> {
        let Source::Stdin(lines) = &mut self.source else { return Ok(()) };
        if self.outlets.poll(None, Some(lines.input().as_fd()))?.readable {
            lines.fill().context("standard input")?;
        }
        Ok(())
    }
}

/// Where the bodies come from.
enum Source {
    Stdin(Lines<File>),
    Generated(Load),
}

impl Source {
    /// Whether there is a body to be sent now.
    fn has_next(&self) -> bool {
        match self {
            Self::Stdin(lines) => lines.has_next(),
            Self::Generated(_) => true,
        }
    }

    fn open(payloads: Payloads) -> anyhow::Result<Self> {
        Ok(match payloads {
            Payloads::Generated(size) => Self::Generated(Load::new(size)),
            Payloads::Stdin => {
                // A file of its own: the standard library's reader has a buffer that a poll does not see.
                let input = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
                Self::Stdin(Lines::new(File::from(input)))
            }
        })
    }
}
