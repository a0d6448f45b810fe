//! What a benchmark says: the contract of `--json`.
//!
//! Every field is always present; `null` says that it was not measured in this workload or could not be. Names end in
//! their unit: `_s` seconds, `_us` microseconds, `_kib` KiB, `_per_s` a second, `_share` a part of 1. Fields are only ever
//! added while [`SCHEMA`] stays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Raised when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// The one JSON object that a call of `trestle bench … --json` prints on standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of the load generator.
    pub version: String,
    /// `fanout`, `latency`, `idle`, `topics`, `storm` or `forwarder`.
    pub workload: String,
    /// What was asked for.
    pub settings: Settings,
    /// One for each of `--runs`, in order.
    pub runs: Vec<Run>,
    /// Headline figures over all runs, by the path of their field in [`Run`], for example `delivery.deliveries_per_s`.
    /// Fields that no run measured are absent.
    pub summary: BTreeMap<String, Spread>,
}

/// What was asked for, with the defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The server's URL, or for `forwarder` the endpoint that subscribers connect to; with `{i}`, `{i:05}` and `{t}` as
    /// given. Of a server that the run started itself: where it was reachable in the last run.
    pub target: String,
    /// Whether the run started the server itself, from which program; `null` if it was there.
    pub started: Option<String>,
    /// `rust-websocket`, `trestle.v1.json`, `trestle.v1.proto` or `raw`; for `forwarder` `zmtp`.
    pub format: String,
    /// Clients whose deliveries are counted; for `forwarder` the subscribers.
    pub clients: u64,
    /// Clients beside them that never read.
    pub stalled_clients: u64,
    /// Where messages came from: endpoint or URL; `null` where nothing was published.
    pub publisher: Option<String>,
    /// Publishers at work in `forwarder`; elsewhere connections of one.
    pub publishers: u64,
    /// Different topics published to.
    pub topics: u64,
    /// Bytes of a message's body.
    pub size: u64,
    /// Messages a second offered in all (open loop); `null`: as fast as `in_flight` allows (closed loop).
    pub rate_per_s: Option<f64>,
    /// Closed loop: messages published and not yet delivered, at most, in the average over clients (the slowest may be four
    /// times as far behind); `null` in an open loop.
    pub in_flight: Option<u64>,
    /// How long was published, if `messages` did not end it earlier; `idle`: how long the clients stayed.
    pub seconds: f64,
    /// Messages to publish at most; `null`: no other end than `seconds`. Of `storm` those that everybody has missed.
    pub messages: Option<u64>,
    /// Whether frames were checked to the letter and bodies byte for byte.
    pub verify: bool,
    /// Whether the client polled its sockets without ever sleeping.
    pub spin: bool,
    /// The core that the client and the publisher were bound to.
    pub cpu: Option<u64>,
    /// The core that the server was bound to, if the run started it.
    pub server_cpu: Option<u64>,
}

/// One run: connect, wait, publish, measure, leave.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When it began, seconds since 1970.
    pub unix_time_s: u64,
    /// Handshakes; of `storm` those of all rounds together, with the latencies of the worst round.
    pub connect: Connect,
    /// The server's memory; `null` without a server's pid.
    pub memory: Option<Memory>,
    /// `fanout`, `latency`, `topics`, `forwarder`.
    pub delivery: Option<Delivery>,
    /// `idle`.
    pub idle: Option<Idle>,
    /// `storm`: one a round, in order; otherwise empty.
    pub rounds: Vec<Round>,
    /// What the load generator itself cost.
    pub client: Client,
    /// The machine's time that a hypervisor gave to others, of all cores' time while it was measured. Above some percent a
    /// run says little.
    pub steal_share: f64,
}

/// Quantiles of a latency, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Values recorded; with 0 all others are 0.
    pub count: u64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Half were no slower.
    pub p50_us: f64,
    /// 90 % were no slower.
    pub p90_us: f64,
    /// 99 % were no slower.
    pub p99_us: f64,
    /// 99.9 % were no slower.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

