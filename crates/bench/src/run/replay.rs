//! What everybody has missed and is sent when it comes: published, counted, judged.

use std::time::{Duration, Instant};

use trestle_process::exit::Exit;

use super::scene::{Scene, TICK};
use crate::body::Body;
use crate::clock::{nanoseconds, seconds};
use crate::marker::{Mark, WARM_UP};
use crate::output::Progress;
use crate::publish::Publisher;
use crate::report::Replayed;
use crate::scout::{Event, Scout};
use crate::swarm::Sink;
use crate::tally::{Layout, Tally};

/// How long a server may take to ask the publisher for its topics, to answer, or to hand on what was published.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A message that has not come after this is followed by another: the subscription may be still on its way.
const AGAIN: Duration = Duration::from_millis(100);
/// So many are published before it is looked at what has come, so that no queue on the way overflows.
const BATCH: u64 = 256;

/// What is missed.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) messages: u64,
    pub(super) topic: String,
    pub(super) size: u64,
    pub(super) give_up_s: f64,
}

impl Replay {
    /// Publishes what will be missed. From then on everybody who connects resumes before it.
    pub(super) fn prepare(&self, scene: &mut Scene, progress: &Progress) -> Result<(), Exit> {
        progress.say("publishing what will be missed");
        let (target, address) = scene.swarm.target().expect("a storm is of WebSocket clients");
        let mut scout = Scout::connect(&target, address, scene.marker.clone(), TIMEOUT)?;
        let mut publisher = scene.publisher.take().expect("a replay is published");
        publisher.await_subscriptions(std::slice::from_ref(&self.topic), TIMEOUT)?;
        let mut body = Body::new(usize::try_from(self.size).expect("at most 4 MiB"), scene.marker.clone());
        let before = self.first(&mut scout, &mut publisher, &mut body)?;
        let position = before.position.ok_or_else(|| {
            Exit::unavailable(format!(
                "{} does not record {}: its events have no position",
                scene.target, self.topic
            ))
        })?;
        for first in (0..self.messages).step_by(usize::try_from(BATCH).expect("256")) {
            let batch = first..(first + BATCH).min(self.messages);
            for seq in batch.clone() {
                self.publish(&mut publisher, &mut body, u32::try_from(seq).expect("8 digits"))?;
            }
            for seq in batch {
                let come = scout.event(Instant::now() + TIMEOUT)?;
                if come.map(|event| u64::from(event.mark.seq)) != Some(seq) {
                    let reason =
                        format!("{}: message {seq} of what is to be replayed did not come", scene.target);
                    return Err(Exit::unavailable(reason));
                }
            }
        }
        scene.publisher = Some(publisher);
        scene.swarm.aim(target.resuming(&position)?);
        Ok(())
    }

    /// Publishes until something comes, and then one more: when that has come, nothing older is on its way.
    fn first(&self, scout: &mut Scout, publisher: &mut Publisher, body: &mut Body) -> Result<Event, Exit> {
        let deadline = Instant::now() + TIMEOUT;
        let (mut seq, mut has_come) = (WARM_UP, false);
        while Instant::now() < deadline {
            self.publish(publisher, body, seq)?;
            while let Some(event) = scout.event(Instant::now() + AGAIN)? {
                if has_come && event.mark.seq == seq {
                    return Ok(event);
                }
                if !has_come {
                    has_come = true;
                    break;
                }
            }
            seq += 1;
        }
        Err(Exit::unavailable(format!("none of the first messages came in {} s", TIMEOUT.as_secs())))
    }

    fn publish(&self, publisher: &mut Publisher, body: &mut Body, seq: u32) -> Result<(), Exit> {
        publisher.publish(0, &self.topic, body.stamped(Mark { seq, time_ns: 0 }))?;
        publisher.flush()
    }
}

/// What one round's clients have got of it.
#[derive(Debug)]
pub(super) struct Receiver {
    published: u64,
    tally: Tally,
    /// What came though the client resumed behind it.
    before: u64,
    broken: u64,
    give_up_ns: u64,
    disconnected_before: u64,
    began_ns: u64,
}

impl Receiver {
    /// For everybody who connects from now on.
    pub(super) fn new(scene: &Scene, replay: Option<&Replay>) -> Self {
        let published = replay.map_or(0, |replay| replay.messages);
        let layout = Layout::Everyone { clients: scene.clients(), publishers: 1 };
        Self {
            published,
            tally: Tally::new(layout, usize::try_from(published).expect("at most 1,000,000")),
            before: 0,
            broken: 0,
            give_up_ns: nanoseconds(replay.map_or(0.0, |replay| replay.give_up_s)),
            disconnected_before: scene.swarm.disconnected(),
            began_ns: scene.clock.now_ns(),
        }
    }

    /// Until everybody has got everything, or nothing comes any more.
    pub(super) fn wait(&mut self, scene: &mut Scene, progress: &Progress) -> Result<(), Exit> {
        let expected = self.tally.expected(self.published);
        progress.count("replaying", expected);
        let (mut moved_ns, mut seen) = (scene.clock.now_ns(), 0);
        while self.tally.delivered < expected {
            scene.turn(TICK, self)?;
            let now_ns = scene.clock.now_ns();
            if self.tally.delivered > seen {
                (moved_ns, seen) = (now_ns, self.tally.delivered);
                progress.at(seen);
            } else if now_ns - moved_ns > self.give_up_ns {
                break;
            }
        }
        Ok(())
    }

    /// What came of it; `None` if there was nothing to replay.
    pub(super) fn result(&self, scene: &Scene) -> Option<Replayed> {
        let tally = &self.tally;
        let took_s = seconds(tally.last_ns.saturating_sub(self.began_ns));
        (self.published > 0).then(|| Replayed {
            messages: self.published,
            expected: tally.expected(self.published),
            delivered: tally.delivered,
            lost: tally.lost(self.published),
            duplicated: tally.duplicated,
            out_of_order: tally.out_of_order,
            before_position: self.before,
            corrupted: tally.corrupted + self.broken,
            disconnected: scene.swarm.disconnected() - self.disconnected_before,
            seconds: took_s,
            deliveries_per_s: tally.delivered as f64 / took_s.max(1e-9),
        })
    }
}

impl Sink for Receiver {
    fn mark(&mut self, client: u32, mark: Mark, now_ns: u64) {
        match mark.seq {
            WARM_UP.. => self.before += 1,
            _ => self.tally.deliver(client, mark, now_ns, self.published),
        }
    }

    fn broken(&mut self) {
        self.broken += 1;
    }
}
