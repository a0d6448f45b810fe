//! Progress of jobs on `jobs/<id>`: several at a time, each hashes generated data step by step.
//!
//! Pure but for the hashing: `now` is an argument, and the same seed gives the same jobs, whatever the pace.

use std::ops::Range;
use std::time::{Duration, Instant};

use sha1::{Digest as _, Sha1};
use trestle_messages::v1::Progress;
use trestle_messages::v1::progress::State;

use crate::random::Random;

/// Jobs at a time.
const SLOTS: u64 = 4;
/// The first jobs start this much apart, milliseconds: two are there at once.
const STAGGER_MS: u64 = 400;
/// A finished job stands so long before the next takes its place, milliseconds.
const REST_MS: Range<u64> = 2_000..5_000;
/// Numbers start over after so many jobs, so that a demo of weeks has no more topics than this.
const NUMBERS: u64 = 100;

/// What a kind of job does.
struct Kind {
    name: &'static str,
    unit: &'static str,
    totals: Range<u64>,
    /// Units done in one step.
    steps: Range<u64>,
    /// Milliseconds between steps: a pace that a person can follow.
    gaps_ms: Range<u64>,
    /// Bytes generated and hashed for one unit.
    unit_bytes: usize,
    /// A unit fails where the first 16 bits of its digest are below this.
    fails_below: u16,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "build",
        unit: "files",
        totals: 30..60,
        steps: 1..3,
        gaps_ms: 150..600,
        unit_bytes: 32 << 10,
        fails_below: 0x80, // 1 in 512 files: about one build in twelve
    },
    Kind {
        name: "checksum",
        unit: "MiB",
        totals: 48..128,
        steps: 1..4,
        gaps_ms: 200..450,
        unit_bytes: 1 << 20,
        fails_below: 0,
    },
    Kind {
        name: "test",
        unit: "tests",
        totals: 60..150,
        steps: 1..7,
        gaps_ms: 200..500,
        unit_bytes: 4 << 10,
        fails_below: 0xa0, // 1 in 410 tests: about one run in four
    },
];

/// All jobs.
pub(crate) struct Jobs {
    random: Random,
    n_started: u64,
    slots: Vec<Slot>,
}

/// A place where one job after the other runs.
struct Slot {
    job: Option<Job>,
    next_at: Instant,
}

struct Job {
    id: String,
    kind: &'static Kind,
    random: Random,
    done: u64,
    total: u64,
    state: State,
}

impl Jobs {
    /// The first job starts at `now`.
    pub(crate) fn new(seed: u64, now: Instant) -> Self {
        let slot = |n| Slot { job: None, next_at: now + Duration::from_millis(STAGGER_MS * (n / 2)) };
        Self { random: Random::new(seed), n_started: 0, slots: (0..SLOTS).map(slot).collect() }
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Instant {
        self.slots.iter().map(|slot| slot.next_at).min().expect("there are slots")
    }

    /// Moves each job that is due on by one step, the next one after its gap.
    pub(crate) fn step(&mut self, now: Instant) -> Vec<(String, Progress)> {
        let mut reports = Vec::new();
        for slot in &mut self.slots {
            if slot.next_at > now {
                continue;
            }
            let gap_ms = match &mut slot.job {
                Some(job) if job.is_finished() => {
                    // The next step of this slot starts another.
                    slot.job = None;
                    0
                }
                Some(job) => {
                    job.step();
                    reports.push(job.report());
                    job.random.within(if job.is_finished() { REST_MS } else { job.kind.gaps_ms.clone() })
                }
                None => {
                    let mut job = Job::new(self.n_started, Random::new(self.random.next()));
                    self.n_started += 1;
                    reports.push(job.report());
                    let gap_ms = job.random.within(job.kind.gaps_ms.clone());
                    slot.job = Some(job);
                    gap_ms
                }
            };
            slot.next_at = now + Duration::from_millis(gap_ms);
        }
        reports
    }

    /// How far each job has come, for whoever has just come.
    pub(crate) fn current(&self) -> Vec<(String, Progress)> {
        self.slots.iter().filter_map(|slot| slot.job.as_ref()).map(Job::report).collect()
    }
}

impl Job {
    fn new(n: u64, mut random: Random) -> Self {
        let kind = &KINDS[(n % KINDS.len() as u64) as usize];
        let total = random.within(kind.totals.clone());
        Self {
            id: format!("{}-{}", kind.name, n % NUMBERS + 1),
            kind,
            random,
            done: 0,
            total,
            state: State::Started,
        }
    }

