//! `idle`: clients that stay and get nothing.

use trestle_process::exit::Exit;

use super::scene::{Scene, TICK};
use crate::clock::seconds;
use crate::host::machine::{self, Counters};
use crate::output::Progress;
use crate::report::{Client, Idle, Run};
use crate::swarm::Deaf;

pub(super) fn run(scene: &mut Scene, stay_s: f64, progress: &Progress) -> Result<Run, Exit> {
    let (connect, memory) = scene.everybody(progress)?;
    progress.count("staying", (stay_s * 1e3) as u64);
    let (server, machine, swarm) = (scene.cpu(), Counters::now(), scene.swarm.counts());
    let (reader_ns, process_ns) = (machine::thread_cpu_ns(), machine::process_cpu_ns());
    let began_ns = scene.clock.now_ns();
    let mut stayed_s = 0.0;
    while stayed_s < stay_s {
        scene.turn(TICK, &mut Deaf)?;
        stayed_s = seconds(scene.clock.now_ns() - began_ns);
        progress.at((stayed_s * 1e3) as u64);
    }
    let cpu_s = seconds(machine::process_cpu_ns() - process_ns);
    let reader_cpu_s = seconds(machine::thread_cpu_ns() - reader_ns);
    let server_cpu = server.map(|before| scene.processes.cpu().since(&before, stayed_s));
    let counts = scene.swarm.counts();
    let client_seconds = f64::from(scene.clients()) * stayed_s;
    let idle = Idle {
        seconds: stayed_s,
        disconnected: counts.disconnected - swarm.disconnected,
        pings: counts.pings - swarm.pings,
        server_cpu_us_per_client_second: server_cpu.as_ref().map(|cpu| cpu.total_s * 1e6 / client_seconds),
        server_cpu,
    };
    let client = Client { cpu_s, reader_cpu_s, core_share: reader_cpu_s / stayed_s, ..Client::default() };
    let steal_share = Counters::now().steal_share(&machine);
    let memory = memory.finish(scene, None);
    Ok(Run { connect, memory, idle: Some(idle), client, steal_share, ..Run::default() })
}
