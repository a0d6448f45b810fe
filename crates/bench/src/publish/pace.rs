//! When messages are published: by a schedule (open loop) or as deliveries make room (closed loop).

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use trestle_process::exit::Exit;

use super::Publisher;
use crate::body::Body;
use crate::clock::Clock;
use crate::marker::{Mark, SEQ_MAX};

/// A publisher without room looks again after this, should a wake-up be missed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// When to publish.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many a second, whatever becomes of them. A message carries the time that the schedule had for it, also when the
    /// publisher was late: a delay that the server causes is then seen in full (no coordinated omission).
    Open {
        /// Messages a second.
        per_second: f64,
    },
    /// At most so many that are not yet delivered, see [`acknowledged`].
    Closed {
        /// Messages.
        in_flight: NonZeroU64,
    },
}

/// How far the slowest client may be behind, in windows: beyond it the others wait for it, so that a server never has reason
/// to drop what it holds for one.
const BEHIND_WINDOWS: u64 = 4;

/// What counts as delivered in a closed loop of `in_flight` messages: the average over clients of what each has got, so
/// that a server works on the next messages while the last clients get the ones before. Waiting for the last client of each
/// message would measure how long everybody rests meanwhile.
pub fn acknowledged(deliveries: u64, fan: u32, complete: u64, in_flight: NonZeroU64) -> u64 {
    (deliveries / u64::from(fan)).min(complete + (BEHIND_WINDOWS - 1) * in_flight.get())
}

/// What is published, and until when.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When.
    pub pace: Pace,
    /// Nothing is published later than this after the beginning, ns.
    pub length_ns: u64,
    /// At most so many.
    pub messages: Option<u64>,
    /// Message `n` is published on topic `n` modulo their number.
    pub topics: Vec<String>,
    /// The body.
    pub body: Body,
}

impl Plan {
    /// Through which connection a message goes, where there are several: in turn, but for topics, which keep theirs.
    pub fn lane(&self, seq: u32) -> u32 {
        match u32::try_from(self.topics.len()).expect("a topic a client at most") {
            1 => seq,
            topics => seq % topics,
        }
    }

    /// Messages that there will be at most.
    pub fn messages_max(&self) -> u64 {
        let scheduled = match self.pace {
            Pace::Open { per_second } => (self.length_ns as f64 / 1e9 * per_second).ceil() as u64,
            Pace::Closed { .. } => SEQ_MAX,
        };
        scheduled.min(self.messages.unwrap_or(SEQ_MAX)).clamp(1, SEQ_MAX)
    }
}

/// What publisher and receiver tell each other.
#[derive(Debug, Default)]
struct Shared {
    /// Messages published or about to be.
    published: AtomicU64,
    /// Messages that take no room any more.
    acknowledged: AtomicU64,
    /// When publishing began.
    began_ns: AtomicU64,
    is_done: AtomicBool,
    is_stopped: AtomicBool,
}

/// A publisher at work in its own thread; when this is dropped, it stops.
#[derive(Debug)]
pub struct Publishing {
    shared: Arc<Shared>,
    /// `None` once it was waited for.
    thread: Option<JoinHandle<Result<Published, Exit>>>,
    waker: Thread,
    told: u64,
}

/// What a publisher has done.
#[derive(Debug)]
pub struct Published {
    /// Itself, for the next run.
    pub publisher: Publisher,
    /// How late it was at the most: from the schedule's time to the call that published, ns.
    pub late_max_ns: u64,
}

