//! The demo's events, as a subscriber sees them.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, and does not see that `listening` is their helper"
)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use support::{Program, Subscriber};
use trestle_messages::v1::event::Body;
use trestle_messages::v1::progress::State;
use trestle_process::curve::CurveFlags;
use trestle_publisher::config::Demo;
use trestle_publisher::{Attach, Config, Running, Task};

fn listening() -> Running {
    let demo = Demo { host: Some("desk".to_owned()), seed: Some(SEED) };
    let attach = Attach::Bind("127.0.0.1:0".parse().unwrap());
    trestle_publisher::start(Config { attach, task: Task::Demo(demo), curve: CurveFlags::default() }).unwrap()
}

/// With this seed a job fails within a few steps, so that a whole life is short.
const SEED: u64 = 1;

#[test]
fn the_first_events_come_at_once() {
    let running = listening();
    let started = Instant::now();
    let subscriber = Subscriber::connected(&running.endpoints()[0], &[b"system/desk/memory"]);
    let (topic, event) = subscriber.event();
    assert_eq!(topic, "system/desk/memory");
    // Connecting is in this, too; the period of readings is a second.
    assert!(started.elapsed() < Duration::from_millis(700), "{:?}", started.elapsed());
    assert_eq!(event.source, "desk");

    // Whoever comes second to the same topic does not wait for the next reading either.
    let started = Instant::now();
    let second = Subscriber::connected(&running.endpoints()[0], &[b"system/desk/memory"]);
    second.event();
    assert!(started.elapsed() < Duration::from_millis(700), "{:?}", started.elapsed());
    running.shutdown().unwrap();
}

#[test]
fn the_host_is_told_in_gauges() {
    let running = listening();
    let subscriber = Subscriber::connected(&running.endpoints()[0], &[b"system/"]);
    let mut ids = HashSet::new();
    let mut gauges = BTreeMap::new();
    while gauges.len() < 5 {
        let (topic, event) = subscriber.event();
        assert!(ids.insert(event.id), "an id came twice");
        let Some(Body::Status(status)) = event.body else { panic!("{topic} is no status") };
        let names: std::collections::BTreeSet<_> = status.gauges.into_keys().collect();
        gauges.insert(topic, names.into_iter().collect::<Vec<_>>().join(" "));
    }
    let gauges: Vec<_> = gauges.iter().map(|(topic, names)| (topic.as_str(), names.as_str())).collect();
    assert_eq!(
        gauges,
        [
            ("system/desk/cpu", "cpu.percent"),
            ("system/desk/disk", "disk.percent disk.total_bytes disk.used_bytes"),
            ("system/desk/load", "load.1m"),
            ("system/desk/memory", "memory.percent memory.total_bytes memory.used_bytes"),
            ("system/desk/network", "network.received_bytes_per_s network.sent_bytes_per_s"),
        ]
    );
    running.shutdown().unwrap();
}

/// Only what is subscribed to leaves the publisher, and a job's reports never go back.
#[test]
fn a_job_starts_runs_and_ends() {
    let running = listening();
    let subscriber = Subscriber::connected(&running.endpoints()[0], &[b"jobs/"]);
    let mut jobs: BTreeMap<String, (State, u64)> = BTreeMap::new();
    loop {
        let (topic, event) = subscriber.event();
        let Some(Body::Progress(progress)) = event.body else { panic!("{topic} is no progress") };
        assert_eq!(topic, format!("jobs/{}", progress.job));
        let after = (progress.state(), progress.done);
        let before = jobs.insert(topic, after);
        assert!(before.is_some() || after == (State::Started, 0), "{progress:?} before its start");
        assert!(before.is_none_or(|before| before <= after), "{before:?} → {after:?}");
        if matches!(after.0, State::Done | State::Failed) {
            assert!(before.is_some_and(|(state, _)| state == State::Running), "{before:?} → {after:?}");
            assert_eq!(after.0 == State::Done, progress.done == progress.total);
            break;
        }
    }
    running.shutdown().unwrap();
}

#[test]
fn it_ends_at_once_though_its_peer_never_came() {
    let nobody = {
        let subscriber = Subscriber::bound(&[]);
        subscriber.endpoint.clone()
    };
    let running = trestle_publisher::start(Config::demo(nobody)).unwrap();
    let asked = Instant::now();
    running.shutdown().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

#[test]
fn a_signal_ends_the_program() {
    let subscriber = Subscriber::bound(&[b""]);
    let program = Program::run(&["--connect", &subscriber.endpoint], &[]);
    subscriber.event();
    program.terminate();
    program.succeed();
}
