//! What a run needs before anybody connects: the publisher, the server, its processes, the clients to be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::CpuSet;
use trestle_process::exit::Exit;

use crate::body::Body;
use crate::clock::{Clock, seconds};
use crate::flags::{self, Clients, Server};
use crate::host::machine;
use crate::host::processes::{CpuSample, MemorySample, Processes};
use crate::interrupt;
use crate::marker::Marker;
use crate::output::Progress;
use crate::pattern::Pattern;
use crate::publish::{Publisher, Way};
use crate::report::{Connect, Memory};
use crate::server::{Edge, Forwarder, Started};
use crate::swarm::{Connected, Deaf, Options, Role, Sink, Swarm};
use crate::target::{Target, Url, resolve};

/// Where WebSockets are on an edge.
const EDGE_PATH: &str = "/ws";
/// How long a wait for what sockets bring is at most, while nothing else is to be done.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// ØMQ subscribers that connect at a time, and how long each may take.
const SUBSCRIBERS_IN_PROGRESS: u32 = 64;
const SUBSCRIBER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for ØMQ subscriptions to pass through a forwarder before the look at its memory, seconds.
const FORWARDER_SETTLE_S: f64 = 0.3;

/// What is the same in each run.
#[derive(Debug)]
pub(super) struct Stage {
    place: Place,
    pub(super) server: Server,
    /// Clients that never read.
    pub(super) stalled: u32,
    /// Where this program may run before it binds itself to a core; so may servers that it starts.
    pub(super) cores: Option<CpuSet>,
}

#[derive(Debug)]
enum Place {
    /// WebSocket clients; `way` is `None` where nothing needs to be published.
    Edge { clients: Box<Clients>, topic: Pattern, way: Option<Way> },
    /// ØMQ subscribers.
    Forwarder {
        named: Option<(SocketAddr, SocketAddr)>,
        link: bool,
        topic: String,
        subscribers: u32,
        publishers: u32,
    },
}

/// What one run has.
#[derive(Debug)]
pub(super) struct Scene {
    /// Dropped first: clients leave before their server ends.
    pub(super) swarm: Swarm,
    pub(super) publisher: Option<Publisher>,
    pub(super) processes: Processes,
    pub(super) clock: Clock,
    pub(super) marker: Marker,
    /// For people.
    pub(super) target: String,
    settle_s: f64,
    clients: u32,
    server: Option<Started>,
}

impl Stage {
    pub(super) fn edge(
        clients: Clients,
        server: Server,
        topic: Pattern,
        way: Option<Way>,
        stalled: u64,
    ) -> Self {
        let stalled = u32::try_from(stalled).expect("bounded by its flag");
        Self { place: Place::Edge { clients: Box::new(clients), topic, way }, server, stalled, cores: None }
    }

    pub(super) fn forwarder(flags: &flags::Forwarder) -> Result<Self, Exit> {
        let address = |flag: &str, endpoint: &str| {
            let wrong = || Exit::usage(format!("{flag} {endpoint}: write tcp://HOST:PORT"));
            let (host, port) =
                endpoint.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(wrong)?;
            resolve(host, port.parse().map_err(|_| wrong())?)
        };
        let named = match (&flags.frontend, &flags.backend) {
            (Some(frontend), Some(backend)) => {
                Some((address("--frontend", frontend)?, address("--backend", backend)?))
            }
            _ => None,
        };
        let bounded = |count: u64| u32::try_from(count).expect("bounded by its flag");
        let place = Place::Forwarder {
            named,
            link: flags.link,
            topic: flags.topic.clone(),
            subscribers: bounded(flags.subscribers),
            publishers: bounded(flags.publishers),
        };
        Ok(Self { place, server: flags.server.clone(), stalled: 0, cores: None })
    }

    /// Clients that count.
    pub(super) fn clients(&self) -> u32 {
        match &self.place {
            Place::Edge { clients, .. } => u32::try_from(clients.clients).expect("bounded by its flag"),
            Place::Forwarder { subscribers, .. } => *subscribers,
        }
    }

