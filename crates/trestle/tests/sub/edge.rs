//! Processes of the workspace in this one, and a way to them that can be cut.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::program::DEADLINE;

/// A runtime with a thread of its own: what was started in it goes on while a test waits for something else.
struct Runtime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel());
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        Self { handle, stop: Some(stop), thread: Some(thread) }
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A forwarder, a publisher that is connected to it, and edges as they are asked for.
pub(crate) struct Cluster {
    runtime: Runtime,
    forwarder: trestle_forwarder::Running,
    publisher: zmq::Socket,
}

impl Cluster {
    /// `flags` are the forwarder's.
    pub(crate) fn start(flags: &str) -> Self {
        let runtime = Runtime::new();
        let any =
            ["frontend", "backend", "link", "grpc", "metrics"].map(|flag| format!("--{flag} 127.0.0.1:0"));
        let line = format!("trestle-forwarder {} {flags}", any.join(" "));
        let config = trestle_process::config::parse(line.split_whitespace(), &HashMap::new()).unwrap();
        let forwarder = runtime.block_on(trestle_forwarder::start(config)).unwrap();
        let publisher = zmq::Context::new().socket(zmq::PUB).unwrap();
        publisher.set_sndhwm(0).unwrap();
        publisher.connect(&forwarder.frontend).unwrap();
        Self { runtime, forwarder, publisher }
    }

    pub(crate) fn publish(&self, frames: &[&str]) {
        self.publisher.send_multipart(frames, 0).unwrap();
    }

    /// `flags` are the edge's.
    pub(crate) fn edge(&self, flags: &str) -> Edge<'_> {
        let any = ["listen", "control", "metrics"].map(|flag| format!("--{flag} 127.0.0.1:0"));
        let (link, recorder) = (&self.forwarder.link, self.forwarder.grpc);
        let line = format!(
            "trestle-edge {} --shards 1 --link {link} --recorder http://{recorder} {flags}",
            any.join(" ")
        );
        let config = trestle_process::config::parse(line.split_whitespace(), &HashMap::new()).unwrap();
        let running = self.runtime.block_on(async {
            let running = trestle_edge::start(config).await.unwrap();
            tokio::time::timeout(DEADLINE, running.ready()).await.unwrap();
            running
        });
        Edge { runtime: &self.runtime, running }
    }

    pub(crate) fn shutdown(self) {
        self.runtime.block_on(self.forwarder.shutdown());
    }
}

pub(crate) struct Edge<'a> {
    runtime: &'a Runtime,
    running: trestle_edge::Running,
}

impl Edge<'_> {
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// With a goodbye to everybody.
    pub(crate) fn shutdown(self) {
        self.runtime.block_on(self.running.shutdown()).unwrap();
    }
}

/// A way to an edge, whichever it is at the moment.
pub(crate) struct Way {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    to: SocketAddr,
    /// Bytes that still come through from the edge; then the connection is cut, wherever that is. `None` is no end.
    bytes_left: Option<usize>,
    cuts: usize,
}

impl Way {
    pub(crate) fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared { to, bytes_left: None, cuts: 0 }));
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let to = of_thread.lock().unwrap().to;
                let Ok(server) = TcpStream::connect(to) else { continue };
                carry(client, server, &of_thread);
            }
        });
        Self { address, shared }
    }

    pub(crate) fn lead_to(&self, to: SocketAddr) {
        self.shared.lock().unwrap().to = to;
    }

    /// Cuts after so many bytes from the edge, and waits for it while `meanwhile` happens.
    pub(crate) fn cut_after(&self, bytes: usize, mut meanwhile: impl FnMut()) {
        let cuts = {
            let mut shared = self.shared.lock().unwrap();
            shared.bytes_left = Some(bytes);
            shared.cuts
        };
        let deadline = Instant::now() + DEADLINE;
        while self.shared.lock().unwrap().cuts == cuts {
            assert!(Instant::now() < deadline, "nothing comes that could be cut");
            meanwhile();
        }
    }
}

fn carry(client: TcpStream, server: TcpStream, shared: &Arc<Mutex<Shared>>) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (mut server, mut client, shared) = (server, client, Arc::clone(shared));
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = server.read(&mut buffer) {
            let take = {
                let mut shared = shared.lock().unwrap();
                let take = shared.bytes_left.map_or(n, |left| left.min(n));
                shared.bytes_left = shared.bytes_left.map(|left| left - take);
                take
            };
            if client.write_all(&buffer[..take]).is_err() {
                break;
            }
            if take < n {
                let mut shared = shared.lock().unwrap();
                (shared.bytes_left, shared.cuts) = (None, shared.cuts + 1);
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}
