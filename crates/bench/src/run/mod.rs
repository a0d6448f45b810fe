//! A whole call: flags to runs, runs to a report, the report to a verdict.

mod deliver;
mod idle;
mod replay;
mod scene;
mod storm;
mod warm_up;

use std::time::SystemTime;

use trestle_process::exit::{self, Exit};

use crate::body::Body;
use crate::clock::nanoseconds;
use crate::flags::{self, Bench, Check, Common, Format, Forwarder, Load, Output, Server, Source, Workload};
use crate::host::machine;
use crate::interrupt;
use crate::marker::Marker;
use crate::output::{self, Progress};
use crate::pattern::Pattern;
use crate::publish::Way;
use crate::publish::pace::{Pace, Plan};
use crate::report::{Report, Run, SCHEMA, Settings, summary};
use crate::tally::Layout;
use deliver::Deliver;
use replay::Replay;
use scene::{Scene, Stage};
use storm::Storm;

/// Does what the flags say and prints what came of it.
///
/// # Errors
/// An [`Exit`] with the codes that `trestle bench --help` lists.
pub fn run(bench: &Bench) -> anyhow::Result<()> {
    interrupt::watch()?;
    let report = measure(bench)?;
    output::print(&report, bench.output().json)?;
    Ok(verdict(&report, bench.is_strict())?)
}

/// Does what the flags say.
///
/// # Errors
/// An [`Exit`] that says why nothing could be measured.
pub fn measure(bench: &Bench) -> anyhow::Result<Report> {
    let mut job = Job::of(&bench.workload)?;
    trestle_process::zmq::check_build()?;
    machine::raise_files(job.sockets())?;
    job.stage.cores = machine::cores();
    if let Some(core) = job.output.cpu {
        machine::bind_to_core("--cpu", core)?;
    }
    let (runs, settings) = job.run_all()?;
    Ok(Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        workload: job.name.to_owned(),
        settings,
        summary: summary(&runs),
        runs,
    })
}

/// The flags as usable: what is the same in each run.
#[derive(Debug)]
struct Job {
    name: &'static str,
    stage: Stage,
    work: Work,
    output: Output,
}

/// What happens between connecting and leaving.
#[derive(Debug)]
enum Work {
    Deliver(Box<Deliver>),
    Idle { seconds: f64 },
    Storm(Storm),
}

impl Work {
    fn deliver(load: &Load, check: Check, plan: Plan, layout: Layout) -> Self {
        Self::Deliver(Box::new(Deliver::new(load, check, plan, layout)))
    }
}

/// The topic where no flag names one.
const TOPIC: &str = "bench";
/// The topics where each client has its own.
const TOPIC_EACH: &str = "bench/{i:05}";

impl Job {
    fn of(workload: &Workload) -> Result<Self, Exit> {
        match workload {
            Workload::Fanout(flags) => {
                let load = (&flags.load, flags.check, pace(flags.rate, flags.in_flight));
                Self::shared_topic("fanout", load, flags.stall, &flags.source, &flags.common)
            }
            Workload::Latency(flags) => {
                let load = (&flags.load, flags.check, Pace::Open { per_second: flags.rate });
                Self::shared_topic("latency", load, flags.stall, &flags.source, &flags.common)
            }
            Workload::Topics(flags) => {
                let pattern = Pattern::new(flags.source.topic.as_deref().unwrap_or(TOPIC_EACH));
                if !pattern.has_number() {
                    return Err(Exit::usage("--topic: needs {i} or {i:05}, so that each client has its own"));
                }
                let topics = (0..flags.common.clients.clients).map(|nth| pattern.fill(nth, "")).collect();
                let plan = plan(&flags.load, pace(flags.rate, flags.in_flight), topics, flags.source.size);
                let layout = Layout::OneEach { clients: count(flags.common.clients.clients) };
                let work = Work::deliver(&flags.load, flags.check, plan, layout);
                Self::new("topics", pattern, 0, work, Way::of(&flags.source)?, &flags.common)
            }
            Workload::Idle(flags) => {
                let work = Work::Idle { seconds: flags.seconds };
                Self::new("idle", Pattern::new(&flags.topic), 0, work, None, &flags.common)
            }
            Workload::Storm(flags) => Self::storm(flags),
            Workload::Forwarder(flags) => Self::forwarder(flags),
        }
    }

