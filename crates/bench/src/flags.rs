//! The flags of `trestle bench`, as typed.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::body::{SIZE_MAX, SIZE_MIN};
use crate::target::Url;

/// Clients in one process at most: each holds a file, and every figure stays exact.
pub const CLIENTS_MAX: u64 = 100_000;

/// Measures what a bridge from ØMQ to browsers delivers, how fast and at what cost.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Bench {
    /// What is measured.
    #[command(subcommand)]
    pub workload: Workload,
}

impl Bench {
    /// How often, where, and what is printed.
    pub fn output(&self) -> &Output {
        match &self.workload {
            Workload::Fanout(flags) => &flags.common.output,
            Workload::Latency(flags) => &flags.common.output,
            Workload::Idle(flags) => &flags.common.output,
            Workload::Topics(flags) => &flags.common.output,
            Workload::Storm(flags) => &flags.common.output,
            Workload::Forwarder(flags) => &flags.output,
        }
    }

    /// Whether losses of an open loop are a failure.
    pub fn is_strict(&self) -> bool {
        match &self.workload {
            Workload::Fanout(flags) => flags.load.strict,
            Workload::Latency(flags) => flags.load.strict,
            Workload::Topics(flags) => flags.load.strict,
            Workload::Forwarder(flags) => flags.load.strict,
            Workload::Idle(_) | Workload::Storm(_) => false,
        }
    }
}

const AFTER_HELP: &str = "\
Without --url (forwarder: --backend) the run starts trestle-edge (trestle-forwarder), found beside this program or in PATH, \
on free ports, and ends it afterwards. Any other server is measured with --url and the flags that say how to subscribe \
and how to publish to it; these two are the same measurement:

  trestle bench fanout --url ws://127.0.0.1:8080/ws --publish-bind tcp://127.0.0.1:5556 --server-pid 4711
  trestle bench fanout --url ws://127.0.0.1:8102/ --publish nats://127.0.0.1:4222 --wait-for PONG \\
    --format raw --send 'binary:CONNECT {\"verbose\":false}\\r\\nSUB {t} 1\\r\\nPING\\r\\n'

Exit codes: 0 measured; 1 a closed loop lost messages or clients, or any run got messages twice, in wrong order, on a \
wrong topic or damaged (losses of an open loop are a result, see --strict), or a replay was not what was missed; 64 wrong flags; 69 the server or the publisher's peer cannot be reached; \
71 the machine lacks something, for example file descriptors; 130 interrupted.";

/// The six measurements.
#[derive(Debug, Clone, Subcommand)]
pub enum Workload {
    /// As many deliveries a second as the server makes: one topic, many clients.
    Fanout(Fanout),
    /// How late messages are at a fixed rate: one topic, many clients.
    Latency(Latency),
    /// What a connection costs that gets nothing.
    Idle(Idle),
    /// A topic for each client.
    Topics(Topics),
    /// Everybody connects at once, and leaves at once.
    Storm(Storm),
    /// ØMQ on both sides: messages a second through a forwarder or proxy.
    Forwarder(Forwarder),
}

/// `bench fanout`.
#[derive(Debug, Clone, Args)]
pub struct Fanout {
    /// Messages published and not yet delivered, at most, in the average over clients; the slowest may be four times as far
    /// behind. This closed loop gives no cause for losses, so that it finds the highest rate without any; its latencies are
    /// those of full queues.
    #[arg(long, value_name = "MESSAGES", default_value_t = NonZeroU64::new(64).expect("64"), conflicts_with = "rate")]
    pub in_flight: NonZeroU64,
    /// Open loop instead: this many messages a second, whether they arrive or not. Latency then counts from the time the
    /// schedule had for a message, so that a publisher held up hides nothing.
    #[arg(long, value_name = "PER_SECOND", value_parser = positive)]
    pub rate: Option<f64>,
    /// Further clients that subscribe and never read. They are counted nowhere; what they do to the others is measured.
    #[arg(long, value_name = "CLIENTS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=CLIENTS_MAX))]
    pub stall: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are the flags, and clap would show this as their help")]
    pub load: Load,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub check: Check,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub source: Source,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub common: Common,
}

/// `bench latency`.
#[derive(Debug, Clone, Args)]
pub struct Latency {
    /// Messages a second. Latency counts from the time the schedule had for a message, so that a publisher held up hides
    /// nothing.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 50.0, value_parser = positive)]
    pub rate: f64,
    /// Further clients that subscribe and never read. They are counted nowhere; what they do to the others is measured.
    #[arg(long, value_name = "CLIENTS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=CLIENTS_MAX))]
    pub stall: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub load: Load,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub check: Check,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub source: Source,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub common: Common,
}

