//! An edge, a publisher that sees what it is asked for, and a forwarder.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use zmq::SocketType;

use crate::http::{Answer, Request};

/// Whatever a test waits for comes within this, or the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives something.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A runtime with a thread of its own: a process's private services answer while the test waits for something else.
pub(crate) struct Runtime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel());
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        Self { handle, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// An edge on free ports, with two shards if nothing else is said.
pub(crate) struct TestEdge {
    runtime: Runtime,
    running: trestle_edge::Running,
}

impl TestEdge {
    /// Starts it with `flags`, words that spaces part.
    pub(crate) fn start(flags: &str) -> Self {
        let shards = if flags.contains("--shards") { "" } else { "--shards 2" };
        let line = format!(
            "trestle-edge --listen 127.0.0.1:0 --control 127.0.0.1:0 --metrics 127.0.0.1:0 {shards} {flags}"
        );
        let config = trestle_process::config::parse(line.split_whitespace(), &HashMap::new()).unwrap();
        let runtime = Runtime::new();
        let running = runtime.block_on(trestle_edge::start(config)).unwrap();
        Self { runtime, running }
    }

    /// Directly on `feed`, whose messages it gets from now on.
    pub(crate) fn on(feed: &Feed, flags: &str) -> Self {
        let edge = Self::start(&format!("--source {} {flags}", feed.endpoint));
        feed.wait_for("+");
        edge
    }

    /// On the link of `forwarder`, and ready.
    pub(crate) fn behind(forwarder: &Forwarder, flags: &str) -> Self {
        let edge =
            Self::start(&format!("--link {} --recorder {} {flags}", forwarder.link(), forwarder.recorder()));
        edge.wait_ready();
        edge
    }

    pub(crate) fn wait_ready(&self) {
        self.block_on(async { tokio::time::timeout(DEADLINE, self.running.ready()).await.unwrap() });
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Drives what runs in the edge's own runtime beside `future`.
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The answer of the private port.
    pub(crate) fn private(&self, path: &str) -> Answer {
        let (request, address) = (Request::get(path).with("Connection", "close"), self.running.metrics);
        self.block_on(async { tokio::task::spawn_blocking(move || request.to(address)).await.unwrap() })
    }

    /// The value of a sample of `/metrics`, which is named with its labels and without `trestle_edge_`.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        value_in(&self.private("/metrics"), &format!("trestle_edge_{sample}"))
    }

    pub(crate) fn until_metric(&self, sample: &str, wanted: impl Fn(u64) -> bool) -> u64 {
        let mut last = 0;
        until_or(
            || {
                last = self.metric(sample);
                wanted(last).then_some(last)
            },
            || format!("{sample}, which is {}", self.metric(sample)),
        )
    }

    /// WebSockets open now.
    pub(crate) fn until_connections(&self, n: u64) {
        until(&format!("{n} connections"), || {
            let of = |protocol| self.metric(&format!("connections{{protocol=\"{protocol}\"}}"));
            let open: u64 =
                ["trestle.v1.json", "trestle.v1.proto", "rust-websocket"].into_iter().map(of).sum();
            (open == n).then_some(())
        });
    }

    pub(crate) fn shutdown(self) {
        self.runtime.block_on(self.running.shutdown()).unwrap();
    }
}

fn value_in(page: &Answer, sample: &str) -> u64 {
    let name = format!("{sample} ");
    let value = page.text().lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
    value.unwrap_or_else(|| panic!("{sample} is not in\n{}", page.text()))
}

fn until_or<T>(mut condition: impl FnMut() -> Option<T>, what: impl Fn() -> String) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {}", what());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn socket(kind: SocketType) -> zmq::Socket {
    let socket = zmq::Context::new().socket(kind).unwrap();
    for set in [zmq::Socket::set_sndhwm, zmq::Socket::set_rcvhwm, zmq::Socket::set_linger] {
        set(&socket, 0).unwrap();
    }
    socket.set_rcvtimeo(DEADLINE.as_millis() as i32).unwrap();
    socket
}

/// An XPUB: a publisher that sees what it is asked for.
pub(crate) struct Feed {
    pub(crate) endpoint: String,
    socket: zmq::Socket,
}

