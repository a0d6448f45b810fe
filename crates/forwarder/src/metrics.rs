//! What is counted. The proxy thread adds to plain numbers and publishes them once a turn.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::interest::{Side, Wants};
use crate::monitor::Event;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabel {
    port: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

type Gauge64 = Gauge<u64, AtomicU64>;

/// Messages (whole multiparts) and bytes of their frames.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// One port's share of a family.
struct FlowCounters {
    messages: Counter,
    bytes: Counter,
}

impl FlowCounters {
    fn publish(&self, flow: &mut Flow) {
        if flow.messages > 0 {
            self.messages.inc_by(std::mem::take(&mut flow.messages));
            self.bytes.inc_by(std::mem::take(&mut flow.bytes));
        }
    }
}

/// What one turn of the proxy adds.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By input.
    pub(crate) inputs: Vec<Flow>,
    /// What came by gRPC.
    pub(crate) grpc: Flow,
    pub(crate) backend: Flow,
    pub(crate) link: Flow,
    pub(crate) dropped_reserved: u64,
    pub(crate) dropped_malformed: u64,
    /// Messages that publishers' own counters say never came.
    pub(crate) unsent: u64,
    pub(crate) beats: u64,
}

impl Flow {
    /// Counts a message of so many bytes.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }
}

impl Counts {
    pub(crate) fn new(n_inputs: usize) -> Self {
        Self { inputs: (0..n_inputs).map(|_| Flow::default()).collect(), ..Self::default() }
    }
}

struct Connections {
    disconnected: Counter,
    handshakes_failed: Counter,
}

/// The handles of everything counted.
pub(crate) struct Metrics {
    inputs: Vec<FlowCounters>,
    grpc: FlowCounters,
    backend: FlowCounters,
    link: FlowCounters,
    dropped_reserved: Counter,
    dropped_malformed: Counter,
    unsent: Counter,
    beats: Counter,
    epoch: Gauge64,
    head: Gauge64,
    subscriptions: [Gauge64; 3],
    connections: Vec<Connections>,
    sources_cut: Counter,
}

impl Metrics {
    /// Registers everything. `watched`: how the watched sockets are called; all but backend and link are inputs.
    pub(crate) fn new(registry: &mut Registry, epoch: u64, watched: &[&str]) -> Self {
        let registry = registry.sub_registry_with_prefix("trestle_forwarder");
        registry.register(
            "build",
            "The build that runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge64::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let epoch_gauge = gauge(registry, "epoch", "The epoch of every position given out now");
        epoch_gauge.set(epoch);
        let head = gauge(registry, "head", "The newest offset given out in the epoch");
        let beats = Counter::default();
        registry.register("beats", "Beats sent on the link", beats.clone());

        let flow_in = Flows::register(registry, "in", "taken in from publishers, by port or source");
        let flow_out =
            Flows::register(registry, "out", "handed to a port, however many of its peers want them");
        let dropped = Family::<CauseLabel, Counter>::default();
        registry.register("dropped_messages", "Messages not passed on, by cause; sequence_gap: lost before they came here, as a publisher's counter says", dropped.clone());
        let cause = |cause| dropped.get_or_create_owned(&CauseLabel { cause });

        let subscriptions = Family::<PortLabel, Gauge64>::default();
        registry.register(
            "subscriptions",
            "Distinct prefixes subscribed to at a port; at the frontend, those asked of publishers",
            subscriptions.clone(),
        );
        let disconnected = Family::<PortLabel, Counter>::default();
        registry.register(
            "disconnects",
            "Connections that ended, by port or source: the peer left, fell silent or sent a frame over the limit",
            disconnected.clone(),
        );
        let handshakes_failed = Family::<PortLabel, Counter>::default();
        registry.register(
            "handshakes_failed",
            "Connections that spoke no ZMTP, were refused by CURVE or stopped half-way, by port or source",
            handshakes_failed.clone(),
        );
        let sources_cut = Counter::default();
        registry.register(
            "sources_cut",
            "Connections to sources cut for a frame over the limit or not ZMTP",
            sources_cut.clone(),
        );
        let inputs = watched.iter().filter(|name| !["backend", "link"].contains(name));
        Self {
            inputs: inputs.map(|input| flow_in.of(input)).collect(),
            grpc: flow_in.of("grpc"),
            backend: flow_out.of("backend"),
            link: flow_out.of("link"),
            dropped_reserved: cause("reserved_topic"),
            dropped_malformed: cause("not_a_subscription"),
            unsent: cause("sequence_gap"),
            beats,
            epoch: epoch_gauge,
            head,
            subscriptions: ["backend", "link", "frontend"]
                .map(|port| subscriptions.get_or_create_owned(&port_label(port))),
            connections: watched
                .iter()
                .map(|port| Connections {
                    disconnected: disconnected.get_or_create_owned(&port_label(port)),
                    handshakes_failed: handshakes_failed.get_or_create_owned(&port_label(port)),
                })
                .collect(),
            sources_cut,
        }
    }

    /// Adds what a turn counted and leaves `counts` at zero.
    pub(crate) fn publish(&self, counts: &mut Counts, head: u64) {
        for (counter, flow) in self.inputs.iter().zip(&mut counts.inputs) {
            counter.publish(flow);
        }
        self.grpc.publish(&mut counts.grpc);
        self.backend.publish(&mut counts.backend);
        self.link.publish(&mut counts.link);
        let rare = [
            (&self.dropped_reserved, &mut counts.dropped_reserved),
            (&self.dropped_malformed, &mut counts.dropped_malformed),
            (&self.unsent, &mut counts.unsent),
            (&self.beats, &mut counts.beats),
        ];
        for (counter, count) in rare.into_iter().filter(|(_, count)| **count > 0) {
            counter.inc_by(std::mem::take(count));
        }
        self.head.set(head);
    }

    /// Another epoch has begun.
    pub(crate) fn epoch(&self, epoch: u64) {
        self.epoch.set(epoch);
    }

    /// Shows how many prefixes are wanted.
    pub(crate) fn subscriptions(&self, wants: &Wants) {
        let lens = [wants.len(Side::Backend), wants.len(Side::Link), wants.len_up()];
        for (gauge, len) in self.subscriptions.iter().zip(lens) {
            gauge.set(len as u64);
        }
    }

    /// An event of the `watched`th socket.
    pub(crate) fn connection(&self, watched: usize, event: &Event) {
        let connections = &self.connections[watched];
        let counter = match event {
            Event::Disconnected => &connections.disconnected,
            Event::HandshakeFailed | Event::HungUp(_) | Event::Refused(..) => &connections.handshakes_failed,
            Event::Connected | Event::Retrying => return,
        };
        counter.inc();
    }

    /// A source was cut.
    pub(crate) fn source_cut(&self) {
        self.sources_cut.inc();
    }
}

/// What became of publications.
#[derive(Clone)]
pub(crate) struct PublicationMetrics {
    pub(crate) published: Counter,
    pub(crate) repeated: Counter,
    pub(crate) refused: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

impl PublicationMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let publications = Family::<OutcomeLabel, Counter>::default();
        registry.sub_registry_with_prefix("trestle_forwarder").register(
            "publications",
            "Publications that came by gRPC, by outcome: published, repeated (known by its key, not sent again) or refused",
            publications.clone(),
        );
        let outcome = |outcome| publications.get_or_create_owned(&OutcomeLabel { outcome });
        Self { published: outcome("published"), repeated: outcome("repeated"), refused: outcome("refused") }
    }
}

