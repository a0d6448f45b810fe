//! `trestle bench` as a program, against an edge of the workspace.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::HashMap;
use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::Value;
use tokio::runtime::Runtime;

/// A port that was free a moment ago: the publisher listens there again in each run, so it cannot be any.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An edge in this process, on a publisher that is not there yet.
struct Edge {
    runtime: Runtime,
    running: Option<trestle_edge::Running>,
    source: String,
}

impl Edge {
    fn start() -> Self {
        let source = format!("127.0.0.1:{}", free_port());
        let line = format!(
            "trestle-edge --listen 127.0.0.1:0 --control 127.0.0.1:0 --metrics 127.0.0.1:0 --source tcp://{source}"
        );
        let config = trestle_process::config::parse(line.split_whitespace(), &HashMap::new()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let running = runtime.block_on(trestle_edge::start(config)).unwrap();
        Self { runtime, running: Some(running), source }
    }

    /// `trestle bench` with the flags that aim at this edge, and `line`.
    fn bench(&self, line: &str) -> Output {
        let (address, pid) = (self.running.as_ref().unwrap().address, std::process::id());
        let line = format!("{line} --url ws://{address}/ws --server-pid {pid} --settle 0.05 --json");
        bench(&line)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let ended = self.runtime.block_on(self.running.take().unwrap().shutdown());
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn bench(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trestle")).arg("bench").args(line.split_whitespace()).output().unwrap()
}

/// The only JSON object on standard output; the exit code was 0.
fn report(output: &Output) -> Value {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}: {err} {out}", output.status);
    serde_json::from_str(&out).unwrap()
}

/// What every delivery run of a sound server says.
fn assert_sound(report: &Value, clients: u64) {
    for run in report["runs"].as_array().unwrap() {
        let delivery = &run["delivery"];
        for trouble in ["lost", "duplicated", "out_of_order", "misrouted", "corrupted", "disconnected"] {
            assert_eq!(delivery[trouble], 0, "{trouble}: {delivery}");
        }
        assert!(delivery["published"].as_u64().unwrap() > 0, "{delivery}");
        assert_eq!(delivery["delivered"], delivery["expected"], "{delivery}");
        assert_eq!(run["connect"]["ready"], clients);
        assert!(delivery["server_cpu_us_per_delivery"].as_f64().unwrap() > 0.0, "{delivery}");
        assert!(run["memory"]["rss_idle_kib"].as_u64().unwrap() > 1_000);
        assert!(run["client"]["cpu_us_per_delivery"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn an_edge_delivers_everything_in_each_format() {
    let edge = Edge::start();
    for format in ["trestle.v1.json", "trestle.v1.proto", "rust-websocket"] {
        let line = format!(
            "fanout --format {format} --clients 20 --in-flight 16 --messages 500 --verify --publish-bind {}",
            edge.source
        );
        let report = report(&edge.bench(&line));
        assert_sound(&report, 20);
        assert_eq!(report["settings"]["format"], format);
        assert_eq!(report["runs"][0]["delivery"]["delivered"], 10_000);
    }
}

#[test]
fn a_schedule_and_a_topic_for_each_client_with_some_that_never_read() {
    let edge = Edge::start();
    let line =
        format!("latency --clients 10 --stall 2 --rate 100 --messages 50 --publish-bind {}", edge.source);
    let latency = report(&edge.bench(&line));
    assert_sound(&latency, 12);
    assert_eq!(latency["runs"][0]["delivery"]["latency"]["count"], 500);
    let line = format!("topics --clients 50 --messages 1000 --runs 2 --publish-bind {}", edge.source);
    let topics = report(&edge.bench(&line));
    assert_sound(&topics, 50);
    assert_eq!(topics["settings"]["topics"], 50);
    assert_eq!(topics["summary"]["delivery.lost"]["runs"], 2);
}

#[test]
fn clients_stay_and_clients_storm() {
    let edge = Edge::start();
    let idle = report(&edge.bench("idle --clients 100 --seconds 0.2"));
    assert_eq!(
        (&idle["runs"][0]["connect"]["ready"], &idle["runs"][0]["idle"]["disconnected"]),
        (&100.into(), &0.into())
    );
    let storm = report(&edge.bench("storm --clients 100 --rounds 2"));
    let rounds = storm["runs"][0]["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        assert_eq!((&round["connect"]["ready"], &round["connect"]["failed"]), (&100.into(), &0.into()));
        let files = |key: &str| round[key].as_u64().unwrap();
        assert!(files("files_connected") >= files("files_after") + 100, "{round}");
        assert!(round["left_s"].is_number(), "{round}");
    }
}

#[test]
fn clients_storm_and_each_gets_what_it_missed() {
    let edge = Edge::start();
    let line = format!("storm --clients 40 --replay 700 --rounds 2 --publish-bind {}", edge.source);
    let storm = report(&edge.bench(&line));
    assert_eq!((&storm["settings"]["messages"], &storm["settings"]["size"]), (&700.into(), &128.into()));
    for round in storm["runs"][0]["rounds"].as_array().unwrap() {
        let replay = &round["replay"];
        assert_eq!((&replay["messages"], &replay["expected"]), (&700.into(), &28_000.into()));
        for trouble in ["lost", "duplicated", "out_of_order", "before_position", "corrupted", "disconnected"]
        {
            assert_eq!(replay[trouble], 0, "{trouble}: {replay}");
        }
        assert!(round["rss_peak_kib"].as_u64() >= round["rss_after_kib"].as_u64(), "{round}");
    }
}

#[test]
fn exit_codes() {
    let port = free_port();
    for (line, code, named) in [
        ("fanout --url wss://127.0.0.1/".to_owned(), 64, "wss:// is not supported"),
        ("fanout --url ws://127.0.0.1/".to_owned(), 64, "--publish"),
        (format!("idle --url ws://127.0.0.1:{port}/"), 69, "Connection refused"),
        (
            format!("forwarder --frontend tcp://127.0.0.1:{port} --backend tcp://127.0.0.1:{port}"),
            69,
            "cannot publish",
        ),
    ] {
        let output = bench(&line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(named) && output.stdout.is_empty(), "{line}: {said}");
    }
}

#[test]
fn each_workload_explains_its_flags() {
    for workload in ["fanout", "latency", "idle", "topics", "storm", "forwarder"] {
        let output = bench(&format!("{workload} --help"));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && help.contains("--server-pid <PID>") && help.contains("--json"),
            "{help}"
        );
    }
    let help = String::from_utf8(bench("--help").stdout).unwrap();
    assert!(help.contains("Exit codes") && help.contains("nats://"), "{help}");
}

/// A server that outlived its run would be nobody's.
#[test]
fn a_signal_ends_the_run_and_the_server_that_it_started() {
    // In the place of an edge: it says where it listens, which is here, and nobody there ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (script, note) = (folder.path().join("edge"), folder.path().join("pid"));
    let (port, place) = (listener.local_addr().unwrap().port(), note.display());
    let lines = format!(
        "#!/bin/sh\necho $$ > {place}\necho 'listening on http://127.0.0.1:{port}/' >&2\nexec sleep 600\n"
    );
    std::fs::write(&script, lines).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_trestle"))
        .args(["bench", "idle", "--clients", "1", "--connect-timeout", "600", "--server"])
        .arg(&script)
        .spawn()
        .unwrap();
    let _client = listener.accept().unwrap();
    let killed = Command::new("kill").arg(run.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert_eq!(run.wait().unwrap().code(), Some(130));
    let pid: i32 = std::fs::read_to_string(note).unwrap().trim().parse().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}