/// Connections made: TCP, HTTP upgrade and, where the format says so, the confirmed subscription.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    /// Connections that became ready.
    pub ready: u64,
    /// Connections that were refused or broke before.
    pub failed: u64,
    /// From the first connect to the last that became ready.
    pub seconds: f64,
    /// `ready` by `seconds`.
    pub handshakes_per_s: f64,
    /// From one's connect to its subscription.
    pub handshake: Latency,
    /// CPU of the server by `ready`.
    pub server_cpu_us_per_handshake: Option<f64>,
}

/// Memory of the server's processes, from `/proc/PID/status` and `smaps_rollup`. What the kernel holds for sockets is
/// not in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident before the first connection.
    pub rss_before_kib: u64,
    /// With all clients subscribed, before the first message.
    pub rss_idle_kib: u64,
    /// After the last delivery, clients still connected; of `storm` after the last round, when all have left.
    pub rss_end_kib: u64,
    /// The highest seen while messages were delivered, sampled ten times a second; of `storm` the highest of all rounds;
    /// `null` in `idle`.
    pub rss_peak_kib: Option<u64>,
    /// (`rss_idle_kib` − `rss_before_kib`) by connections.
    pub rss_kib_per_connection: f64,
    /// As `rss_before_kib`, proportional set size; `null` where the kernel does not tell.
    pub pss_before_kib: Option<u64>,
    /// As `rss_idle_kib`, proportional set size.
    pub pss_idle_kib: Option<u64>,
    /// Pages the kernel holds for all TCP sockets of this network namespace, client's side included: growth from before
    /// the first connection until idle.
    pub tcp_pages: i64,
    /// Open files of the server before the first connection; `null` where they may not be looked at.
    pub files_before: Option<u64>,
    /// Open files when `rss_end_kib` was looked at.
    pub files_end: Option<u64>,
}

/// CPU of the server's processes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerCpu {
    /// `schedstat`: nanoseconds of every thread (only user and system are parted by 10 ms ticks); `stat`: all by 10 ms
    /// ticks, where threads ended meanwhile or the kernel does not tell.
    pub source: String,
    /// User and system, seconds.
    pub total_s: f64,
    /// User, seconds.
    pub user_s: f64,
    /// System, seconds.
    pub system_s: f64,
    /// `total_s` by the time measured: 1.0 is one core.
    pub cores: f64,
}

/// Messages published and what came of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Messages published. Warm-up messages are counted nowhere.
    pub published: u64,
    /// From the first message's time to the last delivery.
    pub seconds: f64,
    /// `published` by `seconds`.
    pub messages_per_s: f64,
    /// Messages that reached each client they were for.
    pub complete: u64,
    /// Deliveries that should have been: the sum over messages of the clients each was for.
    pub expected: u64,
    /// Deliveries that were, each message once a client.
    pub delivered: u64,
    /// `delivered` by `seconds`.
    pub deliveries_per_s: f64,
    /// `expected` − `delivered`.
    pub lost: u64,
    /// A client got a message again.
    pub duplicated: u64,
    /// A client got a message after one that was published later. It counts as delivered.
    pub out_of_order: u64,
    /// A client got a message of a topic that it did not subscribe to.
    pub misrouted: u64,
    /// Broken markers; with `verify` also frames that RFC 6455 forbids and bodies that differ.
    pub corrupted: u64,
    /// Clients that the server disconnected while it was measured.
    pub disconnected: u64,
    /// How it ended with those: by close code (1005: a Close without one), `end` (FIN without a Close), `reset`.
    pub closes: BTreeMap<String, u64>,
    /// Whether the run was ended because nothing came any more though something was due.
    pub stalled: bool,
    /// From the (scheduled) time of publishing to the read that brought it; every delivery.
    pub latency: Latency,
    /// The same for the last client of each complete message.
    pub last_client: Latency,
    /// Bytes received on all clients' sockets.
    pub wire_bytes: u64,
    /// `wire_bytes` by `delivered`.
    pub wire_bytes_per_delivery: f64,
    /// WebSocket frames (or ØMQ frames, in `forwarder`) received; pings included.
    pub frames: u64,
    /// System calls that brought bytes.
    pub reads: u64,
    /// `frames` by `reads`.
    pub frames_per_read: f64,
    /// TCP segments with data sent in this network namespace, whoever sent them, by `delivered`: close to what the server
    /// sent where the server is on this machine and nothing else is.
    pub tcp_segments_per_delivery: Option<f64>,
    /// Pings answered.
    pub pings: u64,
    /// CPU of the server from just before the first message to the last delivery; `null` without a server's pid.
    pub server_cpu: Option<ServerCpu>,
    /// `server_cpu.total_s` by `delivered`.
    pub server_cpu_us_per_delivery: Option<f64>,
    /// `server_cpu.user_s` by `delivered`.
    pub server_user_us_per_delivery: Option<f64>,
    /// `server_cpu.system_s` by `delivered`.
    pub server_system_us_per_delivery: Option<f64>,
    /// `server_cpu.total_s` by `published`.
    pub server_cpu_us_per_message: Option<f64>,
    /// How late the publisher was at the most: the schedule's time (open loop) to the moment the message was handed over.
    pub publisher_late_max_us: f64,
}

