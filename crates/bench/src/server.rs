//! The server that a run starts itself, where none is named.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CpuSet;
use trestle_process::exit::Exit;

use crate::flags;
use crate::host::machine;

/// A server says within this where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// A server that was asked to end has this long.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How often its end is looked for.
const END_POLL: Duration = Duration::from_millis(10);
/// Lines of its log that an error shows.
const LOG_LINES: usize = 5;
/// A free port on this machine alone.
const ANY_PORT: &str = "127.0.0.1:0";

/// A process that ends with this value.
#[derive(Debug)]
pub struct Started {
    child: Child,
    program: PathBuf,
}

/// Where an edge listens.
#[derive(Debug)]
pub struct Edge {
    /// The process.
    pub process: Started,
    /// Browsers connect here.
    pub address: SocketAddr,
}

/// Where a forwarder listens.
#[derive(Debug)]
pub struct Forwarder {
    /// The process.
    pub process: Started,
    /// Publishers connect here, `tcp://…`.
    pub frontend: String,
    /// Subscribers connect here.
    pub backend: String,
    /// Edges connect here.
    pub link: String,
}

impl Edge {
    /// An edge on free ports, fed by the publisher at `source`.
    ///
    /// # Errors
    /// An [`Exit`] with code 69 if there is no such program or it does not start; its last words are in it.
    pub fn start(flags: &flags::Server, source: &str, cores: Option<&CpuSet>) -> Result<Self, Exit> {
        let args = ["--listen", ANY_PORT, "--control", ANY_PORT, "--metrics", ANY_PORT, "--source", source];
        let (process, address) = Started::new("trestle-edge", flags, &args, cores, |line| {
            let (_, rest) = line.split_once("listening on http://")?;
            rest.split('/').next()?.parse().ok()
        })?;
        Ok(Self { process, address })
    }
}

impl Forwarder {
    /// A forwarder on free ports.
    ///
    /// # Errors
    /// As [`Edge::start`].
    pub fn start(flags: &flags::Server, cores: Option<&CpuSet>) -> Result<Self, Exit> {
        let ports = ["--frontend", "--backend", "--link", "--grpc", "--metrics"];
        let args: Vec<&str> = ports.iter().flat_map(|flag| [*flag, ANY_PORT]).collect();
        let (process, (frontend, backend, link)) =
            Started::new("trestle-forwarder", flags, &args, cores, |line| {
                let (_, rest) = line.split_once("publishers connect to ")?;
                let (frontend, rest) = rest.split_once(", subscribers to ")?;
                let (backend, link) = rest.split_once(", edges to ")?;
                Some((frontend.to_owned(), backend.to_owned(), link.trim().to_owned()))
            })?;
        Ok(Self { process, frontend, backend, link })
    }
}

impl Started {
    /// Runs `name` until it says in its log what `listening` understands.
    fn new<T: Send + 'static>(
        name: &str,
        flags: &flags::Server,
        args: &[&str],
        cores: Option<&CpuSet>,
        listening: impl Fn(&str) -> Option<T> + Send + 'static,
    ) -> Result<(Self, T), Exit> {
        let program = find(name, flags)?;
        let mut command = Command::new(&program);
        command.args(args).args(["--log", "info", "--log-format", "text"]).args(&flags.server_flag);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = spawn(command, flags.server_cpu, cores)?;
        let mut child = child
            .map_err(|error| Exit::unavailable(format!("cannot start {}: {error}", program.display())))?;
        let log = child.stderr.take().expect("piped above");
        let started = Self { child, program };
        let (heard, last_words) = listen(log, listening);
        match heard.recv_timeout(START_TIMEOUT) {
            Ok(place) => Ok((started, place)),
            Err(reason) => {
                let program = started.program.display().to_string();
                drop(started);
                let why = match reason {
                    RecvTimeoutError::Timeout => "did not say where it listens",
                    RecvTimeoutError::Disconnected => "ended at once",
                };
                let words = last_words.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let words: Vec<_> = words.iter().cloned().collect();
                Err(Exit::unavailable(format!("{program} {why}: {}", words.join(" / "))))
            }
        }
    }

    /// The process's id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pid_t is an i32")
    }

    /// The file that runs.
    pub fn program(&self) -> String {
        self.program.display().to_string()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(END_POLL);
        }
    }
}

/// On the core that the flags say, or on `cores`, not where this program was bound: a process inherits the cores of the
/// thread that starts it, so that is one of its own.
fn spawn(
    mut command: Command,
    core: Option<usize>,
    cores: Option<&CpuSet>,
) -> Result<std::io::Result<Child>, Exit> {
    thread::scope(|scope| {
        let spawning = scope.spawn(|| {
            match (core, cores) {
                (Some(core), _) => machine::bind_to_core("--server-cpu", core)?,
                (None, Some(cores)) => machine::bind_to_cores(cores),
                (None, None) => {}
            }
            Ok(command.spawn())
        });
        spawning.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The program: as the flag says, beside this one, or in PATH.
fn find(name: &str, flags: &flags::Server) -> Result<PathBuf, Exit> {
    if let Some(program) = &flags.server {
        let missing = || Exit::usage(format!("--server {}: no such file", program.display()));
        return if program.is_file() { Ok(program.clone()) } else { Err(missing()) };
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    beside.into_iter().chain(in_path).find(|file| file.is_file()).ok_or_else(|| {
        Exit::unavailable(format!(
            "{name} is neither beside this program nor in PATH: name it with --server (cargo build --release -p {name} \
             makes it), or a server that runs with --url (forwarder: --frontend and --backend)"
        ))
    })
}

type LastWords = Arc<Mutex<VecDeque<String>>>;

/// Reads a log to its end, in a thread of its own: a full pipe would stop the server.
fn listen<T: Send + 'static>(
    log: ChildStderr,
    listening: impl Fn(&str) -> Option<T> + Send + 'static,
) -> (mpsc::Receiver<T>, LastWords) {
    let (tell, heard) = mpsc::channel();
    let last_words = LastWords::default();
    let words = Arc::clone(&last_words);
    thread::spawn(move || {
        let mut tell = Some(tell);
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if let Some(place) = tell.as_ref().and_then(|_| listening(&line)) {
                // Nobody waits any more if it took too long.
                let _ = tell.take().map(|tell| tell.send(place));
            }
            let mut words = words.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if words.len() == LOG_LINES {
                words.pop_front();
            }
            words.push_back(line);
        }
    });
    (heard, last_words)
}
