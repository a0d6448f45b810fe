//! The program: exit codes, what it says, signals.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use crate::fixture::DEADLINE;

pub(crate) const FREE_PORTS: [&str; 5] = [
    "--frontend=127.0.0.1:0",
    "--backend=127.0.0.1:0",
    "--link=127.0.0.1:0",
    "--grpc=127.0.0.1:0",
    "--metrics=127.0.0.1:0",
];

pub(crate) fn forwarder() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle-forwarder"));
    command.env_clear();
    command
}

/// Runs to the end, which is an error, and gives the exit code and what was said.
pub(crate) fn fails(command: &mut Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn bad_configuration_exits_with_64_and_names_what_is_wrong() {
    let token = tempfile::NamedTempFile::new().unwrap();
    let token = token.path().to_str().unwrap();
    for (args, named) in [
        (&["--record", "a", "--no-record"][..], "--no-record"),
        (&["--frontend", "5555"], "--frontend"),
        (&["--source", "x"], "--source"),
        (&["--record", "a=much"], "--record"),
        (&["--link-token-file", token], "--link-token-file"),
        (&["--grpc", "0.0.0.0:0"], "--link-token-file"),
        (&["--metrics", "0.0.0.0:0"], "--link-token-file"),
        (&["--unheard-of"], "--unheard-of"),
        (&["--log", "a=b=c"], "--log"),
    ] {
        let is_given = |port: &str| args.iter().any(|arg| port.starts_with(&format!("{arg}=")));
        let others = FREE_PORTS.iter().filter(|port| !is_given(port));
        let (code, said) = fails(forwarder().args(others).args(args));
        assert_eq!(code, 64, "{args:?}: {said}");
        assert!(said.contains(named), "{args:?}: {said}");
    }
    for (variable, value) in
        [("TRESTLE_BACKEND", "5556"), ("TRESTLE_SOURCE", "tcp://a:1"), ("TRESTLE_SEND_HWM", "0")]
    {
        let (code, said) = fails(forwarder().env(variable, value));
        assert_eq!(code, 64, "{variable}: {said}");
        assert!(said.contains(variable), "{said}");
    }
}

#[test]
fn a_busy_address_exits_with_71_and_names_flag_and_address() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    for flag in ["--frontend", "--backend", "--link", "--grpc", "--metrics"] {
        let others = FREE_PORTS.iter().filter(|port| !port.starts_with(&format!("{flag}=")));
        let (code, said) = fails(forwarder().args(others).args([flag, &address]));
        assert_eq!(code, 71, "{flag}: {said}");
        assert!(said.contains(flag) && said.contains(&address), "{said}");
    }
}

/// A started program, killed at the end.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn signals_end_it_cleanly_after_it_has_said_its_addresses() {
    for signal in ["TERM", "INT"] {
        let child = forwarder().args(FREE_PORTS).stderr(Stdio::piped()).spawn().unwrap();
        let mut program = Program(child);
        let mut lines = BufReader::new(program.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        let said: Vec<String> = lines.by_ref().take(3).collect();
        let text = said.join("\n");
        assert_eq!(text.matches("tcp://127.0.0.1:").count(), 3, "{text}");
        assert!(text.contains("/metrics") && text.contains("gRPC on 127.0.0.1:"), "{text}");
        assert!(text.contains("no --link-token-file"), "{text}");

        let start = Instant::now();
        let sent = Command::new("kill").args(["-s", signal, &program.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let rest: Vec<String> = lines.collect();
        assert!(program.0.wait().unwrap().success(), "{rest:?}");
        assert!(rest.iter().any(|line| line.contains(&format!("SIG{signal}"))), "{rest:?}");
        assert!(start.elapsed() < DEADLINE / 2, "{:?}", start.elapsed());
    }
}