impl Publishing {
    /// Begins now.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(publisher: Publisher, plan: Plan, clock: Clock) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut work = Work { shared: Arc::clone(&shared), publisher, plan, clock, late_max_ns: 0 };
        let thread = thread::Builder::new().name("publisher".to_owned()).spawn(move || {
            let result = work.run();
            work.shared.is_done.store(true, Ordering::Release);
            result.map(|()| Published { publisher: work.publisher, late_max_ns: work.late_max_ns })
        })?;
        Ok(Self { shared, waker: thread.thread().clone(), thread: Some(thread), told: 0 })
    }

    /// To look at it from elsewhere.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.shared))
    }

    /// Messages published so far; all of them once [`is_done`](Self::is_done).
    pub fn published(&self) -> u64 {
        self.shared.published.load(Ordering::Acquire)
    }

    /// Whether nothing more will be published.
    pub fn is_done(&self) -> bool {
        self.shared.is_done.load(Ordering::Acquire)
    }

    /// So many messages take no room any more.
    pub fn acknowledge(&mut self, messages: u64) {
        if messages != self.told {
            self.told = messages;
            self.shared.acknowledged.store(messages, Ordering::Release);
            self.waker.unpark();
        }
    }

    /// Publishes no more.
    pub fn stop(&self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.waker.unpark();
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What went wrong with publishing.
    pub fn join(mut self) -> Result<Published, Exit> {
        let thread = self.thread.take().expect("only this takes it");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How far a publisher is.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Shared>);

impl Watch {
    /// Messages published so far.
    pub fn published(&self) -> u64 {
        self.0.published.load(Ordering::Acquire)
    }

    /// When publishing began.
    pub fn began_ns(&self) -> u64 {
        self.0.began_ns.load(Ordering::Acquire)
    }
}

struct Work {
    shared: Arc<Shared>,
    publisher: Publisher,
    plan: Plan,
    clock: Clock,
    late_max_ns: u64,
}

impl Work {
    fn run(&mut self) -> Result<(), Exit> {
        let began_ns = self.clock.now_ns();
        self.shared.began_ns.store(began_ns, Ordering::Release);
        let until_ns = began_ns + self.plan.length_ns;
        match self.plan.pace {
            Pace::Open { per_second } => self.open(began_ns, per_second),
            Pace::Closed { in_flight } => self.closed(until_ns, in_flight.get()),
        }
    }

    fn open(&mut self, began_ns: u64, per_second: f64) -> Result<(), Exit> {
        // The kernel may wake a sleeper 50 µs late, which would be in every latency.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let at_ns = |seq: u64| began_ns + (seq as f64 * 1e9 / per_second) as u64;
        let messages = self.plan.messages_max();
        let mut seq = 0;
        while seq < messages && !self.is_stopped() {
            self.clock.sleep_until(at_ns(seq));
            // All that is due by now, in one go if it is several.
            while seq < messages && at_ns(seq) <= self.clock.now_ns() {
                self.one(seq, at_ns(seq))?;
                seq += 1;
            }
            self.publisher.flush()?;
        }
        Ok(())
    }

    fn closed(&mut self, until_ns: u64, in_flight: u64) -> Result<(), Exit> {
        let messages = self.plan.messages_max();
        let mut seq = 0;
        while seq < messages && !self.is_stopped() && self.clock.now_ns() < until_ns {
            let room = in_flight - (seq - self.shared.acknowledged.load(Ordering::Acquire));
            if room == 0 {
                thread::park_timeout(LOOK_AGAIN);
                continue;
            }
            for _ in 0..room.min(messages - seq) {
                self.one(seq, self.clock.now_ns())?;
                seq += 1;
            }
            self.publisher.flush()?;
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire)
    }

    fn one(&mut self, seq: u64, time_ns: u64) -> Result<(), Exit> {
        let seq32 = u32::try_from(seq).expect("8 digits");
        let nth = seq32 as usize % self.plan.topics.len();
        let topic = &self.plan.topics[nth];
        let lane = self.plan.lane(seq32);
        let body = self.plan.body.stamped(Mark { seq: seq32, time_ns });
        // Before it is out: a delivery of what was not published would be an error.
        self.shared.published.store(seq + 1, Ordering::Release);
        self.publisher.publish(lane, topic, body)?;
        self.late_max_ns = self.late_max_ns.max(self.clock.now_ns().saturating_sub(time_ns));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_client_holds_the_others_up_only_so_far() {
        let window = NonZeroU64::new(10).expect("10");
        // Of four clients three have 100 messages each; the fourth has 90, 60 or none.
        for (slowest, expected) in [(90, 97), (60, 90), (0, 30)] {
            assert_eq!(acknowledged(300 + slowest, 4, slowest, window), expected);
        }
        assert_eq!(acknowledged(400, 4, 100, window), 100);
    }
}
