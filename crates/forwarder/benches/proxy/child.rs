//! The processes under test: this program again, as a forwarder or as `zmq_proxy`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use trestle_forwarder::Config;
use trestle_process::zmq::{Bounds, bind, raw, socket};

/// What libzmq writes at once where nobody tells it otherwise.
const LIBZMQ_OUT_BATCH_BYTES: i32 = 8 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// libzmq's own loop between an XSUB and an XPUB, with our socket settings but its own size of a write.
    ZmqProxy,
    /// The same with our size of a write: what our own loop costs.
    ZmqProxyTuned,
    /// The forwarder, its subscribers on the backend.
    Backend,
    /// The forwarder, its subscribers on the link.
    Link,
}

impl Candidate {
    const ALL: [(Self, &str); 4] = [
        (Self::ZmqProxy, "zmq-proxy"),
        (Self::ZmqProxyTuned, "zmq-proxy-tuned"),
        (Self::Backend, "backend"),
        (Self::Link, "link"),
    ];

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(candidate, _)| *candidate)
    }

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(candidate, _)| *candidate == self).unwrap().1
    }
}

/// The child's side: says where publishers and subscribers connect, and runs until its standard input ends.
pub(crate) fn run(candidate: Candidate) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let any = "127.0.0.1:0".parse().unwrap();
    if matches!(candidate, Candidate::ZmqProxy | Candidate::ZmqProxyTuned) {
        let context = zmq::Context::new();
        let open = |kind| {
            let mut socket = socket(&context, kind, Bounds::default()).unwrap();
            if candidate == Candidate::ZmqProxy {
                raw::set_int(&mut socket, raw::OUT_BATCH_SIZE, LIBZMQ_OUT_BATCH_BYTES).unwrap();
            }
            socket
        };
        let [frontend, backend] = [zmq::XSUB, zmq::XPUB].map(open);
        println!("{}", bind(&frontend, "", &any).unwrap());
        println!("{}", bind(&backend, "", &any).unwrap());
        zmq::proxy(&frontend, &backend).unwrap();
        return;
    }
    let free = "127.0.0.1:0".parse().unwrap();
    let config = Config {
        frontend: any.clone(),
        backend: any.clone(),
        link: any,
        grpc: free,
        metrics: free,
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut running = trestle_forwarder::start(config).await.unwrap();
        println!("{}", running.frontend);
        println!("{}", if candidate == Candidate::Link { &running.link } else { &running.backend });
        running.failed().await.unwrap();
    });
}

/// Puts this process on all cores but the first; false if that cannot be done.
pub(crate) fn pin_self() -> bool {
    let last = std::thread::available_parallelism().unwrap().get() - 1;
    let pid = std::process::id().to_string();
    let pinned =
        Command::new("taskset").args(["-cp", &format!("1-{last}"), &pid]).stdout(Stdio::null()).status();
    last > 0 && pinned.is_ok_and(|status| status.success())
}

/// The parent's side: a candidate at work, ended when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) frontend: String,
    pub(crate) output: String,
}

impl Process {
    pub(crate) fn start(candidate: Candidate, pinned: bool) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(if pinned { "taskset".as_ref() } else { program.as_os_str() });
        if pinned {
            command.args(["-c", "0"]).arg(&program);
        }
        let mut child =
            command.arg(candidate.word()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = || lines.next().unwrap().unwrap().strip_prefix("tcp://").unwrap().to_owned();
        let (frontend, output) = (address(), address());
        Self { child, frontend, output }
    }

    /// User and system CPU used so far, seconds (`proc_pid_stat(5)`, fields 14 and 15, in ticks of 10 ms).
    pub(crate) fn cpu_s(&self) -> (f64, f64) {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<f64>().unwrap() / 100.0;
        (ticks(11), ticks(12))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
