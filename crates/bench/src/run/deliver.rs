//! Publishing and counting: `fanout`, `latency`, `topics` and `forwarder`.

use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use trestle_process::exit::Exit;

use super::scene::Scene;
use super::warm_up;
use crate::body::Body;
use crate::clock::{nanoseconds, seconds};
use crate::flags::{Check, Load};
use crate::host::machine::{self, Counters};
use crate::host::processes::CpuSample;
use crate::marker::{Mark, WARM_UP};
use crate::output::Progress;
use crate::publish::pace::{Pace, Plan, Publishing, Watch, acknowledged};
use crate::report::{Client, Delivery, Run, Settings};
use crate::swarm::{Counts, Sink};
use crate::tally::{Layout, Tally};

/// How long a wait for deliveries is at most.
const TICK: Duration = Duration::from_millis(10);
/// How often memory and progress are looked at, ns.
const LOOK_NS: u64 = 100_000_000;
/// After the last delivery that was due: time for those that are too many to show, ns.
const AFTERMATH_NS: u64 = 50_000_000;
/// Numbers that are made room for beforehand, so that a growing list is copied seldom.
const MESSAGES_ROOM: u64 = 1 << 20;
/// Above this part of a core the client may be what is slow.
const LIMITED_SHARE: f64 = 0.9;

/// What is published and how it is judged.
#[derive(Debug)]
pub(super) struct Deliver {
    plan: Plan,
    layout: Layout,
    pub(super) size: usize,
    warm_up: u64,
    give_up_ns: u64,
    spin: bool,
    pub(super) verify: bool,
    seconds: f64,
}

/// Counts, and asks for how much was published where it must know.
struct Receiver {
    tally: Tally,
    watch: Watch,
    published: u64,
    broken: u64,
}

impl Sink for Receiver {
    fn mark(&mut self, client: u32, mark: Mark, now_ns: u64) {
        if mark.seq >= WARM_UP {
            return;
        }
        if u64::from(mark.seq) >= self.published {
            self.published = self.watch.published();
        }
        self.tally.deliver(client, mark, now_ns, self.published);
    }

    fn broken(&mut self) {
        self.broken += 1;
    }
}

/// Everything that is counted by somebody else, before and after.
struct Samples {
    server: Option<CpuSample>,
    machine: Counters,
    reader_ns: u64,
    waited_ns: u64,
    process_ns: u64,
    swarm: Counts,
    at_ns: u64,
}

impl Samples {
    fn take(scene: &Scene) -> Self {
        Self {
            server: scene.cpu(),
            machine: Counters::now(),
            reader_ns: machine::thread_cpu_ns(),
            waited_ns: machine::thread_waited_ns(),
            process_ns: machine::process_cpu_ns(),
            swarm: scene.swarm.counts(),
            at_ns: scene.clock.now_ns(),
        }
    }
}

impl Deliver {
    pub(super) fn new(load: &Load, check: Check, plan: Plan, layout: Layout) -> Self {
        Self {
            size: plan.body.size(),
            plan,
            layout,
            warm_up: load.warm_up,
            give_up_ns: nanoseconds(load.give_up),
            spin: load.spin,
            verify: check.verify,
            seconds: load.seconds,
        }
    }

    pub(super) fn settings(&self, settings: Settings) -> Settings {
        let (rate_per_s, in_flight) = match self.plan.pace {
            Pace::Open { per_second } => (Some(per_second), None),
            Pace::Closed { in_flight } => (None, Some(NonZeroU64::get(in_flight))),
        };
        Settings {
            topics: self.plan.topics.len() as u64,
            size: self.size as u64,
            rate_per_s,
            in_flight,
            seconds: self.seconds,
            messages: self.plan.messages,
            verify: self.verify,
            spin: self.spin,
            ..settings
        }
    }

