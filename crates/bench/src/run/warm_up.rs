//! Messages before the measurement: until every client has got one, nobody can say that its subscription stands.

use std::time::Duration;

use trestle_process::exit::Exit;

use super::scene::Scene;
use crate::body::Body;
use crate::clock::seconds;
use crate::marker::{Mark, WARM_UP};
use crate::publish::Publisher;
use crate::swarm::Sink;

/// A round that has not arrived everywhere after this is followed by the next all the same, seconds.
const ROUND_S: f64 = 0.2;
/// A client that has got nothing after this never will, seconds.
const PATIENCE_S: f64 = 10.0;
/// How long a server may take to ask the publisher for its topics.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Rounds at least where each client has its own topic.
const ROUNDS_EACH: u64 = 2;
/// How long a wait is at most, before the clock is looked at.
const TICK: Duration = Duration::from_millis(5);

/// Who has got something.
struct Seen {
    clients: Vec<bool>,
    without: usize,
    /// Of the current round.
    arrived: usize,
    round: std::ops::Range<u32>,
}

impl Sink for Seen {
    fn mark(&mut self, client: u32, mark: Mark, _: u64) {
        if mark.seq < WARM_UP {
            return;
        }
        self.arrived += usize::from(self.round.contains(&mark.seq));
        if let Some(seen) = self.clients.get_mut(client as usize).filter(|seen| !**seen) {
            *seen = true;
            self.without -= 1;
        }
    }

    // The measurement counts what is wrong.
    fn broken(&mut self) {}
}

/// Publishes at least `rounds` rounds of a message on each of `topics`.
pub(super) fn run(
    scene: &mut Scene,
    publisher: &mut Publisher,
    body: &Body,
    topics: &[String],
    rounds: u64,
) -> Result<(), Exit> {
    publisher.await_subscriptions(topics, SUBSCRIBE_TIMEOUT)?;
    let clients = scene.clients() as usize;
    let mut body = body.clone();
    let mut seen = Seen { clients: vec![false; clients], without: clients, arrived: 0, round: 0..0 };
    let rounds = if topics.len() > 1 { ROUNDS_EACH } else { rounds };
    let (mut seq, mut done) = (WARM_UP, 0);
    let began_ns = scene.clock.now_ns();
    while done < rounds || seen.without > 0 {
        let round_ns = scene.clock.now_ns();
        if seconds(round_ns - began_ns) > PATIENCE_S && seen.without > 0 {
            return Err(Exit::unavailable(format!(
                "{} of {clients} clients at {} got none of the {done} first messages in {PATIENCE_S} s",
                seen.without, scene.target
            )));
        }
        let next = seq + u32::try_from(topics.len()).expect("a topic a client at most");
        (seen.arrived, seen.round) = (0, seq..next);
        for (topic, seq) in topics.iter().zip(seen.round.clone()) {
            publisher.publish(seq, topic, body.stamped(Mark { seq, time_ns: 0 }))?;
        }
        publisher.flush()?;
        while seen.arrived < clients && seconds(scene.clock.now_ns() - round_ns) < ROUND_S {
            scene.turn(TICK, &mut seen)?;
        }
        seq = next;
        done += 1;
    }
    Ok(())
}
