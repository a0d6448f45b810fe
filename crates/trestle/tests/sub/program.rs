//! The running program, and what it says.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Whatever a test waits for comes within this, or the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Sub {
    child: Child,
    stdout: Option<ChildStdout>,
    out: Option<Receiver<String>>,
    err: Receiver<String>,
    /// Lines of standard error that were looked at.
    heard: RefCell<Vec<String>>,
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle"));
    command.arg("sub");
    command
}

impl Sub {
    /// `trestle sub` with these words, parted by spaces.
    pub(crate) fn start(line: &str) -> Self {
        let mut sub = Self::start_unread(line);
        sub.read();
        sub
    }

    /// Its output is read from now on.
    pub(crate) fn read(&mut self) {
        self.out = self.stdout.take().map(lines);
    }

    /// The same, with an output that nobody reads yet.
    pub(crate) fn start_unread(line: &str) -> Self {
        let mut command = command();
        command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, err) = (child.stdout.take(), lines(child.stderr.take().unwrap()));
        Self { child, stdout, out: None, err, heard: RefCell::default() }
    }

    /// The next line of standard output.
    pub(crate) fn line(&self) -> String {
        self.out.as_ref().unwrap().recv_timeout(DEADLINE).expect("a line of standard output")
    }

    /// The next line of standard output, if it comes soon.
    pub(crate) fn line_within(&self, soon: Duration) -> Option<String> {
        self.out.as_ref().unwrap().recv_timeout(soon).ok()
    }

    pub(crate) fn lines(&self, n: usize) -> Vec<String> {
        (0..n).map(|_| self.line()).collect()
    }

    /// The next line of standard error.
    pub(crate) fn said(&self) -> String {
        let line = self.err.recv_timeout(DEADLINE).expect("a line of standard error");
        self.heard.borrow_mut().push(line.clone());
        line.strip_prefix("trestle: ").map_or(line.clone(), str::to_owned)
    }

    /// The next line of standard error that has `part`; those before it are passed over.
    pub(crate) fn says(&self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        while let Ok(line) = self.err.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.heard.borrow_mut().push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        panic!("waited in vain for {part}: {:#?}", self.heard.borrow());
    }

    /// Nobody reads its output any more.
    pub(crate) fn close_output(&mut self) {
        self.stdout = None;
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its exit code, what it still said on standard output, and all that it said on standard error.
    pub(crate) fn end(mut self) -> (i32, Vec<String>, Vec<String>) {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {:?}",
                self.err.try_iter().collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        let out = self.out.take().map(|out| out.iter().collect()).unwrap_or_default();
        let mut heard = self.heard.take();
        heard.extend(self.err.iter());
        (status.code().unwrap(), out, heard)
    }
}

impl Drop for Sub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