impl Feed {
    /// One that listens, for `--source`.
    pub(crate) fn bound() -> Self {
        Self::bound_to("tcp://127.0.0.1:*")
    }

    pub(crate) fn bound_to(endpoint: &str) -> Self {
        let socket = socket(SocketType::XPUB);
        // A closed socket gives its port back a moment later.
        until("a free port", || socket.bind(endpoint).ok());
        Self { endpoint: socket.get_last_endpoint().unwrap().unwrap(), socket }
    }

    /// One that connects to a forwarder.
    pub(crate) fn connected(forwarder: &Forwarder) -> Self {
        let (socket, endpoint) = (socket(SocketType::XPUB), forwarder.running().frontend.clone());
        socket.connect(&endpoint).unwrap();
        Self { endpoint, socket }
    }

    /// The next subscription (`+prefix`) or end of one (`-prefix`).
    pub(crate) fn asked(&self) -> String {
        let frame = self.socket.recv_bytes(0).expect("it is asked for something before the deadline");
        let sign = if frame[0] == 1 { '+' } else { '-' };
        format!("{sign}{}", String::from_utf8_lossy(&frame[1..]))
    }

    /// The same if it is here already, as it comes: 1 or 0, then the prefix.
    pub(crate) fn asked_now(&self) -> Option<Vec<u8>> {
        self.socket.recv_bytes(zmq::DONTWAIT).ok()
    }

    pub(crate) fn wait_for(&self, asked: &str) {
        while self.asked() != asked {}
    }

    pub(crate) fn send<B: AsRef<[u8]>>(&self, frames: &[B]) {
        self.socket.send_multipart(frames.iter().map(AsRef::as_ref), 0).unwrap();
    }
}

/// A SUB.
pub(crate) struct Subscriber {
    pub(crate) endpoint: String,
    socket: zmq::Socket,
}

impl Subscriber {
    /// One that listens, for `--publish-to`.
    pub(crate) fn bound(endpoint: &str, prefix: &[u8]) -> Self {
        let socket = socket(SocketType::SUB);
        socket.set_subscribe(prefix).unwrap();
        socket.bind(endpoint).unwrap();
        Self { endpoint: socket.get_last_endpoint().unwrap().unwrap(), socket }
    }

    /// The next message's frames.
    pub(crate) fn next(&self) -> Vec<Vec<u8>> {
        self.socket.recv_multipart(0).expect("a message before the deadline")
    }

    /// Nothing waits now.
    pub(crate) fn has_nothing(&self) -> bool {
        self.socket.recv_multipart(zmq::DONTWAIT) == Err(zmq::Error::EAGAIN)
    }
}

/// A forwarder on free ports, or on those that it had before.
pub(crate) struct Forwarder {
    runtime: Runtime,
    running: Option<trestle_forwarder::Running>,
    flags: String,
    /// Where it listened: frontend, link and gRPC.
    addresses: [String; 3],
}

impl Forwarder {
    pub(crate) fn start(flags: &str) -> Self {
        let mut forwarder = Self {
            runtime: Runtime::new(),
            running: None,
            flags: flags.to_owned(),
            addresses: Default::default(),
        };
        forwarder.start_at("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0");
        forwarder
    }

    /// One that is not there yet: an edge can be started on its ports, and then it.
    pub(crate) fn absent(flags: &str) -> (Self, String) {
        let mut forwarder = Self::start(flags);
        let addresses = forwarder.stop();
        let edge = format!("--link {} --recorder http://{}", addresses[1], addresses[2]);
        forwarder.addresses = addresses;
        (forwarder, edge)
    }

    fn start_at(&mut self, frontend: &str, link: &str, grpc: &str) {
        let line = format!(
            "trestle-forwarder --frontend {frontend} --link {link} --backend 127.0.0.1:0 --grpc {grpc} \
             --metrics 127.0.0.1:0 {}",
            self.flags
        );
        let config: trestle_forwarder::Config =
            trestle_process::config::parse(line.split_whitespace(), &HashMap::new()).unwrap();
        // A closed socket gives its port back a moment later.
        let running =
            until("free ports", || self.runtime.block_on(trestle_forwarder::start(config.clone())).ok());
        self.running = Some(running);
    }