    /// One topic for everybody.
    fn shared_topic(
        name: &'static str,
        (load, check, pace): (&Load, Check, Pace),
        stalled: u64,
        source: &Source,
        common: &Common,
    ) -> Result<Self, Exit> {
        let pattern = Pattern::new(source.topic.as_deref().unwrap_or(TOPIC));
        if pattern.has_number() {
            return Err(Exit::usage(
                "--topic: {i} makes a topic for each client, which is `trestle bench topics`",
            ));
        }
        let way = Way::of(source)?;
        let publishers = way.as_ref().map_or(1, Way::lanes);
        let layout = Layout::Everyone { clients: count(common.clients.clients), publishers };
        let plan = plan(load, pace, vec![pattern.fill(0, "")], source.size);
        Self::new(name, pattern, stalled, Work::deliver(load, check, plan, layout), way, common)
    }

    fn storm(flags: &flags::Storm) -> Result<Self, Exit> {
        let pattern = Pattern::new(flags.source.topic.as_deref().unwrap_or(TOPIC));
        let way = Way::of(&flags.source)?;
        let Some(messages) = flags.replay else {
            if way.is_some() {
                return Err(Exit::usage("--publish, --publish-bind: without --replay nothing is published"));
            }
            let work = Work::Storm(Storm { rounds: flags.rounds, replay: None });
            return Self::new("storm", pattern, 0, work, None, &flags.common);
        };
        let clients = &flags.common.clients;
        if clients.format != Format::Json || !clients.send.is_empty() || clients.wait_for.is_some() {
            return Err(Exit::usage(
                "--replay: only in format trestle.v1.json, without --send and --wait-for",
            ));
        }
        if pattern.has_number() {
            return Err(Exit::usage(
                "--topic: with --replay everybody has missed the same, so {i} has no meaning",
            ));
        }
        let topic = pattern.fill(0, "");
        let replay = Replay { messages, topic, size: flags.source.size, give_up_s: flags.give_up };
        let work = Work::Storm(Storm { rounds: flags.rounds, replay: Some(replay) });
        Self::new("storm", pattern, 0, work, way, &flags.common)
    }

    fn new(
        name: &'static str,
        topic: Pattern,
        stalled: u64,
        work: Work,
        way: Option<Way>,
        common: &Common,
    ) -> Result<Self, Exit> {
        let publishes = match &work {
            Work::Deliver(_) => true,
            Work::Idle { .. } => false,
            Work::Storm(storm) => storm.replay.is_some(),
        };
        match (&common.clients.url, &way) {
            (None, Some(way)) if !matches!(way, Way::Bind(_)) => {
                return Err(Exit::usage(
                    "--publish: needs --url; an edge that the run starts is fed directly",
                ));
            }
            (Some(_), None) if publishes => {
                return Err(Exit::usage(
                    "--url: needs --publish URL or --publish-bind ADDRESS, the way in for what the clients are to get",
                ));
            }
            (Some(_), _) => external(&common.server)?,
            _ => {}
        }
        let stage = Stage::edge(common.clients.clone(), common.server.clone(), topic, way, stalled);
        Ok(Self { name, stage, work, output: common.output.clone() })
    }

    fn forwarder(flags: &Forwarder) -> Result<Self, Exit> {
        if flags.backend.is_some() {
            external(&flags.server)?;
        }
        if Pattern::new(&flags.topic).has_number() {
            return Err(Exit::usage("--topic: {i} has no meaning here"));
        }
        let (clients, publishers) = (count(flags.subscribers), count(flags.publishers));
        let plan =
            plan(&flags.load, pace(flags.rate, flags.in_flight), vec![flags.topic.clone()], flags.size);
        let check = Check { verify: false };
        let work = Work::deliver(&flags.load, check, plan, Layout::Everyone { clients, publishers });
        let stage = Stage::forwarder(flags)?;
        Ok(Self { name: "forwarder", stage, work, output: flags.output.clone() })
    }

