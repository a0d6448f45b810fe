//! A subscriber and a publisher's process, with deadlines instead of sleeps.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, and does not see that these are their helpers"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use prost::Message as _;
use trestle_messages::EVENT_MARKER;
use trestle_messages::v1::Event;
// Links libsodium, without which libzmq does not: a test that only runs the program would leave the library out.
use trestle_publisher as _;
use zmq::{Context, SUB, Socket};

/// Whatever a test waits for comes within this, or it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A SUB socket with its context.
pub(crate) struct Subscriber {
    pub(crate) endpoint: String,
    socket: Socket,
}

impl Subscriber {
    /// Listens on a free port, subscribed to `prefixes`.
    pub(crate) fn bound(prefixes: &[&[u8]]) -> Self {
        Self::bound_with_queue(prefixes, 1_000)
    }

    /// As [`bound`](Self::bound), with room for so many messages.
    pub(crate) fn bound_with_queue(prefixes: &[&[u8]], messages_max: i32) -> Self {
        let socket = socket(prefixes, messages_max);
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Self { endpoint, socket }
    }

    /// Connects, subscribed to `prefixes`.
    pub(crate) fn connected(endpoint: &str, prefixes: &[&[u8]]) -> Self {
        let socket = socket(prefixes, 1_000);
        socket.connect(endpoint).unwrap();
        Self { endpoint: endpoint.to_owned(), socket }
    }

    /// The next message's frames; [`settle`](Self::settle)'s single ones are skipped.
    pub(crate) fn recv(&self) -> Vec<Vec<u8>> {
        loop {
            let frames = self.socket.recv_multipart(0).expect("a message before the deadline");
            if frames.len() > 1 {
                return frames;
            }
        }
    }

    /// The next message, a typed event, with its topic.
    pub(crate) fn event(&self) -> (String, Event) {
        let frames = self.recv();
        assert_eq!(frames.len(), 3, "{frames:?}");
        assert_eq!(frames[1], EVENT_MARKER);
        (String::from_utf8(frames[0].clone()).unwrap(), Event::decode(&frames[2][..]).unwrap())
    }

    /// Lets libzmq work for a moment: a socket that listens sends its subscriptions in its own thread's calls only.
    pub(crate) fn turn(&self) {
        self.socket.poll(zmq::POLLIN, 5).unwrap();
    }

    /// Messages that have come and were not read.
    pub(crate) fn rest(&self) -> Vec<Vec<Vec<u8>>> {
        std::iter::from_fn(|| self.socket.recv_multipart(zmq::DONTWAIT).ok()).collect()
    }

    /// Publishes to `frontend` until a message comes back: a subscription to `prefix` stands all the way then.
    pub(crate) fn settle(&self, frontend: &str, prefix: &[u8]) {
        let publisher = Context::new().socket(zmq::PUB).unwrap();
        publisher.set_linger(0).unwrap();
        publisher.connect(frontend).unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "no subscription reaches {frontend}");
            publisher.send(prefix, 0).unwrap();
            self.turn();
            if !self.rest().is_empty() {
                break;
            }
        }
    }

    pub(crate) fn subscribe(&self, prefix: &[u8]) {
        self.socket.set_subscribe(prefix).unwrap();
    }

    pub(crate) fn unsubscribe(&self, prefix: &[u8]) {
        self.socket.set_unsubscribe(prefix).unwrap();
    }
}

fn socket(prefixes: &[&[u8]], messages_max: i32) -> Socket {
    let socket = Context::new().socket(SUB).unwrap();
    socket.set_rcvhwm(messages_max).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(DEADLINE.as_millis() as i32).unwrap();
    prefixes.iter().for_each(|prefix| socket.set_subscribe(prefix).unwrap());
    socket
}

/// The program, running; killed when dropped.
pub(crate) struct Program {
    child: Child,
    /// Its log, line by line; it ends with the program.
    log: Receiver<String>,
}

impl Program {
    /// Runs it with `args` and no other `TRESTLE_` variables than `env`.
    pub(crate) fn run(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = command().args(args).envs(env.iter().copied()).spawn().unwrap();
        let (lines, log) = mpsc::channel();
        let stderr = child.stderr.take().expect("it is piped");
        let pass_on = move |line: std::io::Result<String>| line.is_ok_and(|line| lines.send(line).is_ok());
        std::thread::spawn(move || BufReader::new(stderr).lines().all(pass_on));
        Self { child, log }
    }

    /// Runs it with nobody who reads its log.
    pub(crate) fn run_unread(args: &[&str]) -> Self {
        let mut child = command().args(args).spawn().unwrap();
        child.stderr = None;
        Self { child, log: mpsc::channel().1 }
    }

    /// Writes to its standard input.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().expect("not closed").write_all(bytes).unwrap();
    }

    /// Ends its standard input.
    pub(crate) fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// The next line of its log that contains `text`.
    pub(crate) fn logged(&mut self, text: &str) -> String {
        loop {
            let line = self.log.recv_timeout(DEADLINE).expect("logged before it ended");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for its end: status and what it logged, but for what [`logged`](Self::logged) has read.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        self.close_input();
        let mut log = String::new();
        loop {
            match self.log.recv_timeout(DEADLINE) {
                Ok(line) => log.extend([&line, "\n"]),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; its log: {log}"),
            }
        }
        (self.child.wait().expect("it was started"), log)
    }

    /// As [`end`](Self::end), while the subscribers keep working.
    pub(crate) fn end_beside(mut self, subscribers: &[&Subscriber]) -> (ExitStatus, String) {
        let deadline = Instant::now() + DEADLINE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            subscribers.iter().for_each(|subscriber| subscriber.turn());
        }
        self.end()
    }

    /// Waits for its end with exit code 0.
    pub(crate) fn succeed(self) {
        let (status, errors) = self.end();
        assert!(status.success(), "{status}: {errors}");
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle-publisher"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRESTLE_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
