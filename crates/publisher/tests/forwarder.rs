//! The program in front of a real forwarder: what it publishes is read on the forwarder's backend.

mod support;

use std::collections::HashMap;

use support::{Program, Subscriber};
use trestle_messages::v1::event::Body;
use trestle_publisher::Config;

/// A forwarder on free ports; it stops when dropped.
struct Forwarder {
    running: trestle_forwarder::Running,
    _runtime: tokio::runtime::Runtime,
}

fn forwarder() -> Forwarder {
    let ports = ["--frontend", "--backend", "--link", "--grpc", "--metrics"];
    let args =
        ["trestle-forwarder"].into_iter().chain(ports.into_iter().flat_map(|flag| [flag, "127.0.0.1:0"]));
    let config = trestle_process::config::parse(args, &HashMap::new()).expect("these flags are right");
    // It serves only gRPC and metrics: messages are moved by a thread of the forwarder's own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it needs no more");
    let running = runtime.block_on(trestle_forwarder::start(config)).expect("it starts");
    Forwarder { running, _runtime: runtime }
}

#[test]
fn a_line_is_read_on_the_backend() {
    let forwarder = forwarder();
    let subscriber = Subscriber::connected(&forwarder.running.backend, &[b"jobs/"]);
    subscriber.settle(&forwarder.running.frontend, b"jobs/");
    let args = ["--stdin", "--topic", "jobs/42", "--connect", &forwarder.running.frontend];
    let mut program = Program::run(&args, &[]);
    program.write(b"hi\n");
    let (topic, event) = subscriber.event();
    assert_eq!((topic.as_str(), event.body), ("jobs/42", Some(Body::Text("hi".to_owned()))));
    program.succeed();
}

#[test]
fn the_last_of_10_000_lines_passes_the_forwarder() {
    let forwarder = forwarder();
    let subscriber = Subscriber::connected(&forwarder.running.backend, &[b"log"]);
    subscriber.settle(&forwarder.running.frontend, b"log");
    let args = ["--stdin", "--raw", "--topic", "log", "--connect", &forwarder.running.frontend];
    let mut program = Program::run(&args, &[]);
    let lines: String = (1..=10_000).map(|n| format!("{n}\n")).collect();
    program.write(lines.as_bytes());
    program.succeed();
    for n in 1..=10_000 {
        assert_eq!(subscriber.recv(), [b"log", n.to_string().as_bytes()]);
    }
}

#[test]
fn the_demo_is_seen_through_the_forwarder() {
    let forwarder = forwarder();
    let subscriber = Subscriber::connected(&forwarder.running.backend, &[b"system/", b"jobs/"]);
    let running = trestle_publisher::start(Config::demo(&forwarder.running.frontend)).expect("it starts");
    let (mut hosts, mut jobs) = (0, 0);
    while hosts == 0 || jobs == 0 {
        match subscriber.event().1.body {
            Some(Body::Status(_)) => hosts += 1,
            Some(Body::Progress(_)) => jobs += 1,
            other => panic!("{other:?}"),
        }
    }
    running.shutdown().expect("it ends");
}
