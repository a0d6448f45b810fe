//! The program: what it says, its exit codes, signals, files that it leaves open.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::Instant;

use crate::client::{Client, JSON, Said};
use crate::fixture::{DEADLINE, until};
use crate::http::{Answer, Request, connect};
use crate::program::{FREE_PORTS, NOBODY, Program, program};

/// Runs to the end, which is an error, and gives the exit code and what was said.
fn fails(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn bad_configuration_exits_with_64_and_names_what_is_wrong() {
    for (args, named) in [
        (&[][..], "--source"),
        (&[NOBODY, "--link", "tcp://a:1"], "--link"),
        (&[NOBODY, "--listen", "8080"], "--listen"),
        (&["--source", "a:1"], "--source"),
        (&[NOBODY, "--shards", "0"], "--shards"),
        (&[NOBODY, "--unheard-of"], "--unheard-of"),
        (&[NOBODY, "--link-token-file", "/nowhere"], "--link-token-file"),
        (&[NOBODY, "--control", "0.0.0.0:0"], "--control 0.0.0.0:0"),
        (&[NOBODY, "--metrics", "[::]:0"], "--link-token-file"),
        (&[NOBODY, "--log", "a=b=c"], "--log"),
    ] {
        let is_given = |port: &str| args.iter().any(|arg| port.starts_with(&format!("{arg}=")));
        let others = FREE_PORTS.iter().filter(|port| !is_given(port));
        let (code, said) = fails(program().args(others).args(args));
        assert_eq!(code, 64, "{args:?}: {said}");
        assert!(said.contains(named), "{args:?}: {said}");
    }
    for (variable, value) in [
        ("TRESTLE_LISTEN", "8080"),
        ("TRESTLE_SOURCE", "tcp://a:1"),
        ("TRESTLE_PING_INTERVAL", "soon"),
        ("TRESTLE_SPLIT", "[\"x\"]"),
    ] {
        let (code, said) = fails(program().env(variable, value));
        assert_eq!(code, 64, "{variable}: {said}");
        assert!(said.contains(variable), "{said}");
    }
}

#[test]
fn a_busy_address_exits_with_71_and_names_flag_and_address() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    for flag in ["--listen", "--control", "--metrics"] {
        let others = FREE_PORTS.iter().filter(|port| !port.starts_with(&format!("{flag}=")));
        let (code, said) = fails(program().args(others).args([flag, &address, NOBODY]));
        assert_eq!(code, 71, "{flag}: {said}");
        assert!(said.contains(flag) && said.contains(&address), "{said}");
    }
}

/// `SO_REUSEPORT` alone would let a second edge share the port, and each would get half of the browsers.
#[test]
fn a_second_edge_does_not_share_the_port() {
    let first = Program::start(&[NOBODY, "--shards", "2"]);
    let address = first.address.to_string();
    let (code, said) = fails(program().args(&FREE_PORTS[1..]).args(["--listen", &address, NOBODY]));
    assert_eq!(code, 71, "{said}");
    assert!(said.contains("--listen") && said.contains(&address), "{said}");
}

#[test]
fn signals_end_it_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut program = Program::start(&[NOBODY]);
        let mut client = program.client("/ws?topic=a");
        let start = Instant::now();
        program.signal(signal);
        assert_eq!(client.named("goodbye")["reason"], "restarting");
        assert_eq!(client.next(), Said::Close(Some(1012), "service restart".to_owned()));
        drop(client);
        let (said, code) = program.end();
        assert_eq!(code, Some(0), "{said:?}");
        assert!(said.iter().any(|line| line.contains(&format!("SIG{signal}"))), "{said:?}");
        assert!(start.elapsed() < DEADLINE / 2, "{:?}", start.elapsed());
    }
}

#[test]
fn an_unreachable_upstream_is_said_once_and_it_runs_on() {
    let start = Instant::now();
    let mut program = Program::start(&[NOBODY]);
    let line = program.says("not connected");
    assert!(line.contains("WARN") && line.contains("--source tcp://127.0.0.1:1"), "{line}");
    drop(program.client("/ws?topic=a"));
    program.signal("TERM");
    let (said, code) = program.end();
    assert_eq!(code, Some(0));
    // After 1, 3, 7 … seconds; most likely this test was faster than the second time.
    let times = 1 + said.iter().filter(|line| line.contains("not connected")).count() as u32;
    assert!(2u64.pow(times) <= start.elapsed().as_secs() + 2, "{said:?}");
}

/// A frame over the limit is said once, with the publisher and the flag.
#[test]
fn a_cut_publisher_is_said() {
    let feed = crate::fixture::Feed::bound();
    let source = format!("--source={}", feed.endpoint);
    let mut program = Program::start(&[&source, "--frame-bytes-max=1KiB"]);
    feed.wait_for("+");
    feed.send(&["a", &"x".repeat(1025)]);
    let line = program.says(": cut");
    assert!(line.contains(&feed.endpoint) && line.contains("--frame-bytes-max"), "{line}");
}

/// Slow loris the other way round: whoever asks for files and reads none would hold a connection for ever.
#[test]
fn a_reader_of_files_that_does_not_read_is_cut() {
    let program = Program::start(&[NOBODY, "--half-open-timeout=1s"]);
    let mut lazy = Client::small_buffer(program.address);
    let request = Request::get("/vendor/uPlot.esm.js").bytes().repeat(200);
    lazy.write_all(&request).unwrap();
    until("its connection", || (program.established() == 1).then_some(()));
    until("its end", || (program.established() == 0).then_some(()));
}

/// A page that is open asks on a connection that it has; a WebSocket opened now would end without a goodbye.
#[test]
fn while_it_ends_no_websocket_opens() {
    let program = Program::start(&[NOBODY, "--shards=1"]);
    let mut asking = connect(program.address);
    asking.write_all(&Request::get("/client.js").bytes()).unwrap();
    assert_eq!(Answer::read(&mut asking).status, 200);
    // Never answers the close, so that the edge waits for it.
    let mut client = program.client("/ws");
    program.signal("TERM");
    client.named("goodbye");
    asking.write_all(&Request::websocket("/ws", JSON).bytes()).unwrap();
    let answer = Answer::read(&mut asking);
    assert_eq!(answer.status, 503, "{}", answer.head);
    assert!(answer.text().contains("draining"), "{}", answer.text());
}