    fn running(&self) -> &trestle_forwarder::Running {
        self.running.as_ref().expect("it was not stopped")
    }

    pub(crate) fn link(&self) -> String {
        self.running().link.clone()
    }

    pub(crate) fn recorder(&self) -> String {
        format!("http://{}", self.running().grpc)
    }

    /// A SUB at the backend, whose subscription stands.
    pub(crate) fn subscriber(&self, prefix: &[u8]) -> Subscriber {
        let socket = socket(SocketType::SUB);
        socket.set_subscribe(prefix).unwrap();
        socket.connect(&self.running().backend).unwrap();
        let wanted = || self.metric("subscriptions{port=\"backend\"}") > 0;
        until("a subscription at the backend", || wanted().then_some(()));
        Subscriber { endpoint: self.running().backend.clone(), socket }
    }

    /// The value of a sample of `/metrics`, without `trestle_forwarder_`.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let (request, address) =
            (Request::get("/metrics").with("Connection", "close"), self.running().metrics);
        let ask = async { tokio::task::spawn_blocking(move || request.to(address)).await.unwrap() };
        value_in(&self.runtime.block_on(ask), &format!("trestle_forwarder_{sample}"))
    }

    /// Distinct prefixes that edges have subscribed to.
    pub(crate) fn wanted(&self) -> u64 {
        self.metric("subscriptions{port=\"link\"}")
    }

    /// Ends it; returns where it listened: frontend, link and gRPC.
    fn stop(&mut self) -> [String; 3] {
        let running = self.running.take().expect("it was not stopped");
        let addresses = [running.frontend.clone(), running.link.clone(), running.grpc.to_string()];
        self.runtime.block_on(running.shutdown());
        addresses
    }

    /// Starts one that is [`absent`](Self::absent).
    pub(crate) fn appear(&mut self) {
        let [frontend, link, grpc] = self.addresses.clone();
        self.start_at(&frontend, &link, &grpc);
    }

    /// Ends it and starts another on the same ports, after `meanwhile`.
    pub(crate) fn restart(&mut self, meanwhile: impl FnOnce()) {
        self.addresses = self.stop();
        meanwhile();
        self.appear();
    }
}

/// Between a forwarder's link and an edge: loses every third message, but no beat; while it is cut, everything.
pub(crate) struct LossyLink {
    pub(crate) endpoint: String,
    lost: Arc<AtomicU64>,
    is_cut: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LossyLink {
    pub(crate) fn start(link: &str) -> Self {
        let (up, down) = (socket(SocketType::XSUB), socket(SocketType::XPUB));
        up.connect(link).unwrap();
        down.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = down.get_last_endpoint().unwrap().unwrap();
        let (lost, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ended) = (Arc::clone(&lost), Arc::clone(&is_over));
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        let run = move || {
            let mut n = 0;
            while !ended.load(Ordering::Relaxed) {
                let mut items = [up.as_poll_item(zmq::POLLIN), down.as_poll_item(zmq::POLLIN)];
                zmq::poll(&mut items, 20).unwrap();
                while let Ok(subscription) = down.recv_bytes(zmq::DONTWAIT) {
                    up.send(subscription, 0).unwrap();
                }
                while let Ok(message) = up.recv_multipart(zmq::DONTWAIT) {
                    if cut.load(Ordering::Relaxed) {
                        continue;
                    }
                    n += u64::from(!message[0].starts_with(b"\0trestle"));
                    if !message[0].starts_with(b"\0trestle") && n % 3 == 0 {
                        counted.fetch_add(1, Ordering::Relaxed);
                    } else {
                        down.send_multipart(message, 0).unwrap();
                    }
                }
            }
        };
        Self { endpoint, lost, is_cut, is_over, thread: Some(std::thread::spawn(run)) }
    }

    /// Nothing comes through, until it is [`mend`](Self::mend)ed.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn mend(&self) {
        self.is_cut.store(false, Ordering::Relaxed);
    }

    /// Messages lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for LossyLink {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