/// Where the ports' CURVE is shown.
pub(crate) fn curve(registry: &mut Registry) -> &mut Registry {
    registry.sub_registry_with_prefix("trestle_forwarder")
}

/// Shows the calls without the link token.
pub(crate) fn grpc_refused(registry: &mut Registry, refused: &Counter) {
    registry.sub_registry_with_prefix("trestle_forwarder").register(
        "grpc_unauthenticated",
        "gRPC calls refused because the link token was missing or wrong",
        refused.clone(),
    );
}

/// Counts replays that were ended because nobody took what they had.
pub(crate) fn replays_ended(registry: &mut Registry) -> Counter {
    let ended = Counter::default();
    registry.sub_registry_with_prefix("trestle_forwarder").register(
        "replays_ended",
        "Replays ended because whoever asked took no batch for --replay-timeout; it may ask again",
        ended.clone(),
    );
    ended
}

/// What a data folder shows; only registered where there is one.
#[derive(Clone, Default)]
pub(crate) struct DataMetrics {
    bytes: Gauge64,
    write_failures: Counter,
}

impl DataMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("trestle_forwarder_data");
        let metrics = Self::default();
        registry.register(
            "bytes",
            "Bytes on the disk of what is kept in the data folder",
            metrics.bytes.clone(),
        );
        registry.register(
            "write_failures",
            "Times that the data folder failed and was given up: a new epoch has begun, in memory",
            metrics.write_failures.clone(),
        );
        metrics
    }

    pub(crate) fn bytes(&self, bytes: u64) {
        self.bytes.set(bytes);
    }

    /// The folder is given up.
    pub(crate) fn failed(&self) {
        self.write_failures.inc();
        self.bytes.set(0);
    }
}

fn port_label(port: &str) -> PortLabel {
    PortLabel { port: port.to_owned() }
}

/// Messages and bytes in one direction.
struct Flows {
    messages: Family<PortLabel, Counter>,
    bytes: Family<PortLabel, Counter>,
}

impl Flows {
    fn register(registry: &mut Registry, direction: &str, what: &str) -> Self {
        let flows = Self { messages: Family::default(), bytes: Family::default() };
        registry.register(
            format!("messages_{direction}"),
            format!("Messages {what}"),
            flows.messages.clone(),
        );
        registry.register(
            format!("bytes_{direction}"),
            format!("Bytes of the frames {what}"),
            flows.bytes.clone(),
        );
        flows
    }

    fn of(&self, port: &str) -> FlowCounters {
        let label = port_label(port);
        FlowCounters {
            messages: self.messages.get_or_create_owned(&label),
            bytes: self.bytes.get_or_create_owned(&label),
        }
    }
}