/// `bench topics`.
#[derive(Debug, Clone, Args)]
pub struct Topics {
    /// Messages published and not yet delivered, at most, over all topics.
    #[arg(long, value_name = "MESSAGES", default_value_t = NonZeroU64::new(1_000).expect("1000"), conflicts_with = "rate")]
    pub in_flight: NonZeroU64,
    /// Open loop instead: this many messages a second over all topics.
    #[arg(long, value_name = "PER_SECOND", value_parser = positive)]
    pub rate: Option<f64>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub load: Load,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub check: Check,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub source: Source,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub common: Common,
}

/// `bench idle`.
#[derive(Debug, Clone, Args)]
pub struct Idle {
    /// Seconds that the clients stay. Servers ping after some tens of seconds; pings are answered.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = positive)]
    pub seconds: f64,
    /// What is subscribed to; {i} or {i:05} is the client's number. Nothing is published.
    #[arg(long, default_value = "bench", value_parser = topic)]
    pub topic: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub common: Common,
}

/// `bench storm`.
#[derive(Debug, Clone, Args)]
pub struct Storm {
    /// How often everybody comes and leaves.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub rounds: u64,
    /// Messages that each client has missed and is sent when it comes: so many are published before the first round, and
    /// everybody resumes before them. What comes is counted client by client, and nothing may be missing or come twice.
    /// Only in format trestle.v1.json. [default: none; nothing is published]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub replay: Option<u64>,
    /// Seconds without any message, though some are due, after which the rest is lost.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = positive)]
    pub give_up: f64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub source: Source,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub common: Common,
}

/// `bench forwarder`.
#[derive(Debug, Clone, Args)]
pub struct Forwarder {
    /// Where the forwarder's publishers connect.
    #[arg(long, value_name = "tcp://HOST:PORT", requires = "backend")]
    pub frontend: Option<String>,
    /// Where its subscribers connect. Without it trestle-forwarder is started.
    #[arg(long, value_name = "tcp://HOST:PORT", requires = "frontend")]
    pub backend: Option<String>,
    /// Of a forwarder that the run starts: subscribe where edges do (5557, stamped), not where any subscriber does (5556).
    #[arg(long, conflicts_with = "backend")]
    pub link: bool,
    /// Subscribers.
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX))]
    pub subscribers: u64,
    /// Publishers; messages go through them in turn.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub publishers: u64,
    /// Messages published and not yet delivered, at most, in the average over subscribers; the slowest may be four times as
    /// far behind.
    #[arg(long, value_name = "MESSAGES", default_value_t = NonZeroU64::new(4_000).expect("4000"), conflicts_with = "rate")]
    pub in_flight: NonZeroU64,
    /// Open loop instead: this many messages a second.
    #[arg(long, value_name = "PER_SECOND", value_parser = positive)]
    pub rate: Option<f64>,
    /// What is published on.
    #[arg(long, default_value = "bench", value_parser = topic)]
    pub topic: String,
    /// Bytes of a message's body.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = size())]
    pub size: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub load: Load,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub server: Server,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub output: Output,
}

/// How long messages are published.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct Load {
    /// Seconds of publishing.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = positive)]
    pub seconds: f64,
    /// End after so many messages, if that comes earlier. [default: no such end]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=crate::marker::SEQ_MAX))]
    pub messages: Option<u64>,
    /// Messages before the measurement, one at a time. They go on until each client has got one, so that no subscription
    /// is still under way.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub warm_up: u64,
    /// Seconds without any delivery, though some are due, after which the rest is lost.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = positive)]
    pub give_up: f64,
    /// Poll the sockets without ever sleeping. A server on the same machine then does not pay for waking the client, as it
    /// would not for a client elsewhere; the client's own CPU means nothing then.
    #[arg(long)]
    pub spin: bool,
    /// Losses and disconnects of an open loop end with exit code 1, too.
    #[arg(long)]
    pub strict: bool,
}

/// How closely a client looks.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Load")]
pub struct Check {
    /// Check each frame to the letter (RFC 6455) and each body byte for byte. This costs the client more CPU.
    #[arg(long)]
    pub verify: bool,
}