    fn is_finished(&self) -> bool {
        matches!(self.state, State::Done | State::Failed)
    }

    /// Does some units; stops at one that fails.
    fn step(&mut self) {
        let n_units = self.random.within(self.kind.steps.clone()).min(self.total - self.done);
        let mut data = vec![0; self.kind.unit_bytes];
        self.state = State::Running;
        for _ in 0..n_units {
            self.random.fill(&mut data);
            let digest = Sha1::digest(&data);
            if u16::from_be_bytes([digest[0], digest[1]]) < self.kind.fails_below {
                self.state = State::Failed;
                return;
            }
            self.done += 1;
        }
        if self.done == self.total {
            self.state = State::Done;
        }
    }

    fn report(&self) -> (String, Progress) {
        let progress = Progress {
            job: self.id.clone(),
            done: self.done,
            total: self.total,
            unit: self.kind.unit.to_owned(),
            state: self.state.into(),
        };
        (format!("jobs/{}", self.id), progress)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// The reports of the first `n` steps, each taken when it is due.
    fn run(seed: u64, n: usize) -> Vec<(String, Progress)> {
        let mut jobs = Jobs::new(seed, Instant::now());
        (0..n).flat_map(|_| jobs.step(jobs.next_at())).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_jobs() {
        assert_eq!(run(1, 200), run(1, 200));
        assert_ne!(run(1, 200), run(2, 200));
    }

    /// Every job starts, runs without going back, and ends done (with all its units) or failed (with fewer), once.
    #[test]
    fn jobs_live_one_life() {
        let mut lives: HashMap<String, Progress> = HashMap::new();
        let mut ends = HashMap::new();
        for (topic, progress) in run(3, 2_500) {
            assert_eq!(topic, format!("jobs/{}", progress.job));
            let before = lives.insert(topic, progress.clone());
            match (before.as_ref().map(Progress::state), progress.state()) {
                // Numbers start over.
                (None | Some(State::Done | State::Failed), State::Started) => assert_eq!(progress.done, 0),
                (Some(State::Started | State::Running), State::Running) => {
                    assert!(progress.done > before.unwrap().done && progress.done < progress.total);
                }
                (Some(State::Started | State::Running), end @ (State::Done | State::Failed)) => {
                    assert_eq!(progress.done == progress.total, end == State::Done, "{progress:?}");
                    *ends.entry(end as i32).or_insert(0) += 1;
                }
                (before, after) => panic!("{before:?} → {after:?}: {progress:?}"),
            }
        }
        let units: HashSet<_> = lives.values().map(|progress| progress.unit.as_str()).collect();
        assert_eq!(units, HashSet::from(["files", "MiB", "tests"]));
        let [done, failed] =
            [State::Done, State::Failed].map(|end| ends.get(&(end as i32)).copied().unwrap_or(0));
        assert!(done > failed && failed > 0, "{done} done, {failed} failed");
    }

    #[test]
    fn jobs_overlap_and_last_some_seconds() {
        let start = Instant::now();
        let mut jobs = Jobs::new(5, start);
        assert_eq!(jobs.step(start).len(), 2, "something to see at once");
        while jobs.next_at() < start + Duration::from_secs(2) {
            jobs.step(jobs.next_at());
        }
        let current = jobs.current();
        assert_eq!(current.len() as u64, SLOTS);
        assert!(current.iter().all(|(_, progress)| progress.state() == State::Running), "{current:?}");
    }
}