    /// Sockets at a time.
    fn sockets(&self) -> u64 {
        u64::from(self.stage.clients()) + u64::from(self.stage.stalled) + self.stage.publishers()
    }

    fn run_all(&self) -> anyhow::Result<(Vec<Run>, Settings)> {
        let (mut runs, mut settings) = (Vec::new(), Settings::default());
        for nth in 1..=self.output.runs {
            let progress = Progress::new(self.name, nth, self.output.runs);
            let run = self.one(&progress, &mut settings);
            progress.finish();
            runs.push(run?);
        }
        Ok((runs, settings))
    }

    fn one(&self, progress: &Progress, settings: &mut Settings) -> anyhow::Result<Run> {
        let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let marker = Marker::new(began.subsec_nanos().into());
        let verify = match &self.work {
            Work::Deliver(deliver) if deliver.verify => {
                Some(std::sync::Arc::new(Body::new(deliver.size, marker.clone())))
            }
            _ => None,
        };
        progress.say("starting");
        let mut scene = self.stage.open(marker, verify)?;
        *settings = self.settings(&scene);
        let run = match &self.work {
            Work::Deliver(work) => work.run(&mut scene, progress, self.output.cpu.is_some()),
            Work::Idle { seconds } => idle::run(&mut scene, *seconds, progress),
            Work::Storm(storm) => storm.run(&mut scene, progress),
        };
        Ok(Run { unix_time_s: began.as_secs(), ..run? })
    }

    fn settings(&self, scene: &Scene) -> Settings {
        let settings = Settings {
            target: scene.target.clone(),
            started: scene.program(),
            format: self.stage.format().to_owned(),
            clients: self.stage.clients().into(),
            stalled_clients: self.stage.stalled.into(),
            cpu: self.output.cpu.map(|core| core as u64),
            server_cpu: scene.program().and(self.stage.server.server_cpu).map(|core| core as u64),
            ..Settings::default()
        };
        match &self.work {
            Work::Deliver(work) => Settings {
                publisher: scene.publisher.as_ref().map(|publisher| publisher.place().to_owned()),
                publishers: self.stage.publishers(),
                ..work.settings(settings)
            },
            Work::Idle { seconds } => Settings { seconds: *seconds, ..settings },
            Work::Storm(storm) => match &storm.replay {
                Some(replay) => Settings {
                    publisher: scene.publisher.as_ref().map(|publisher| publisher.place().to_owned()),
                    publishers: self.stage.publishers(),
                    topics: 1,
                    size: replay.size,
                    messages: Some(replay.messages),
                    ..settings
                },
                None => settings,
            },
        }
    }
}

/// Flags that only a server of the run's own can obey.
fn external(flags: &Server) -> Result<(), Exit> {
    let given = [
        ("--server", flags.server.is_some()),
        ("--server-flag", !flags.server_flag.is_empty()),
        ("--server-cpu", flags.server_cpu.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            Err(Exit::usage(format!("{flag}: is for a server that the run starts, and here one is named")))
        }
        None => Ok(()),
    }
}

fn pace(rate: Option<f64>, in_flight: std::num::NonZeroU64) -> Pace {
    rate.map_or(Pace::Closed { in_flight }, |per_second| Pace::Open { per_second })
}

/// The body's marks are those of a run, put in when it begins.
fn plan(load: &Load, pace: Pace, topics: Vec<String>, size: u64) -> Plan {
    let body = Body::new(usize::try_from(size).expect("at most 4 MiB"), Marker::new(0));
    Plan { pace, length_ns: nanoseconds(load.seconds), messages: load.messages, topics, body }
}

fn count(number: u64) -> u32 {
    u32::try_from(number).expect("the flags' parsers bound it")
}

