//! `storm`: everybody comes, is sent what it has missed, leaves at once, and comes again.

use trestle_process::exit::Exit;

use super::replay::{Receiver, Replay};
use super::scene::{Scene, TICK};
use crate::clock::seconds;
use crate::host::machine::{self, Counters};
use crate::output::Progress;
use crate::report::{Client, Connect, Memory, Round, Run};
use crate::swarm::{Connected, Deaf};

/// A server has this long to notice that everybody has left, seconds.
const LEAVE_S: f64 = 20.0;
/// Files that a server may have more than before, though all clients are gone: its own connections.
const FILES_SLACK: u64 = 4;
/// A server's memory has come to rest when it has not become less for this long, seconds: what is freed goes back to the
/// system some time later.
const REST_S: f64 = 2.5;
/// It is looked at after this at the latest, seconds.
const REST_S_MAX: f64 = 20.0;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Storm {
    pub(super) rounds: u64,
    pub(super) replay: Option<Replay>,
}

impl Storm {
    pub(super) fn run(&self, scene: &mut Scene, progress: &Progress) -> Result<Run, Exit> {
        if let Some(replay) = &self.replay {
            replay.prepare(scene, progress)?;
            rest(scene)?;
        }
        let before = scene.processes.memory();
        let pages = machine::tcp_pages();
        let (machine, began_ns) = (Counters::now(), scene.clock.now_ns());
        let (reader_ns, process_ns) = (machine::thread_cpu_ns(), machine::process_cpu_ns());
        let (mut all, mut memory) = (Vec::new(), None);
        for nth in 0..self.rounds {
            progress.say(&format!("round {} of {}", nth + 1, self.rounds));
            let (round, connected) = self.round(scene, before, progress)?;
            if nth == 0 {
                memory = first(scene, before, connected, machine::tcp_pages() - pages, round.connect.ready);
            }
            all.push(round);
        }
        let elapsed_s = seconds(scene.clock.now_ns() - began_ns);
        let cpu_s = seconds(machine::process_cpu_ns() - process_ns);
        let reader_cpu_s = seconds(machine::thread_cpu_ns() - reader_ns);
        let client =
            Client { cpu_s, reader_cpu_s, core_share: reader_cpu_s / elapsed_s, ..Client::default() };
        let steal_share = Counters::now().steal_share(&machine);
        let rss_peak_kib = all.iter().filter_map(|round: &Round| round.rss_peak_kib).max();
        let memory = memory.map(|memory| Memory { rss_peak_kib, ..end(scene, memory) });
        Ok(Run { connect: together(&all), memory, rounds: all, client, steal_share, ..Run::default() })
    }

    /// Everybody comes, gets what it has missed, and leaves.
    fn round(&self, scene: &mut Scene, before: Sample, progress: &Progress) -> Result<(Round, Sample), Exit> {
        scene.processes.forget_peak();
        let mut receiver = Receiver::new(scene, self.replay.as_ref());
        let Connected { connect, first_failure } = scene.connect(&mut receiver, progress)?;
        if let (0, Some(reason)) = (connect.ready, first_failure) {
            return Err(Exit::unavailable(format!("no connection to {}: {reason}", scene.target)));
        }
        receiver.wait(scene, progress)?;
        // What comes though it is too much comes now.
        scene.rest(scene.settle_s(), &mut receiver)?;
        let connected = scene.processes.memory();
        let rss_peak_kib = scene.processes.rss_peak_kib();
        let replay = receiver.result(scene);
        scene.swarm.leave();
        let left_s = before.files.and_then(|files| leave(scene, files + FILES_SLACK));
        rest(scene)?;
        let after = scene.processes.memory();
        let known = |kib: u64| (!scene.processes.is_empty()).then_some(kib);
        let round = Round {
            connect,
            replay,
            rss_connected_kib: known(connected.rss_kib),
            rss_peak_kib,
            rss_after_kib: known(after.rss_kib),
            files_connected: known(0).and(connected.files),
            files_after: known(0).and(after.files),
            left_s: known(0).and(left_s),
        };
        Ok((round, connected))
    }
}

/// Waits until the server's memory has come to rest.
fn rest(scene: &mut Scene) -> Result<(), Exit> {
    scene.rest(scene.settle_s(), &mut Deaf)?;
    if scene.processes.is_empty() {
        return Ok(());
    }
    let began_ns = scene.clock.now_ns();
    let (mut least_kib, mut least_ns) = (u64::MAX, began_ns);
    loop {
        scene.turn(TICK, &mut Deaf)?;
        let (now_ns, rss_kib) = (scene.clock.now_ns(), scene.processes.rss_kib());
        if rss_kib < least_kib {
            (least_kib, least_ns) = (rss_kib, now_ns);
        }
        if seconds(now_ns - least_ns) > REST_S || seconds(now_ns - began_ns) > REST_S_MAX {
            return Ok(());
        }
    }
}

/// Waits until the server has no more files than `files`; says how long that took.
fn leave(scene: &Scene, files: u64) -> Option<f64> {
    let began_ns = scene.clock.now_ns();
    loop {
        let took_s = seconds(scene.clock.now_ns() - began_ns);
        if scene.processes.files()? <= files {
            return Some(took_s);
        }
        if took_s > LEAVE_S {
            return None;
        }
        std::thread::sleep(TICK);
    }
}

type Sample = crate::host::processes::MemorySample;

fn first(scene: &Scene, before: Sample, connected: Sample, tcp_pages: i64, ready: u64) -> Option<Memory> {
    (!scene.processes.is_empty()).then(|| Memory {
        rss_before_kib: before.rss_kib,
        rss_idle_kib: connected.rss_kib,
        rss_end_kib: connected.rss_kib,
        rss_peak_kib: None,
        rss_kib_per_connection: (connected.rss_kib as f64 - before.rss_kib as f64) / ready.max(1) as f64,
        pss_before_kib: before.pss_kib,
        pss_idle_kib: connected.pss_kib,
        tcp_pages,
        files_before: before.files,
        files_end: connected.files,
    })
}

fn end(scene: &Scene, memory: Memory) -> Memory {
    let end = scene.processes.memory();
    Memory { rss_end_kib: end.rss_kib, files_end: end.files, ..memory }
}

/// All rounds as one: sums, and of quantiles the worst.
fn together(rounds: &[Round]) -> Connect {
    let sum = |value: fn(&Connect) -> f64| rounds.iter().map(|round| value(&round.connect)).sum::<f64>();
    let seconds = sum(|connect| connect.seconds);
    let ready: u64 = rounds.iter().map(|round| round.connect.ready).sum();
    let worst =
        rounds.iter().map(|round| round.connect.handshake).max_by(|a, b| a.p99_us.total_cmp(&b.p99_us));
    let cpu = sum(|connect| connect.server_cpu_us_per_handshake.unwrap_or(0.0) * connect.ready as f64);
    let has_cpu = rounds.iter().all(|round| round.connect.server_cpu_us_per_handshake.is_some());
    Connect {
        ready,
        failed: rounds.iter().map(|round| round.connect.failed).sum(),
        seconds,
        handshakes_per_s: ready as f64 / seconds.max(1e-9),
        handshake: worst.unwrap_or_default(),
        server_cpu_us_per_handshake: has_cpu.then(|| cpu / ready.max(1) as f64),
    }
}