    /// One run; `is_bound` says that the whole process shares one core.
    pub(super) fn run(&self, scene: &mut Scene, progress: &Progress, is_bound: bool) -> Result<Run, Exit> {
        let (connect, memory) = scene.everybody(progress)?;
        let mut publisher = scene.publisher.take().expect("the flags were checked for one");
        let body = Body::new(self.size, scene.marker.clone());
        progress.say("warming up");
        warm_up::run(scene, &mut publisher, &body, &self.plan.topics, self.warm_up)?;

        let counts = scene.swarm.counts();
        if counts.disconnected > 0 {
            let (count, target, closes) = (counts.disconnected, &scene.target, counts.closes);
            let reason =
                format!("{count} clients were disconnected by {target} before the measurement: {closes:?}");
            return Err(Exit::unavailable(reason));
        }

        progress.count("delivering", self.plan.length_ns / 1_000_000);
        let before = Samples::take(scene);
        let plan = Plan { body, ..self.plan.clone() };
        let failed = |error| Exit::os(format!("cannot start the publisher's thread: {error}"));
        let mut publishing = Publishing::start(publisher, plan, scene.clock).map_err(failed)?;
        let mut receiver = Receiver {
            tally: Tally::new(self.layout, self.plan.messages_max().min(MESSAGES_ROOM) as usize),
            watch: publishing.watch(),
            published: 0,
            broken: 0,
        };
        let mut follow = self.follow(scene, &mut publishing, &mut receiver, progress)?;
        let after = Samples::take(scene);
        let memory = memory.finish(scene, follow.rss_peak_kib);
        let watch = publishing.watch();
        let published = publishing.join()?;
        self.aftermath(scene, &mut receiver)?;

        follow.published = watch.published();
        follow.late_max_ns = published.late_max_ns;
        follow.began_ns = watch.began_ns();
        let delivery = delivery(&receiver, &follow, &before, &after);
        let client = self.client(&before, &after, delivery.delivered, is_bound);
        let steal_share = after.machine.steal_share(&before.machine);
        Ok(Run { connect, memory, delivery: Some(delivery), client, steal_share, ..Run::default() })
    }

    /// Until everything that was published is delivered, or nothing more comes.
    fn follow(
        &self,
        scene: &mut Scene,
        publishing: &mut Publishing,
        receiver: &mut Receiver,
        progress: &Progress,
    ) -> Result<Follow, Exit> {
        let timeout = if self.spin { Duration::ZERO } else { TICK };
        let mut follow = Follow::default();
        let mut looked_ns = scene.clock.now_ns();
        let (begun_ns, mut moved_ns, mut seen) = (looked_ns, looked_ns, (0, 0));
        loop {
            let turned = scene.turn(timeout, receiver)?;
            if self.spin && turned == 0 {
                // The publisher may be bound to the same core.
                thread::yield_now();
            }
            if let Pace::Closed { in_flight } = self.plan.pace {
                let Tally { delivered, complete, .. } = receiver.tally;
                publishing.acknowledge(acknowledged(delivered, self.layout.fan(), complete, in_flight));
            }
            // In this order: what is published after it is done is nothing.
            let (is_done, published) = (publishing.is_done(), publishing.published());
            let is_due = receiver.tally.delivered < receiver.tally.expected(published);
            if is_done && !is_due {
                return Ok(follow);
            }
            let now_ns = scene.clock.now_ns();
            if !is_due || seen != (published, receiver.tally.delivered) {
                (moved_ns, seen) = (now_ns, (published, receiver.tally.delivered));
            } else if now_ns - moved_ns > self.give_up_ns {
                follow.stalled = true;
                publishing.stop();
                if is_done {
                    return Ok(follow);
                }
            }
            if now_ns - looked_ns > LOOK_NS {
                looked_ns = now_ns;
                progress.at((now_ns - begun_ns) / 1_000_000);
                if !scene.processes.is_empty() {
                    follow.rss_peak_kib = follow.rss_peak_kib.max(Some(scene.processes.rss_kib()));
                }
            }
        }
    }

    /// A server may send the last messages twice, or those that were given up after all.
    fn aftermath(&self, scene: &mut Scene, receiver: &mut Receiver) -> Result<(), Exit> {
        let until_ns = scene.clock.now_ns() + AFTERMATH_NS;
        while scene.clock.now_ns() < until_ns {
            scene.turn(TICK, receiver)?;
        }
        Ok(())
    }