/// Whether messages arrived as they should: never twice, in wrong order, on a wrong topic or damaged; and none lost where
/// the load was never more than could be delivered (closed loop), where losses are forbidden (`is_strict`), or where what
/// was missed is sent again.
///
/// # Errors
/// An [`Exit`] with code 1 that counts what went wrong.
pub fn verdict(report: &Report, is_strict: bool) -> Result<(), Exit> {
    let counts_losses = is_strict || report.settings.in_flight.is_some();
    let mut wrong = Vec::new();
    for (nth, delivery) in
        report.runs.iter().enumerate().filter_map(|(nth, run)| Some((nth, run.delivery.as_ref()?)))
    {
        let always = [
            (delivery.duplicated, "duplicated"),
            (delivery.out_of_order, "out of order"),
            (delivery.misrouted, "on a wrong topic"),
            (delivery.corrupted, "damaged"),
        ];
        let losses = [(delivery.lost, "lost"), (delivery.disconnected, "clients disconnected")];
        let losses = losses.into_iter().filter(|_| counts_losses);
        wrong.extend(
            always
                .into_iter()
                .chain(losses)
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("run {}: {count} {what}", nth + 1)),
        );
    }
    for (nth, run) in report.runs.iter().enumerate() {
        let replays =
            run.rounds.iter().enumerate().filter_map(|(at, round)| Some((at, round.replay.as_ref()?)));
        wrong.extend(replays.flat_map(|(at, replay)| {
            let troubles = replay.troubles().into_iter().filter(|(count, _)| *count > 0);
            troubles.map(move |(count, what)| format!("run {}, round {}: {count} {what}", nth + 1, at + 1))
        }));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Exit { code: FAILED, reason: wrong.join(", ") }) }
}

/// The measurement was made and says that messages did not arrive as they should.
const FAILED: u8 = 1;
const _: () = assert!(FAILED != exit::USAGE && FAILED != exit::UNAVAILABLE && FAILED != exit::OS_ERROR);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Delivery, Replayed, Round};

    fn judge(delivery: Delivery, in_flight: Option<u64>, is_strict: bool) -> Result<(), String> {
        let report = Report {
            schema: SCHEMA,
            version: String::new(),
            workload: String::new(),
            settings: Settings { in_flight, ..Settings::default() },
            runs: vec![Run::default(), Run { delivery: Some(delivery), ..Run::default() }],
            summary: summary(&[]),
        };
        verdict(&report, is_strict).map_err(|exit| exit.reason)
    }

    #[test]
    fn what_is_sent_again_must_be_what_was_missed() {
        let round = |replay| Round { replay: Some(replay), ..Round::default() };
        let rounds = vec![
            round(Replayed::default()),
            round(Replayed { lost: 3, before_position: 1, disconnected: 2, ..Replayed::default() }),
        ];
        let report = Report {
            schema: SCHEMA,
            version: String::new(),
            workload: String::new(),
            settings: Settings::default(),
            runs: vec![Run { rounds, ..Run::default() }],
            summary: summary(&[]),
        };
        let reason = verdict(&report, false).unwrap_err().reason;
        let expected = ["3 lost", "1 from before the position", "2 clients disconnected"];
        assert_eq!(reason, expected.map(|what| format!("run 1, round 2: {what}")).join(", "));
    }

    #[test]
    fn losses_count_where_nothing_more_was_offered_than_delivered() {
        let lossy = Delivery { lost: 3, disconnected: 1, ..Delivery::default() };
        let reason = "run 2: 3 lost, run 2: 1 clients disconnected".to_owned();
        assert_eq!(judge(lossy.clone(), Some(64), false), Err(reason.clone()));
        assert_eq!(judge(lossy.clone(), None, true), Err(reason));
        assert_eq!(judge(lossy, None, false), Ok(()));
        let disorder = Delivery { out_of_order: 1, ..Delivery::default() };
        assert_eq!(judge(disorder, None, false), Err("run 2: 1 out of order".to_owned()));
    }
}
