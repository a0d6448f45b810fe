//! The table of the edge's limits: each with its flag, its default, whose it is, what happens at it, and what counts that.

use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
use trestle_hub::Limits;
use trestle_process::exit::Exit;
use trestle_process::zmq::Bounds;

use crate::admission::Rate;
use crate::config::duration;

/// A row of the table. A test holds the defaults to those of [`Flags`], the metrics to what `/metrics` shows, and
/// docs/limits.md to all of it.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The flag, without its dashes; as `TRESTLE_…` in the environment, and in the file.
    pub name: &'static str,
    /// With its unit; "none" where there is no limit unless one is set.
    pub default: &'static str,
    /// What it bounds.
    pub bounds: &'static str,
    /// What happens beyond it.
    pub reaction: &'static str,
    /// A sample of `/metrics` that rises then, without its `trestle_edge_`.
    pub metric: &'static str,
}

/// Every limit.
pub const TABLE: &[Limit] = &[
    Limit {
        name: "connections-max",
        default: "none",
        bounds: "connections open at once, requests included",
        reaction: "503 with `Retry-After`",
        metric: "handshake_refusals_total{cause=\"connections\"}",
    },
    Limit {
        name: "address-connections-max",
        default: "none",
        bounds: "the same of one client address (a /64 of IPv6); behind a trusted proxy its WebSockets and event streams",
        reaction: "429 with `Retry-After`",
        metric: "handshake_refusals_total{cause=\"address_connections\"}",
    },
    Limit {
        name: "connection-rate",
        default: "none",
        bounds: "WebSockets and event streams that begin in a second",
        reaction: "503 with a `Retry-After` that spreads them",
        metric: "handshake_refusals_total{cause=\"connection_rate\"}",
    },
    Limit {
        name: "connection-burst",
        default: "none",
        bounds: "the same at once, after a quiet while",
        reaction: "the same",
        metric: "handshake_refusals_total{cause=\"connection_rate\"}",
    },
    Limit {
        name: "handshake-timeout",
        default: "10s",
        bounds: "the time until a request's head has come, its body has, and the upgrade is done",
        reaction: "the connection is closed; 400 for a body",
        metric: "handshake_refusals_total{cause=\"handshake_timeout\"}",
    },
    Limit {
        name: "head-bytes-max",
        default: "16KiB",
        bounds: "a request's line and headers, of which there are at most 100",
        reaction: "431, and closed",
        metric: "handshake_refusals_total{cause=\"head\"}",
    },
    Limit {
        name: "message-bytes-max",
        default: "64KiB",
        bounds: "a WebSocket message, inflated, or the body of a `POST /publish`",
        reaction: "closed with 1009; 413 `too_large`",
        metric: "sessions_closed_total{code=\"1009\"}",
    },
    Limit {
        name: "subscriptions-max",
        default: "1000",
        bounds: "subscriptions of a connection",
        reaction: "error `too_many_subscriptions`; in a URL 400; of ZWS closed with 1008",
        metric: "commands_refused_total{code=\"too_many_subscriptions\"}",
    },
    Limit {
        name: "topic-bytes-max",
        default: "255",
        bounds: "a topic that a client names; more than 255 is not possible",
        reaction: "error `invalid_topic`; in a URL 400; of ZWS closed",
        metric: "commands_refused_total{code=\"invalid_topic\"}",
    },
    Limit {
        name: "commands-per-second",
        default: "100",
        bounds: "what a client says in a second: commands (of a subscription each topic), pings, and what is neither; 0 for no limit",
        reaction: "error `rate_limited`, a ping has no pong; closed with 4029 after 1,000 of these in a row, and of ZWS at once",
        metric: "commands_refused_total{code=\"rate_limited\"}",
    },
    Limit {
        name: "commands-burst",
        default: "2000",
        bounds: "the same at once, after a quiet while",
        reaction: "the same",
        metric: "commands_refused_total{code=\"rate_limited\"}",
    },
    Limit {
        name: "publications-per-second",
        default: "0",
        bounds: "publications of a client in a second, and at once; of `POST /publish` those of its address; 0 for no limit",
        reaction: "the same; 429 with `Retry-After`",
        metric: "commands_refused_total{code=\"rate_limited\"}",
    },
    Limit {
        name: "outbox-bytes-max",
        default: "4MiB",
        bounds: "what waits for a client that does not read",
        reaction: "by the policy of its subscriptions: replaced, the oldest dropped and told `lost`, or closed with 4008",
        metric: "dropped_messages_total{hop=\"session\",cause=\"slow_consumer\"}",
    },
    Limit {
        name: "outboxes-bytes-max",
        default: "256MiB",
        bounds: "the same for all clients together, without what is in the log: each shard has its part",
        reaction: "those for whom most waits are closed with 4008",
        metric: "outboxes_closed_total",
    },
    Limit {
        name: "half-open-timeout",
        default: "60s",
        bounds: "the time that a client says nothing, not even a pong, or takes no byte",
        reaction: "the connection is cut",
        metric: "sessions_closed_total{code=\"1006\"}",
    },
    Limit {
        name: "idle-timeout",
        default: "10m",
        bounds: "the time that a client of `trestle.v1.*` holds no subscription and says nothing but pongs; 0s for no limit",
        reaction: "closed with 1001",
        metric: "sessions_closed_total{code=\"1001\"}",
    },
    Limit {
        name: "interest-max",
        default: "10000",
        bounds: "prefixes that are not recorded and are subscribed upward",
        reaction: "shorter ones in place of those with most in common; what comes too much is dropped here",
        metric: "upstream_prefixes_joined",
    },
    Limit {
        name: "log-bytes-max",
        default: "64MiB",
        bounds: "memory of the newest messages, from which slow clients are fed",
        reaction: "the oldest go; who still waited for them is told `lost`, or closed with 4008",
        metric: "dropped_messages_total{hop=\"session\",cause=\"shard_overrun\"}",
    },
    Limit {
        name: "frame-bytes-max",
        default: "4MiB",
        bounds: "a ØMQ frame from upstream; a message has sixteen times as much",
        reaction: "that connection is cut and tried again; a message is dropped",
        metric: "upstream_cuts_total",
    },
    Limit {
        name: "decoded-bytes-max",
        default: "4MiB",
        bounds: "a body that a decoder decompresses, and the JSON made of one",
        reaction: "it goes out as it came, as `base64` with `undecoded`",
        metric: "undecoded_bodies_total{body=\"json\",cause=\"too_large\"}",
    },
    Limit {
        name: "recv-hwm",
        default: "100000",
        bounds: "messages that ØMQ queues from each upstream peer",
        reaction: "the peer drops; on a link they are fetched again, else clients are told `lost`",
        metric: "dropped_messages_total{hop=\"link\",cause=\"hole\"}",
    },
];

