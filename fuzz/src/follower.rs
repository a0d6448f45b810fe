//! A link that says anything at all, in any order: what gets into the log is in the order of its epoch, once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trestle_messages::Position;
use trestle_messages::v1::{Beat, RecordRule, RecordedMessage, ReplayBatch, ReplayStart, Ring, Stamp};
use trestle_recorder::{Ask, Batch, Errand, Follower, Kept, Log, LogWriter};

/// The first byte says whether replays can be asked for; each step is a byte for what, one for when and which epoch, and an
/// offset's byte.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&mode, steps)) = bytes.split_first() else { return };
    let mut edge = Edge::new(mode & 1 != 0);
    for step in steps.chunks_exact(3) {
        edge.step(step[0], u64::from(step[1] % 3) + 1, offset(step[2]));
        edge.now += Duration::from_millis(u64::from(step[1] / 3) * 20);
    }
}

/// Small ones, which meet, and those at the end of the numbers.
fn offset(byte: u8) -> u64 {
    if byte < 0xe0 { u64::from(byte) } else { u64::MAX - u64::from(0xff - byte) }
}

struct Edge {
    follower: Follower<Kept>,
    log: Arc<Log>,
    cursor: trestle_recorder::Cursor,
    writer: LogWriter,
    now: Instant,
    asked: Option<Ask>,
    is_cloned: bool,
    last: Position,
}

impl Edge {
    fn new(repairs: bool) -> Self {
        let log = Arc::new(Log::new(1 << 20));
        Self {
            follower: Follower::new(repairs),
            cursor: log.cursor(),
            writer: LogWriter::new(Arc::clone(&log)),
            log,
            now: Instant::now(),
            asked: None,
            is_cloned: false,
            last: Position { epoch: 0, offset: 0 },
        }
    }

    fn step(&mut self, what: u8, epoch: u64, offset: u64) {
        let asked = self.asked.map_or(0, |asked| asked.id);
        match what % 8 {
            0..=2 => {
                let stamp = Stamp { epoch, offset, time_unix_ns: 1, ..Stamp::default() };
                self.writer.take(&mut self.follower, &[&b"t"[..], b"body"], stamp, self.now);
            }
            3 => {
                let recorded = vec![rule(); usize::from(what >> 3 & 1)];
                let beat = Beat { epoch, head: offset, recorded, ..Beat::default() };
                self.follower.on_beat(&beat, self.now);
            }
            4 | 5 => {
                let epoch = self.asked.map_or(epoch, |asked| asked.epoch);
                let batch = Batch::from_wire(batch(what, epoch, offset), epoch).expect("in order");
                self.follower.on_replay(asked, batch, self.now);
            }
            6 if what & 8 == 0 => self.follower.on_replay_end(asked, self.now),
            6 => self.follower.on_replay_failed(asked, self.now),
            _ => self.follower.tick(self.now),
        }
        for action in self.follower.take_actions() {
            match self.writer.obey(action) {
                Some(Errand::Replay(ask)) => {
                    assert!(self.asked.is_none_or(|asked| asked.id < ask.id), "each has its own number");
                    assert!(ask.through == 0 || ask.through > ask.after, "something is asked for: {ask:?}");
                    self.asked = Some(ask);
                }
                Some(Errand::Cloned) => {
                    assert!(!std::mem::replace(&mut self.is_cloned, true), "said once");
                }
                Some(Errand::Rules(_)) | None => {}
            }
        }
        self.look();
    }

    /// Readers see each message of an epoch once, in order.
    fn look(&mut self) {
        self.writer.flush();
        let mut segments = Vec::new();
        if self.log.read(&mut self.cursor, &mut segments).is_err() {
            return;
        }
        for segment in segments {
            // What readers are told is missing may end in another epoch, also one that was there before.
            self.last = segment.gap().map_or(self.last, |gap| gap.until);
            for position in segment.messages().filter_map(|message| message.position()) {
                let is_next = position.epoch != self.last.epoch || position.offset > self.last.offset;
                assert!(is_next, "{position:?} behind {:?}", self.last);
                self.last = position;
            }
        }
    }
}

/// Everything, within bounds that no run reaches.
fn rule() -> RecordRule {
    RecordRule { bytes_max: 1 << 20, age_ms_max: 600_000, ..RecordRule::default() }
}

/// What a forwarder might send: one message or two, a start in the first batch.
fn batch(what: u8, epoch: u64, offset: u64) -> ReplayBatch {
    let message = |offset| RecordedMessage {
        stamp: Some(Stamp { epoch, offset, time_unix_ns: 1, ..Stamp::default() }),
        frames: vec![b"t".to_vec().into(), b"replayed".to_vec().into()],
    };
    let ring = Ring { rule: Some(rule()), complete_after: offset / 2 };
    let start = ReplayStart { epoch, head: offset, last_values_after: 0, rings: vec![ring] };
    let offsets = [offset, offset.saturating_add(1)];
    let n = usize::from(what >> 3 & 3).min(if offset == 0 { 0 } else { 2 });
    let n = if offset == u64::MAX { n.min(1) } else { n };
    ReplayBatch {
        start: (what & 32 != 0).then_some(start),
        messages: offsets[..n].iter().copied().map(message).collect(),
        through: if what & 64 != 0 { offset } else { 0 },
    }
}
