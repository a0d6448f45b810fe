//! A forwarder: stamps, records, beats, answers replays, and dies. It has the types of the real one, without its sockets.

use std::sync::Arc;

use bytes::Bytes;
use trestle_messages::Position;
use trestle_messages::v1::{Beat, Stamp};
use trestle_recorder::{
    Ask, Batch, Bounds, Gap, Kept, Log, LogWriter, RecordRules, ReplayBatches, SegmentBuilder, Stamper,
};

use super::Fault;

/// Nobody reads a forwarder's newest messages but replays, which read the rings.
const NEWEST_BYTES_MAX: usize = 1_000;

/// What goes over the link.
#[derive(Debug, Clone)]
pub(super) enum Packet {
    Message(Vec<Bytes>, Stamp),
    Beat(Beat),
}

impl Packet {
    pub(super) fn epoch(&self) -> u64 {
        match self {
            Self::Message(_, stamp) => stamp.epoch,
            Self::Beat(beat) => beat.epoch,
        }
    }
}

#[derive(Debug)]
pub(super) struct Forwarder {
    stamper: Stamper,
    log: Arc<Log>,
    fault: Fault,
}

impl Forwarder {
    pub(super) fn new(epoch: u64, rules: RecordRules, fault: Fault) -> Self {
        let log = empty_log(&rules);
        log.advance(Position { epoch, offset: 0 });
        Self { stamper: Stamper::new(epoch, rules), log, fault }
    }

    /// Where the sequence stands.
    pub(super) fn position(&self) -> Position {
        Position { epoch: self.stamper.epoch(), offset: self.stamper.head() }
    }

    pub(super) fn rules(&self) -> &RecordRules {
        self.stamper.rules()
    }

    /// A message from a publisher. What is recorded is in the log before anybody sees it, as with a data folder.
    pub(super) fn take(&mut self, topic: &[u8], body: &str, now_unix_ns: u64) -> Packet {
        let stamp = self.stamper.stamp(topic, now_unix_ns);
        if stamp.offset != 0 {
            let mut batch = SegmentBuilder::default();
            batch.push([topic, body.as_bytes()], stamp);
            self.log.append(&mut batch);
        }
        let frames = [topic, body.as_bytes()].map(Bytes::copy_from_slice);
        Packet::Message(frames.into(), stamp)
    }

    pub(super) fn beat(&self) -> Packet {
        Packet::Beat(self.stamper.beat())
    }

    pub(super) fn expire(&self, now_unix_ns: u64) {
        self.log.expire(now_unix_ns);
    }

    /// What is sent to who asks; `None` if it cannot be had.
    pub(super) fn replay(&self, ask: Ask, batch_bytes_max: usize) -> Option<ReplayBatches> {
        let late = u64::from(self.fault == Fault::StartsOneLate);
        let replay = self.log.replay(ask.after + late)?;
        let is_here = ask.epoch == replay.position().epoch;
        let recorded: Vec<_> = self.rules().into();
        is_here.then(|| ReplayBatches::new(replay, &recorded, ask.through, batch_bytes_max))
    }

    /// Killed and started again on its data: the same epoch goes on behind the last offset.
    pub(super) fn restart(&mut self) {
        let rules = self.rules().clone();
        let log = empty_log(&rules);
        let mut position = self.position();
        if position.offset > 0 {
            copy(&self.log, &log, &rules);
        }
        log.advance(position);
        if self.fault == Fault::OffsetReused {
            position.offset = position.offset.saturating_sub(1);
        }
        *self = Self { stamper: Stamper::behind(position, rules), log, fault: self.fault };
    }

    /// Killed and started again with nothing: another epoch begins.
    pub(super) fn restart_empty(&mut self) {
        *self = Self::new(self.stamper.epoch() + 1, self.rules().clone(), self.fault);
    }

    /// Its data folder has failed: another epoch begins while it runs.
    pub(super) fn give_up(&mut self) {
        let from = Some(self.position());
        self.stamper = Stamper::new(self.stamper.epoch() + 1, self.rules().clone());
        self.log.append_gap(Gap { from, until: self.position(), messages: None });
    }
}

fn empty_log(rules: &RecordRules) -> Arc<Log> {
    let log = Log::with_bounds(Bounds { bytes_max: NEWEST_BYTES_MAX, ..Bounds::default() });
    log.record(rules.clone());
    Arc::new(log)
}

/// What a data folder keeps is what the log does.
fn copy(from: &Log, to: &Arc<Log>, rules: &RecordRules) {
    let replay = from.replay(0).expect("it has a position");
    let (epoch, mut writer) = (replay.position().epoch, LogWriter::new(Arc::clone(to)));
    writer.begin(replay.position(), replay.starts());
    let recorded: Vec<_> = rules.into();
    let batches = ReplayBatches::new(replay, &recorded, 0, 1);
    for Batch { messages, .. } in batches.filter_map(|batch| Batch::from_wire(batch, epoch)) {
        for (_, Kept { frames, stamp }) in messages {
            writer.push(frames.iter().map(|frame| &frame[..]), stamp);
        }
    }
    writer.flush();
}