    fn client(&self, before: &Samples, after: &Samples, delivered: u64, is_bound: bool) -> Client {
        let elapsed_s = seconds(after.at_ns - before.at_ns).max(1e-9);
        let cpu_s = seconds(after.process_ns - before.process_ns);
        let reader_cpu_s = seconds(after.reader_ns - before.reader_ns);
        let waited_s = seconds(after.waited_ns.saturating_sub(before.waited_ns));
        let core_share = if is_bound { cpu_s } else { reader_cpu_s } / elapsed_s;
        let per_delivery = |cpu_s: f64| (delivered > 0).then(|| cpu_s * 1e6 / delivered as f64);
        Client {
            cpu_s,
            reader_cpu_s,
            cpu_us_per_delivery: per_delivery(cpu_s),
            reader_cpu_us_per_delivery: per_delivery(reader_cpu_s),
            reader_waited_s: waited_s,
            core_share,
            limited: !self.spin && core_share.max((reader_cpu_s + waited_s) / elapsed_s) > LIMITED_SHARE,
        }
    }
}

/// What was seen beside the deliveries.
#[derive(Debug, Default)]
struct Follow {
    stalled: bool,
    rss_peak_kib: Option<u64>,
    published: u64,
    began_ns: u64,
    late_max_ns: u64,
}

fn delivery(receiver: &Receiver, follow: &Follow, before: &Samples, after: &Samples) -> Delivery {
    let (tally, published) = (&receiver.tally, follow.published);
    let delivered = tally.delivered;
    let took_s = seconds(tally.last_ns.saturating_sub(follow.began_ns)).max(1e-9);
    let counted = Delivery {
        published,
        seconds: took_s,
        messages_per_s: published as f64 / took_s,
        complete: tally.complete,
        expected: tally.expected(published),
        delivered,
        deliveries_per_s: delivered as f64 / took_s,
        lost: tally.lost(published),
        duplicated: tally.duplicated,
        out_of_order: tally.out_of_order,
        misrouted: tally.misrouted,
        corrupted: tally.corrupted + receiver.broken,
        stalled: follow.stalled,
        latency: tally.latency(),
        last_client: tally.last_client(),
        publisher_late_max_us: follow.late_max_ns as f64 / 1e3,
        ..Delivery::default()
    };
    with_server(with_wire(counted, before, after), before, after)
}

/// Adds what the sockets saw.
fn with_wire(delivery: Delivery, before: &Samples, after: &Samples) -> Delivery {
    let delivered = delivery.delivered.max(1) as f64;
    let (old, new) = (&before.swarm, &after.swarm);
    let (bytes, frames, reads) = (new.bytes - old.bytes, new.frames - old.frames, new.reads - old.reads);
    let segments = after.machine.data_segments(&before.machine);
    Delivery {
        wire_bytes: bytes,
        wire_bytes_per_delivery: bytes as f64 / delivered,
        frames,
        reads,
        frames_per_read: frames as f64 / reads.max(1) as f64,
        tcp_segments_per_delivery: segments.map(|segments| segments as f64 / delivered),
        pings: new.pings - old.pings,
        disconnected: new.disconnected - old.disconnected,
        // Nobody had gone before, or there would have been no measurement.
        closes: new.closes.clone(),
        ..delivery
    }
}

/// Adds what the server used.
fn with_server(delivery: Delivery, before: &Samples, after: &Samples) -> Delivery {
    let (Some(old), Some(new)) = (&before.server, &after.server) else { return delivery };
    let cpu = new.since(old, seconds(after.at_ns - before.at_ns));
    let per = |cpu_s: f64, count: u64| (count > 0).then(|| cpu_s * 1e6 / count as f64);
    Delivery {
        server_cpu_us_per_delivery: per(cpu.total_s, delivery.delivered),
        server_user_us_per_delivery: per(cpu.user_s, delivery.delivered),
        server_system_us_per_delivery: per(cpu.system_s, delivery.delivered),
        server_cpu_us_per_message: per(cpu.total_s, delivery.published),
        server_cpu: Some(cpu),
        ..delivery
    }
}