/// The flags of the table.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Connections open at once, over all shards, requests included. Beyond it: 503. Default: no limit but that of open
    /// files, at which the edge accepts no more until one goes.
    #[arg(long, value_name = "COUNT")]
    pub connections_max: Option<NonZeroU32>,
    /// The same of one client address; of IPv6 its /64. Beyond it: 429. Behind a --trusted-proxy the WebSockets and event
    /// streams of the address that it names. Of this edge: replicas do not share it. Default: no limit.
    #[arg(long, value_name = "COUNT")]
    pub address_connections_max: Option<NonZeroU32>,
    /// Clients that may connect in a second, over all shards. Beyond it they get 503 with a Retry-After that spreads them
    /// over the seconds it takes to serve them, so that a storm of reconnects does not keep those who are connected
    /// waiting. Default: no limit; compose.yaml sets one.
    #[arg(long, value_name = "PER_SECOND")]
    pub connection_rate: Option<NonZeroU32>,
    /// So many may connect at once after a quiet while. Default: what --connection-rate admits in a second.
    #[arg(long, value_name = "COUNT")]
    pub connection_burst: Option<NonZeroU32>,
    /// A connection has this long to finish its HTTP request. 10 s: slow phones do, idle attackers do not.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub handshake_timeout: Duration,
    /// A request's line and headers, at least 8KiB: a token in a cookie has room. Beyond it: 431.
    #[arg(long, value_name = "SIZE", default_value = "16KiB", value_parser = head_bytes)]
    pub head_bytes_max: ByteSize,
    /// A WebSocket message from a client; commands are small. Beyond it: closed with 1009.
    #[arg(long, value_name = "SIZE", default_value = "64KiB")]
    pub message_bytes_max: ByteSize,
    /// Subscriptions of one client. 1,000: more than a page shows, few enough for any machine. Beyond it: an error reply.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    pub subscriptions_max: usize,
    /// Bytes of a topic that a client names, 255 at most: longer ones have no last value. Beyond it: an error reply.
    #[arg(long, value_name = "BYTES", default_value_t = 255, value_parser = clap::value_parser!(u16).range(1..=255))]
    pub topic_bytes_max: u16,
    /// Commands of one client in a second, its pings with them, of a subscription each topic; 0: no limit. 100: a page that is busy says ten. Beyond it:
    /// error replies, and closed with 4029 if it goes on.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100)]
    pub commands_per_second: u32,
    /// So many at once after a quiet while. 2,000: who comes back subscribes to all that it had.
    #[arg(long, value_name = "COUNT", default_value_t = 2_000)]
    pub commands_burst: u32,
    /// Publications of one client in a second, and at once; by POST those of one address. 0: no limit. Beyond it: error
    /// replies, 429.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0)]
    pub publications_per_second: u32,
    /// Bytes that wait for a client that does not read: 4 MiB is some seconds of a busy feed. Beyond it the client's
    /// policy decides: oldest messages dropped, or closed with 4008.
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    pub outbox_bytes_max: ByteSize,
    /// The same for all clients together, of what is not in the log: replies, and messages that are not recorded. Each shard
    /// has its part. Beyond it those for whom most waits are closed with 4008.
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub outboxes_bytes_max: ByteSize,
    /// A client that says nothing, not even a pong, or takes no byte of what is sent for this long is gone. 60 s: two
    /// pings may be lost.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub half_open_timeout: Duration,
    /// A client of trestle.v1.* that holds no subscription and says nothing but pongs for this long is closed; 0s: never.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub idle_timeout: Duration,
    /// Prefixes that are not recorded and are subscribed upward: each costs the forwarder and every publisher memory. Beyond it
    /// those with most in common are asked for by a shorter one. 10,000: what libzmq sends anew within a second.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(2..))]
    pub interest_max: u16,
    /// What the newest messages cost in memory before the oldest are dropped. Slow clients are fed from here, so that
    /// they cost no queue of their own. 64 MiB is some seconds of the fastest feed.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub log_bytes_max: ByteSize,
    /// A ØMQ frame from upstream. Beyond it: that connection is cut, counted, logged and tried again. All frames of a
    /// message together may have sixteen times as much; beyond that it is dropped and counted.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = frame_bytes)]
    pub frame_bytes_max: ByteSize,
    /// A body that a decoder decompresses, and the JSON made of one. Beyond it: it goes out as it came. 4 MiB, as a frame.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = decoded_bytes)]
    pub decoded_bytes_max: ByteSize,
    /// Messages that ØMQ queues from each upstream peer before the peer drops. 100,000: a second's stall at that rate.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(i32).range(1..))]
    pub recv_hwm: i32,
}