/// Clients that stayed and got nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// How long they stayed.
    pub seconds: f64,
    /// Clients that the server disconnected meanwhile.
    pub disconnected: u64,
    /// Pings answered.
    pub pings: u64,
    /// CPU of the server meanwhile.
    pub server_cpu: Option<ServerCpu>,
    /// `server_cpu.total_s` by clients and seconds.
    pub server_cpu_us_per_client_second: Option<f64>,
}

/// Everybody comes, and everybody leaves at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Handshakes of this round.
    pub connect: Connect,
    /// What everybody had missed; `null` without `--replay`.
    pub replay: Option<Replayed>,
    /// Resident memory of the server with all connected, KiB.
    pub rss_connected_kib: Option<u64>,
    /// The most there was since the round's beginning, KiB, as the kernel notes it; `null` where it may not be asked to
    /// begin anew.
    pub rss_peak_kib: Option<u64>,
    /// Resident memory after all left and it has come to rest, KiB.
    pub rss_after_kib: Option<u64>,
    /// Open files of the server with all connected.
    pub files_connected: Option<u64>,
    /// Open files of the server after all left.
    pub files_after: Option<u64>,
    /// From everybody's leaving until the server had about as many open files (four more at most) as before the first
    /// round; `null` if that was not seen in 20 s or may not be looked at.
    pub left_s: Option<f64>,
}

/// What everybody had missed and was sent when it came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    /// Messages that each client had missed.
    pub messages: u64,
    /// `messages` by clients.
    pub expected: u64,
    /// Deliveries that were, each message once a client.
    pub delivered: u64,
    /// `expected` − `delivered`, those of clients that did not get through included.
    pub lost: u64,
    /// A client got a message again.
    pub duplicated: u64,
    /// A client got a message after one that was published later.
    pub out_of_order: u64,
    /// Messages that a client got though it resumed behind them.
    pub before_position: u64,
    /// Broken markers.
    pub corrupted: u64,
    /// Clients that the server disconnected.
    pub disconnected: u64,
    /// From the first connect until everybody had got everything: the last delivery.
    pub seconds: f64,
    /// `delivered` by `seconds`.
    pub deliveries_per_s: f64,
}

impl Replayed {
    /// What is not as it should be, and how often; 0 where it is.
    pub fn troubles(&self) -> [(u64, &'static str); 6] {
        [
            (self.lost, "lost"),
            (self.duplicated, "duplicated"),
            (self.out_of_order, "out of order"),
            (self.before_position, "from before the position"),
            (self.corrupted, "damaged"),
            (self.disconnected, "clients disconnected"),
        ]
    }
}

/// What the load generator cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// CPU of the whole process, publisher included, seconds, while it was measured.
    pub cpu_s: f64,
    /// CPU of the thread that reads, seconds.
    pub reader_cpu_s: f64,
    /// Time that the thread was ready to read and had no core, because something else used it, seconds; 0 where the kernel
    /// does not tell.
    pub reader_waited_s: f64,
    /// `cpu_s` by deliveries; `null` without any.
    pub cpu_us_per_delivery: Option<f64>,
    /// `reader_cpu_s` by deliveries.
    pub reader_cpu_us_per_delivery: Option<f64>,
    /// Part of its core that the reading thread used; of the whole process where `--cpu` bound it to one.
    pub core_share: f64,
    /// `core_share`, or what the reading thread used and waited for together, was above 0.9 of the time: the server might do
    /// more than was measured. Never with `spin`.
    pub limited: bool,
}