    pub(super) fn publishers(&self) -> u64 {
        match &self.place {
            Place::Edge { way, .. } => way.as_ref().map_or(1, Way::lanes).into(),
            Place::Forwarder { publishers, .. } => (*publishers).into(),
        }
    }

    pub(super) fn format(&self) -> &'static str {
        match &self.place {
            Place::Edge { clients, .. } => clients.format.name(),
            Place::Forwarder { .. } => "zmtp",
        }
    }

    /// Starts or finds everything; nobody is connected yet.
    pub(super) fn open(&self, marker: Marker, verify: Option<Arc<Body>>) -> Result<Scene, Exit> {
        match &self.place {
            Place::Edge { clients, topic, way } => {
                self.open_edge(clients, topic, way.as_ref(), marker, verify)
            }
            Place::Forwarder { .. } => self.open_forwarder(marker),
        }
    }

    fn open_edge(
        &self,
        flags: &Clients,
        topic: &Pattern,
        way: Option<&Way>,
        marker: Marker,
        verify: Option<Arc<Body>>,
    ) -> Result<Scene, Exit> {
        let any_port = || "127.0.0.1:0".parse().expect("an address");
        let (publisher, edge, url) = match &flags.url {
            Some(url) => (way.map(Publisher::open).transpose()?, None, url.clone()),
            None => {
                let publisher = Publisher::open(way.unwrap_or(&Way::Bind(any_port())))?;
                let edge = Edge::start(&self.server, publisher.place(), self.cores.as_ref())?;
                let url = Url::local(edge.address, EDGE_PATH);
                (Some(publisher), Some(edge), url)
            }
        };
        let options = Options {
            address: url.resolve()?,
            in_progress: u32::try_from(flags.in_progress).expect("bounded by its flag"),
            connect_timeout: Duration::from_secs_f64(flags.connect_timeout),
            role: Role::WebSocket(Arc::new(Target::new(url.clone(), flags, topic.clone())?)),
            clients: self.clients(),
            stalled: self.stalled,
            clock: Clock::start(),
            marker,
            verify,
        };
        self.scene(options, publisher, edge.map(|edge| edge.process), url.text(), flags.settle)
    }

    fn open_forwarder(&self, marker: Marker) -> Result<Scene, Exit> {
        let Place::Forwarder { named, link, topic, subscribers, publishers } = &self.place else {
            unreachable!("called for a forwarder only")
        };
        let (started, frontend, backend) = match named {
            Some((frontend, backend)) => (None, *frontend, *backend),
            None => {
                let Forwarder { process, frontend, backend, link: edges } =
                    Forwarder::start(&self.server, self.cores.as_ref())?;
                let address = |endpoint: &str| {
                    let address = endpoint.strip_prefix("tcp://").and_then(|address| address.parse().ok());
                    address.ok_or_else(|| Exit::unavailable(format!("the forwarder listens on {endpoint}")))
                };
                (Some(process), address(&frontend)?, address(if *link { &edges } else { &backend })?)
            }
        };
        let options = Options {
            role: Role::Subscriber(topic.as_str().into()),
            address: backend,
            clients: *subscribers,
            stalled: 0,
            in_progress: SUBSCRIBERS_IN_PROGRESS,
            connect_timeout: SUBSCRIBER_TIMEOUT,
            clock: Clock::start(),
            marker,
            verify: None,
        };
        let publisher = Publisher::open(&Way::Zmtp { address: frontend, publishers: *publishers })?;
        self.scene(options, Some(publisher), started, format!("tcp://{backend}"), FORWARDER_SETTLE_S)
    }

    fn scene(
        &self,
        options: Options,
        publisher: Option<Publisher>,
        server: Option<Started>,
        target: String,
        settle_s: f64,
    ) -> Result<Scene, Exit> {
        let own: Vec<i32> = server.iter().map(Started::pid).collect();
        let processes = Processes::new(if self.server.server_pid.is_empty() {
            own
        } else {
            self.server.server_pid.clone()
        });
        if let Some(pid) = processes.missing() {
            return Err(Exit::usage(format!("--server-pid {pid}: no such process")));
        }
        let (clock, marker, clients) = (options.clock, options.marker.clone(), options.clients);
        let swarm = Swarm::new(options).map_err(|error| Exit::os(format!("epoll: {error}")))?;
        Ok(Scene { swarm, publisher, processes, clock, marker, target, settle_s, clients, server })
    }
}