impl Flags {
    /// How many clients may connect.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 where there is a burst and no rate.
    pub(crate) fn connection_rate(&self) -> Result<Option<Rate>, Exit> {
        match (self.connection_rate, self.connection_burst) {
            (None, Some(_)) => Err(Exit::usage("--connection-burst needs --connection-rate")),
            (None, None) => Ok(None),
            (Some(a_second), burst) => Ok(Some(Rate { a_second, burst: burst.unwrap_or(a_second) })),
        }
    }

    /// The bounds of each session of one of so many shards, pinged each `ping_interval`.
    pub fn of_sessions(&self, ping_interval: Duration, shards: usize) -> Limits {
        Limits {
            outbox_bytes_max: bytes(self.outbox_bytes_max),
            message_bytes_max: bytes(self.message_bytes_max),
            subscriptions_max: self.subscriptions_max,
            topic_bytes_max: self.topic_bytes_max.into(),
            commands_per_second: self.commands_per_second,
            commands_burst: self.commands_burst,
            publications_per_second: self.publications_per_second,
            outboxes_bytes_max: bytes(self.outboxes_bytes_max) / shards,
            idle_timeout: self.idle_timeout,
            ping_interval,
            half_open_timeout: self.half_open_timeout,
            ..Limits::default()
        }
    }

    /// The bounds of each ØMQ socket.
    pub fn of_sockets(&self) -> Bounds {
        let frame_bytes_max = i64::try_from(self.frame_bytes_max.as_u64()).unwrap_or(i64::MAX);
        Bounds { frame_bytes_max, recv_hwm: self.recv_hwm, ..Bounds::default() }
    }

    /// The bound of the log in bytes.
    pub fn log_bytes_max(&self) -> usize {
        bytes(self.log_bytes_max)
    }

    /// The bound of a decoded body in bytes.
    pub(crate) fn decoded_bytes_max(&self) -> usize {
        bytes(self.decoded_bytes_max)
    }

    /// The bound of a request's head in bytes.
    pub(crate) fn head_bytes_max(&self) -> usize {
        bytes(self.head_bytes_max)
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

/// A segment of the log, and so a message, stays below 4 GiB: sixteen frames of at most 128 MiB do.
fn frame_bytes(text: &str) -> Result<ByteSize, String> {
    size(text, ByteSize::b(1), ByteSize::mib(128), "1 byte and 128MiB")
}

/// As a frame, so that what is decoded and then encoded fits into memory, too.
fn decoded_bytes(text: &str) -> Result<ByteSize, String> {
    size(text, ByteSize::kib(1), ByteSize::mib(128), "1KiB and 128MiB")
}

/// Hyper takes no less than 8 KiB.
fn head_bytes(text: &str) -> Result<ByteSize, String> {
    size(text, ByteSize::kib(8), ByteSize::mib(1), "8KiB and 1MiB")
}

fn size(text: &str, min: ByteSize, max: ByteSize, allowed: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if (min..=max).contains(&size) { Ok(size) } else { Err(format!("must be between {allowed}")) }
}