/// A figure over all runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; the mean of the two middle ones if there are as many.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Runs that measured it.
    pub runs: u64,
}

impl Spread {
    /// Of at least one value; `None` for none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max, runs: sorted.len() as u64 })
    }
}

/// Fields of [`Run`] that the summary has, as JSON pointers with dots.
const HEADLINES: &[&str] = &[
    "connect.handshakes_per_s",
    "connect.handshake.p99_us",
    "connect.server_cpu_us_per_handshake",
    "memory.rss_kib_per_connection",
    "memory.rss_peak_kib",
    "delivery.messages_per_s",
    "delivery.deliveries_per_s",
    "delivery.lost",
    "delivery.latency.p50_us",
    "delivery.latency.p99_us",
    "delivery.latency.p999_us",
    "delivery.latency.max_us",
    "delivery.last_client.p50_us",
    "delivery.last_client.p99_us",
    "delivery.wire_bytes_per_delivery",
    "delivery.frames_per_read",
    "delivery.tcp_segments_per_delivery",
    "delivery.server_cpu_us_per_delivery",
    "delivery.server_user_us_per_delivery",
    "delivery.server_system_us_per_delivery",
    "delivery.server_cpu_us_per_message",
    "idle.server_cpu_us_per_client_second",
    "client.cpu_us_per_delivery",
    "client.core_share",
    "steal_share",
];

/// [`Report::summary`] of `runs`.
pub fn summary(runs: &[Run]) -> BTreeMap<String, Spread> {
    let runs: Vec<_> = runs.iter().map(|run| serde_json::to_value(run).expect("plain data")).collect();
    let field = |run: &serde_json::Value, path: &str| {
        path.split('.').try_fold(run, |value, name| value.get(name)).and_then(serde_json::Value::as_f64)
    };
    let spread = |path: &&str| {
        let values: Vec<_> = runs.iter().filter_map(|run| field(run, path)).collect();
        Some(((*path).to_owned(), Spread::of(&values)?))
    };
    HEADLINES.iter().filter_map(spread).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_median_and_ends() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0, runs: 3 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0, runs: 2 }));
    }

    /// A headline that is misspelt would be missing for ever without a word.
    #[test]
    fn every_headline_is_a_field() {
        let run = Run {
            connect: Connect { server_cpu_us_per_handshake: Some(1.0), ..Connect::default() },
            memory: Some(Memory { rss_peak_kib: Some(1), ..Memory::default() }),
            delivery: Some(Delivery {
                tcp_segments_per_delivery: Some(1.0),
                server_cpu_us_per_delivery: Some(1.0),
                server_user_us_per_delivery: Some(1.0),
                server_system_us_per_delivery: Some(1.0),
                server_cpu_us_per_message: Some(1.0),
                ..Delivery::default()
            }),
            idle: Some(Idle { server_cpu_us_per_client_second: Some(1.0), ..Idle::default() }),
            client: Client { cpu_us_per_delivery: Some(1.0), ..Client::default() },
            ..Run::default()
        };
        let summary = summary(&[run]);
        for path in HEADLINES {
            assert!(summary.contains_key(*path), "{path}");
        }
    }

    #[test]
    fn what_was_not_measured_is_null_and_not_in_the_summary() {
        let run = serde_json::to_value(Run::default()).unwrap();
        assert!(run["delivery"].is_null() && run["memory"].is_null());
        assert!(!summary(&[Run::default()]).contains_key("delivery.lost"));
        assert_eq!(serde_json::from_value::<Run>(run).unwrap(), Run::default());
    }
}