/// Memory as it was before and after the clients came; [`Measured::finish`] adds the end.
#[derive(Debug)]
pub(super) struct Measured {
    before: MemorySample,
    idle: MemorySample,
    tcp_pages: i64,
    connections: u64,
}

impl Scene {
    /// The program that the run started.
    pub(super) fn program(&self) -> Option<String> {
        self.server.as_ref().map(Started::program)
    }

    pub(super) fn clients(&self) -> u32 {
        self.clients
    }

    pub(super) fn settle_s(&self) -> f64 {
        self.settle_s
    }

    /// Everybody connects, or the run fails; then some rest, and memory as it is with nothing going on.
    pub(super) fn everybody(&mut self, progress: &Progress) -> Result<(Connect, Measured), Exit> {
        let before = self.processes.memory();
        let pages = machine::tcp_pages();
        let Connected { connect, first_failure } = self.connect(&mut Deaf, progress)?;
        if let Some(reason) = first_failure {
            let (failed, all) = (connect.failed, connect.failed + connect.ready);
            let target = &self.target;
            return Err(Exit::unavailable(format!(
                "{failed} of {all} connections to {target} failed, the first: {reason}"
            )));
        }
        self.rest(self.settle_s, &mut Deaf)?;
        let idle = self.processes.memory();
        let tcp_pages = machine::tcp_pages() - pages;
        let connections = connect.ready;
        Ok((connect, Measured { before, idle, tcp_pages, connections }))
    }

    /// Everybody tries to connect.
    pub(super) fn connect(&mut self, sink: &mut impl Sink, progress: &Progress) -> Result<Connected, Exit> {
        progress.count("connecting", self.clients.into());
        let before = self.cpu();
        let connected = self.swarm.connect(sink, |done| progress.at(done));
        let mut connected =
            connected.map_err(|error| Exit::os(format!("connecting to {}: {error}", self.target)))?;
        interrupt::check()?;
        let used = before.map(|before| self.processes.cpu().since(&before, connected.connect.seconds));
        let handshakes = connected.connect.ready.max(1) as f64;
        connected.connect.server_cpu_us_per_handshake = used.map(|used| used.total_s * 1e6 / handshakes);
        Ok(connected)
    }

    /// Reads what comes for some time.
    pub(super) fn rest(&mut self, for_s: f64, sink: &mut impl Sink) -> Result<(), Exit> {
        let began_ns = self.clock.now_ns();
        while seconds(self.clock.now_ns() - began_ns) < for_s {
            self.turn(TICK, sink)?;
        }
        Ok(())
    }

    pub(super) fn turn(&mut self, timeout: Duration, sink: &mut impl Sink) -> Result<usize, Exit> {
        interrupt::check()?;
        self.swarm.turn(Some(timeout), sink).map_err(|error| Exit::os(format!("epoll: {error}")))
    }

    /// CPU so far, if there are processes to ask.
    pub(super) fn cpu(&self) -> Option<CpuSample> {
        (!self.processes.is_empty()).then(|| self.processes.cpu())
    }
}

impl Measured {
    /// With what the end is like; `None` if there are no processes to ask.
    pub(super) fn finish(self, scene: &Scene, rss_peak_kib: Option<u64>) -> Option<Memory> {
        let Self { before, idle, tcp_pages, connections } = self;
        let end = (!scene.processes.is_empty()).then(|| scene.processes.memory())?;
        Some(Memory {
            rss_before_kib: before.rss_kib,
            rss_idle_kib: idle.rss_kib,
            rss_end_kib: end.rss_kib,
            rss_peak_kib: rss_peak_kib.map(|peak| peak.max(end.rss_kib)),
            rss_kib_per_connection: (idle.rss_kib as f64 - before.rss_kib as f64) / connections.max(1) as f64,
            pss_before_kib: before.pss_kib,
            pss_idle_kib: idle.pss_kib,
            tcp_pages,
            files_before: before.files,
            files_end: end.files,
        })
    }
}