/// What is published, and how it gets to the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Publisher")]
pub struct Source {
    /// Publish to: tcp://HOST:PORT or ipc://PATH (ØMQ: a forwarder's frontend), nats://HOST:PORT (NATS core),
    /// http://HOST:PORT/PATH (a POST for each message; {t} is the topic), line://HOST:PORT (TCP, lines of topic, space,
    /// body).
    #[arg(long, value_name = "URL", conflicts_with = "publish_bind")]
    pub publish: Option<String>,
    /// Publish as a ØMQ XPUB that listens, HOST:PORT or an endpoint; for an edge with --source.
    /// [default without --url: a free port]
    #[arg(long, value_name = "ADDRESS")]
    pub publish_bind: Option<String>,
    /// What is published on and subscribed to; {i} or {i:05} is the client's number.
    /// [default: bench, or for a topic each bench/{i:05}]
    #[arg(long, value_parser = topic)]
    pub topic: Option<String>,
    /// Bytes of a message's body: a JSON object with number, time and padding.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = size())]
    pub size: u64,
    /// Connections of an http:// publisher, each with one request under way.
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub publish_connections: u64,
    /// A further header of an http:// publisher. Repeatable.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub publish_header: Vec<String>,
}

/// Clients, server and output of everything that has WebSocket clients.
#[derive(Debug, Clone, Args)]
pub struct Common {
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub clients: Clients,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub server: Server,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub output: Output,
}

/// Who connects, where, and how it subscribes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Clients")]
pub struct Clients {
    /// The server: ws://HOST:PORT/PATH. In it and in --send {i}, {i:05} is the client's number from 0, {t} its topic.
    /// [default: a trestle-edge of the run's own]
    #[arg(long)]
    pub url: Option<Url>,
    /// Clients.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX))]
    pub clients: u64,
    /// What the clients speak.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// The subprotocol to ask for. [default: as --format says; raw: none]
    #[arg(long, value_name = "NAME", value_parser = header_value)]
    pub subprotocol: Option<String>,
    /// A further header of the handshake. Repeatable.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<String>,
    /// A message to send after the handshake: text:… or binary:…, with \r \n \t \0 \\ \xHH. Repeatable.
    /// [default: as --format says; raw: none]
    #[arg(long, value_name = "KIND:DATA")]
    pub send: Vec<String>,
    /// A client is ready when these bytes have come; the same escapes.
    /// [default: as --format says; raw: with the handshake]
    #[arg(long, value_name = "BYTES")]
    pub wait_for: Option<String>,
    /// Handshakes under way at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX))]
    pub in_progress: u64,
    /// Seconds without any handshake done after which the others have failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = positive)]
    pub connect_timeout: f64,
    /// Seconds between the last handshake and the look at the server's memory.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = positive)]
    pub settle: f64,
}

/// The server's processes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Server {
    /// The server's process, whose CPU and memory are measured with those of its descendants. Repeatable.
    /// [default: the process that the run starts]
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub server_pid: Vec<i32>,
    /// The program to start. [default: trestle-edge or trestle-forwarder beside this program or in PATH]
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,
    /// A further flag of the program that is started, for example --server-flag=--shards=1. Repeatable.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub server_flag: Vec<String>,
    /// Bind the program that is started to this core.
    #[arg(long, value_name = "CORE")]
    pub server_cpu: Option<usize>,
}

/// How often, where, and what is printed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Run")]
pub struct Output {
    /// Repeat the whole run; a server that the run starts is a new one each time.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub runs: u64,
    /// Bind clients and publisher to this core.
    #[arg(long, value_name = "CORE")]
    pub cpu: Option<usize>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// What clients speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Trestle's JSON events; subscribes by a command and waits for its reply.
    #[default]
    #[value(name = "trestle.v1.json")]
    Json,
    /// Trestle's protobuf events; subscribes by ?topic= in the URL, which is added where it has no query.
    #[value(name = "trestle.v1.proto")]
    Proto,
    /// Bare bodies; subscribes by ?topic= in the URL, which is added where it has no query.
    #[value(name = "rust-websocket")]
    RustWebsocket,
    /// Nothing but what --subprotocol, --send and --wait-for say; any server.
    Raw,
}

impl Format {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "trestle.v1.json",
            Self::Proto => "trestle.v1.proto",
            Self::RustWebsocket => "rust-websocket",
            Self::Raw => "raw",
        }
    }
}

fn size() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(SIZE_MIN as u64..=SIZE_MAX as u64)
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("must be a number above 0".to_owned()),
    }
}

/// Must stand unescaped in JSON, in a URL's query and in NATS's protocol.
fn topic(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-{}:".contains(&byte);
    match text {
        "" => Err("must not be empty".to_owned()),
        text if text.len() > 200 => Err("must have at most 200 bytes".to_owned()),
        text if !text.bytes().all(is_plain) => Err("may have letters, digits, / . _ - : and {i}".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn header(text: &str) -> Result<String, String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
    header_value(value)?;
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;\"\\/[]?={}".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("its name has other characters than RFC 9110 allows".to_owned());
    }
    Ok(format!("{name}: {}", value.trim()))
}

fn header_value(text: &str) -> Result<String, String> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("must not have control characters".to_owned());
    }
    Ok(text.to_owned())
}
