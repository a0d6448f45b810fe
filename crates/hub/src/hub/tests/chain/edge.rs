//! An edge's ingest: the link that it hears, its follower, and the log that its hub reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use trestle_messages::Position;
use trestle_recorder::{
    Action, Ask, Batch, Bounds, Errand, Follower, Kept, Log, LogWriter, RecordRules, ReplayBatches,
};

use super::super::random::Random;
use super::super::world::World;
use super::Fault;
use super::forwarder::{Forwarder, Packet};
use crate::limits::Limits;

/// The newest of what it heard, which a link may repeat.
const HEARD_MAX: usize = 12;

pub(super) struct Edge {
    follower: Follower<Kept>,
    writer: LogWriter,
    /// On its way, or waiting to be read.
    link: VecDeque<Packet>,
    heard: VecDeque<Packet>,
    replay: Option<(Ask, Option<ReplayBatches>)>,
    /// One that a newer ask has made worthless; some of it may still come.
    worthless: Option<(Ask, ReplayBatches)>,
    /// What is recorded, as the shard does not know it yet.
    rules: Option<RecordRules>,
    /// Clients may come.
    pub(super) is_ready: bool,
    fault: Fault,
}

impl Edge {
    /// An edge that has just started, and its hub. Without a recorder it repairs nothing.
    pub(super) fn start(
        bytes_max: usize,
        limits: Limits,
        has_recorder: bool,
        now: Instant,
        fault: Fault,
    ) -> (Self, World) {
        let log = Arc::new(Log::with_bounds(Bounds { bytes_max, ..Bounds::default() }));
        let mut world = World::on(Arc::clone(&log), limits, now);
        world.hub.set_can_ask(has_recorder);
        let edge = Self {
            follower: Follower::new(has_recorder),
            writer: LogWriter::new(log),
            link: VecDeque::new(),
            heard: VecDeque::new(),
            replay: None,
            worthless: None,
            rules: None,
            is_ready: false,
            fault,
        };
        (edge, world)
    }

    pub(super) fn position(&self) -> Position {
        self.follower.position()
    }

    /// The link carries `packet`, or loses it, or brings it twice.
    pub(super) fn send(&mut self, packet: &Packet, times: usize) {
        (0..times).for_each(|_| self.link.push_back(packet.clone()));
    }

    /// What it heard a while ago comes again. A connection that has ended brings nothing more: that of a dead forwarder
    /// would be taken for its return.
    pub(super) fn repeat(&mut self, random: &mut Random) {
        if !self.heard.is_empty() {
            let packet = self.heard[random.below(self.heard.len())].clone();
            if packet.epoch() == self.position().epoch {
                self.link.push_front(packet);
            }
        }
    }

    /// The connection breaks: what was on its way is gone.
    pub(super) fn cut(&mut self) {
        self.link.clear();
    }

    /// The forwarder has died: whatever it was sending is gone.
    pub(super) fn lose_replay(&mut self, now: Instant) {
        self.worthless = None;
        if let Some((ask, _)) = self.replay.take() {
            self.follower.on_replay_failed(ask.id, now);
        }
    }

    /// Reads so much of the link.
    pub(super) fn read(&mut self, packets_max: usize, now: Instant) {
        for _ in 0..packets_max {
            let Some(packet) = self.link.pop_front() else { break };
            match &packet {
                Packet::Message(frames, stamp) => {
                    self.writer.take(&mut self.follower, frames, *stamp, now);
                }
                Packet::Beat(beat) => self.follower.on_beat(beat, now),
            }
            self.act();
            self.heard.push_back(packet);
            if self.heard.len() > HEARD_MAX {
                self.heard.pop_front();
            }
        }
        self.writer.flush();
    }

    /// So many batches of what was asked for come, or it fails. Returns whether there was anything.
    pub(super) fn answer(
        &mut self,
        batches_max: usize,
        forwarder: Option<&Forwarder>,
        random: &mut Random,
        now: Instant,
    ) -> bool {
        if let Some(batch) = self.worthless.as_mut().and_then(|(ask, batches)| {
            let batch = batches.next()?;
            Some((ask.id, Batch::from_wire(batch, ask.epoch).expect("it is one")))
        }) {
            self.follower.on_replay(batch.0, batch.1, now);
            self.act();
        }
        let Some((ask, batches)) = self.replay.take() else { return false };
        let batch_bytes_max = 1 + random.below(300);
        let batches = batches.or_else(|| forwarder?.replay(ask, batch_bytes_max));
        let Some(mut batches) = batches.filter(|_| random.below(12) > 0) else {
            self.follower.on_replay_failed(ask.id, now);
            self.act();
            return true;
        };
        for _ in 0..batches_max {
            let Some(mut batch) = batches.next() else {
                self.follower.on_replay_end(ask.id, now);
                self.act();
                self.writer.flush();
                return true;
            };
            if self.fault == Fault::RepairSkipped && ask.through != 0 {
                batch.messages.clear();
            }
            match Batch::from_wire(batch, ask.epoch) {
                Some(batch) => self.follower.on_replay(ask.id, batch, now),
                None => self.follower.on_replay_failed(ask.id, now),
            }
            self.act();
        }
        // If it was asked anew meanwhile, this is worthless.
        match self.replay {
            Some(_) => self.worthless = Some((ask, batches)),
            None => self.replay = Some((ask, Some(batches))),
        }
        self.writer.flush();
        true
    }

    /// What the ingest thread and the shard do from time to time.
    pub(super) fn tick(&mut self, world: &mut World, now: Instant, now_unix_ns: u64) {
        self.follower.tick(now);
        self.act();
        self.writer.expire(now_unix_ns);
        self.writer.flush();
        self.follow(world);
        world.hub.set_stale(self.follower.is_stale(now));
        world.route();
        world.flush();
        world.settle();
    }

    /// The shard hears what is recorded: with each tick, and before a client comes.
    pub(super) fn follow(&mut self, world: &mut World) {
        if let Some(rules) = self.rules.take() {
            world.hub.set_rules(rules);
        }
    }

    fn act(&mut self) {
        for action in self.follower.take_actions() {
            if let (Fault::LostNotTold, Action::Gap(gap)) = (self.fault, &action) {
                self.writer.advance(gap.until);
                continue;
            }
            self.is_ready |= self.fault == Fault::ServedEarly && matches!(action, Action::Begin(..));
            match self.writer.obey(action) {
                Some(Errand::Rules(rules)) => self.rules = Some(rules),
                Some(Errand::Replay(ask)) => {
                    let before = self.replay.replace((ask, None));
                    self.worthless = before.and_then(|(ask, batches)| Some((ask, batches?)));
                }
                Some(Errand::Cloned) => self.is_ready = true,
                None => {}
            }
        }
    }
}
