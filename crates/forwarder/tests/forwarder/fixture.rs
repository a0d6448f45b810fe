//! A forwarder, publishers, subscribers and edges for tests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;
use trestle_forwarder::{Config, Running};
use trestle_messages::v1::{Beat, Stamp};
use trestle_messages::{BEAT_MARKER, topic};

/// Whatever a test waits for comes within this, or the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) type Frames = Vec<Vec<u8>>;

pub(crate) fn frames(parts: &[&[u8]]) -> Frames {
    parts.iter().map(|part| part.to_vec()).collect()
}

/// A forwarder on free ports.
pub(crate) struct TestForwarder {
    runtime: Runtime,
    pub(crate) running: Running,
    pub(crate) context: zmq::Context,
}

impl TestForwarder {
    pub(crate) fn start(args: &[&str]) -> Self {
        let ports =
            ["frontend", "backend", "link", "grpc", "metrics"].map(|flag| format!("--{flag}=127.0.0.1:0"));
        let all = ["trestle-forwarder"].into_iter().chain(ports.iter().map(String::as_str));
        let config: Config =
            trestle_process::config::parse(all.chain(args.iter().copied()), &HashMap::new()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let running = runtime.block_on(trestle_forwarder::start(config)).unwrap();
        Self { runtime, running, context: zmq::Context::new() }
    }

    /// A publisher that connects to the frontend.
    pub(crate) fn publisher(&self) -> Publisher {
        let socket = self.socket(zmq::XPUB);
        socket.connect(&self.running.frontend).unwrap();
        Publisher(socket)
    }

    /// A subscriber at the backend.
    pub(crate) fn subscriber(&self, prefixes: &[&[u8]]) -> Subscriber {
        self.subscriber_at(&self.running.backend, prefixes)
    }

    /// An edge on the link that wants `prefixes`; its first beat has come, so its subscriptions stand.
    pub(crate) fn edge(&self, prefixes: &[&[u8]]) -> Edge {
        let all: Vec<&[u8]> = prefixes.iter().copied().chain([topic::RESERVED]).collect();
        let edge = Edge(self.subscriber_at(&self.running.link, &all));
        edge.next_beat();
        edge
    }

    fn subscriber_at(&self, endpoint: &str, prefixes: &[&[u8]]) -> Subscriber {
        let socket = self.socket(zmq::SUB);
        socket.connect(endpoint).unwrap();
        prefixes.iter().for_each(|prefix| socket.set_subscribe(prefix).unwrap());
        Subscriber(socket)
    }

    fn socket(&self, kind: zmq::SocketType) -> zmq::Socket {
        socket(&self.context, kind)
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The value of a line of `/metrics`, once it satisfies `wanted`.
    pub(crate) fn metric(&self, line: &str, wanted: impl Fn(u64) -> bool) -> u64 {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let text = self.get("/metrics");
            let value = text.lines().find_map(|text| text.strip_prefix(line)?.trim().parse().ok());
            match value {
                Some(value) if wanted(value) => return value,
                _ => assert!(Instant::now() < deadline, "{line} is {value:?} in\n{text}"),
            }
            self.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
        }
    }

    /// The answer to a GET on the private port, head and body.
    pub(crate) fn get(&self, path: &str) -> String {
        self.block_on(async {
            let mut stream = tokio::net::TcpStream::connect(self.running.metrics).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        })
    }

    pub(crate) fn shutdown(self) -> Duration {
        let start = Instant::now();
        self.runtime.block_on(self.running.shutdown());
        start.elapsed()
    }
}

pub(crate) fn socket(context: &zmq::Context, kind: zmq::SocketType) -> zmq::Socket {
    let socket = context.socket(kind).unwrap();
    for set in [zmq::Socket::set_sndhwm, zmq::Socket::set_rcvhwm, zmq::Socket::set_linger] {
        set(&socket, 0).unwrap();
    }
    socket.set_rcvtimeo(i32::try_from(DEADLINE.as_millis()).unwrap()).unwrap();
    socket
}

/// An XPUB, so that a test sees what it is asked for.
pub(crate) struct Publisher(pub(crate) zmq::Socket);

impl Publisher {
    /// One that binds, and where; for `--source`.
    pub(crate) fn bound(context: &zmq::Context) -> (Self, String) {
        let socket = socket(context, zmq::XPUB);
        socket.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        (Self(socket), endpoint)
    }

    /// The next subscription (1, prefix) or its end (0, prefix).
    pub(crate) fn next_asked(&self) -> Vec<u8> {
        self.0.recv_bytes(0).expect("the publisher is asked for something")
    }

    /// Waits until it is asked for exactly `prefix`.
    pub(crate) fn wait_asked(&self, prefix: &[u8]) {
        while self.next_asked() != [b"\x01", prefix].concat() {}
    }

    pub(crate) fn send(&self, parts: &[&[u8]]) {
        self.0.send_multipart(parts, 0).unwrap();
    }
}

/// A SUB.
pub(crate) struct Subscriber(pub(crate) zmq::Socket);

impl Subscriber {
    pub(crate) fn next(&self) -> Frames {
        self.0.recv_multipart(0).expect("a message comes")
    }
}

/// An edge's end of the link.
pub(crate) struct Edge(pub(crate) Subscriber);

impl Edge {
    /// The next message that is no beat, without its stamp, and its stamp.
    pub(crate) fn next(&self) -> (Frames, Stamp) {
        loop {
            let mut frames = self.0.next();
            if frames[0] != topic::RESERVED {
                let stamp = frames.pop().unwrap();
                return (frames, Stamp::decode(&stamp[..]).unwrap());
            }
        }
    }

    /// The next beat; messages before it are skipped.
    pub(crate) fn next_beat(&self) -> Beat {
        loop {
            let frames = self.0.next();
            if frames[0] == topic::RESERVED {
                assert_eq!((frames.len(), &frames[1][..]), (3, BEAT_MARKER));
                return Beat::decode(&frames[2][..]).unwrap();
            }
        }
    }
}
