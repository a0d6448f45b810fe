//! The edge as a program of its own: what it says, its memory, its open files.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::client::{Client, JSON};
use crate::fixture::{DEADLINE, until};
use crate::http::{Request, connect};

/// An upstream that is never there.
pub(crate) const NOBODY: &str = "--source=tcp://127.0.0.1:1";
pub(crate) const FREE_PORTS: [&str; 3] =
    ["--listen=127.0.0.1:0", "--control=127.0.0.1:0", "--metrics=127.0.0.1:0"];

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle-edge"));
    command.env_clear();
    command
}

/// A started edge, killed at the end.
pub(crate) struct Program {
    child: Child,
    /// The lines of its log; it ends with the process.
    said: Receiver<String>,
    pub(crate) address: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Program {
    /// Starts it and reads its addresses from its log.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::spawn(program().args(flags))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.args(FREE_PORTS).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (say, said) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        let line = next_line(&said, "listening on");
        let part = |before: &str, after: &str| {
            let rest = line.split_once(before).unwrap().1;
            rest.split_once(after).unwrap().0.parse().unwrap()
        };
        let (address, metrics) = (part("on http://", "/,"), part("metrics on http://", "/metrics"));
        Self { child, said, address, control: part("gRPC on ", ","), metrics }
    }

    pub(crate) fn client(&self, target: &str) -> Client {
        Client::upgrade(connect(self.address), &Request::websocket(target, JSON).bytes()).welcomed()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// The next line of its log that has `text`.
    pub(crate) fn says(&mut self, text: &str) -> String {
        next_line(&self.said, text)
    }

    /// What it says until it ends, and its exit code.
    pub(crate) fn end(&mut self) -> (Vec<String>, Option<i32>) {
        let rest = self.said.iter().collect();
        (rest, self.child.wait().unwrap().code())
    }

    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// TCP connections of its public port that it has open, as the kernel has them.
    pub(crate) fn established(&self) -> usize {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        // Whether or not the client has ended it (ESTABLISHED, CLOSE_WAIT).
        let port = format!(":{:04X}", self.address.port());
        let is_ours = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&port))
                && matches!(fields.nth(1), Some("01" | "08"))
        };
        table.lines().filter(is_ours).count()
    }

    /// Its resident memory.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// The sum of a metric's samples, whatever their labels; named without `trestle_edge_`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = Request::get("/metrics").with("Connection", "close").to(self.metrics);
        let values = page.text().lines().filter_map(|line| {
            let rest = line.strip_prefix("trestle_edge_")?.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        });
        let values: Vec<_> = values.collect();
        assert!(!values.is_empty(), "{name} is not in\n{}", page.text());
        values.iter().sum()
    }

    pub(crate) fn until_metric(&self, name: &str, wanted: impl Fn(u64) -> bool) -> u64 {
        until(name, || Some(self.metric(name)).filter(|value| wanted(*value)))
    }
}

fn next_line(said: &Receiver<String>, text: &str) -> String {
    loop {
        let line = said.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("it does not say {text}"));
        if line.contains(text) {
            return line;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
