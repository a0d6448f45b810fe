//! The edge's flags: as typed ([`Config`]) and, checked against each other, as usable ([`Upstream`]).

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;
use trestle_hub::{Grant, Limits};
use trestle_process::config::Common;
use trestle_process::curve::{CurveFlags, Identity};
use trestle_process::exit::Exit;
use trestle_process::grpc::{Access, AccessFlags};
use trestle_process::private_http;
use trestle_process::source::{Endpoint, Source};
use trestle_recorder::{RecordRule, RecordRules, SplitRule};
use warp::http::Uri;

use crate::address::network;
use crate::decoders::{self, Table};
use crate::limits::Flags;
use crate::origin::AllowedOrigin;
use crate::publish::Way;
use crate::tokens::{Auth, AuthFlags, Tokens};

/// Serves browsers from a forwarder's link (--link), or directly from any ØMQ publisher (--source).
#[derive(Debug, Clone, Parser)]
#[command(name = "trestle-edge", version)]
pub struct Config {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are the flags, and clap would show this as their help")]
    pub common: Common,

    /// Where browsers connect: the page, WebSockets, SSE. Loopback, because no token is asked for unless configured.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where the private gRPC service listens. Loopback: whoever reaches it controls the edge.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9092")]
    pub control: SocketAddr,
    /// Where /metrics, /healthz and /readyz are. Loopback, like all private ports.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9100")]
    pub metrics: SocketAddr,

    /// The forwarder's link, for example tcp://forwarder:5557. Its name is resolved anew at each reconnect. Behind
    /// ,curve=KEY or ,curve-file=FILE stands its CURVE public key, without which it is plain ØMQ.
    #[arg(long, value_name = "ENDPOINT[,curve=KEY]")]
    pub link: Option<Endpoint>,
    /// The forwarder's gRPC service, for example http://forwarder:9091: it is asked for what was recorded before this edge
    /// came, and for what was lost on the link. Without it an edge has what came since its start, and a loss stays one.
    /// Only with --link.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub recorder: Option<Uri>,
    /// Without a forwarder: a publisher to connect to, for example tcp://zmq-pub:5556. An ALIAS gives a feed that has no
    /// topics one. Repeatable.
    #[arg(long, value_name = "[ALIAS=]ENDPOINT[,curve=KEY]")]
    pub source: Vec<Source>,
    /// A single frame that begins with PREFIX is parted at DELIMITER into topic and body; escapes \n \t \r \0 \\ \xHH,
    /// for example '=\x20'. The longest prefix wins. Only with --source. Repeatable.
    #[arg(long, value_name = "PREFIX=DELIMITER")]
    pub split: Vec<SplitRule>,
    /// Number and keep topics that begin with PREFIX, for example jobs/=64MiB,10m. Default: every topic, 64 MiB and ten
    /// minutes. Only with --source; on a link the forwarder decides. Repeatable.
    #[arg(long, value_name = "PREFIX[=BYTES[,AGE]]")]
    pub record: Vec<RecordRule>,
    /// Number and keep nothing: plain best-effort ØMQ, fetched on demand. Only with --source.
    #[arg(long)]
    pub no_record: bool,
    /// Topics that begin with PREFIX carry their publisher's own counter in the last frame, four bytes, little-endian, as
    /// Bitcoin Core's do: where it leaps, messages were lost before they came here, which is counted and said. Of recorded
    /// topics only. Only with --source. Repeatable.
    #[arg(long, value_name = "PREFIX")]
    pub sequence: Vec<String>,
    /// What the bodies of topics are that begin with a prefix, decoded once for all clients of JSON and of event streams. In
    /// the file a table, `[[decoder]]` with prefix, decompress (zlib or gzip; none if left out) and body (json, text, binary,
    /// event, msgpack or cbor; or protobuf, with descriptors and message); here the same as a JSON object. The longest prefix
    /// decides. Repeatable.
    #[arg(long, value_name = "JSON", value_parser = decoders::table)]
    pub decoder: Vec<Table>,
    /// Everybody may publish to topics that begin with PREFIX, for example chat/; '' allows all. Off unless given, and not with
    /// --auth jwt, where tokens say who may. Goes to the forwarder by --recorder, or to --publish-to. Repeatable.
    #[arg(long, value_name = "PREFIX")]
    pub allow_publish: Vec<String>,
    /// Without a forwarder: where a SUB or XSUB listens that is to have what clients publish, for example tcp://worker:5558.
    #[arg(long, value_name = "ENDPOINT[,curve=KEY]")]
    pub publish_to: Option<Endpoint>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as of `common`")]
    pub private: AccessFlags,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as of `common`")]
    pub curve: CurveFlags,

    /// Threads that deliver, each with its own listener and connections. Default: one per core.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub tokens: AuthFlags,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub limits: Flags,
    /// Proxies whose X-Forwarded-For says where a client is, for limits and logs: a network such as 10.0.0.0/8, or an address.
    /// Default: nobody is believed, and a client is where its connection comes from. Repeatable.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub trusted_proxy: Vec<IpNet>,
    /// Pages that may connect, by their browsers' Origin: same-host (the host that they ask, whatever the port),
    /// `https://example.org`, example.org with any scheme and port, *.example.org for what is below it, null, or * for all.
    /// Others get 403. What is given replaces same-host. Repeatable.
    #[arg(long, value_name = "ORIGIN", default_value = "same-host")]
    pub allow_origin: Vec<AllowedOrigin>,
    /// Refuse whoever names no Origin, too: programs that are no browsers do not, unless told to. For production.
    #[arg(long)]
    pub require_origin: bool,

    /// A silent client is pinged, and told its position, this often. 25 s: some mobile networks forget a connection
    /// after 30 s.
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = duration)]
    pub ping_interval: Duration,
    /// How long an edge takes to leave, at most. After SIGTERM or Control.Drain it takes no new clients, and closes those
    /// it has evenly over this time less 5s, so that they come back elsewhere without a storm; few clients at 100 a second.
    /// Who has not left in the end is cut. 30s: 400 a second where there are 10,000. A container needs a longer grace period.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub drain_timeout: Duration,
    /// Messages gather for so long before they are sent: at rates where nothing gathers by itself, more of them share the
    /// cost of a write, and each comes later by as much. 0s: each is sent at once.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub flush_window: Duration,
    /// A topic that no client wants any more is still fetched for this long, so that a reloaded page does not travel to
    /// the publisher and back.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    pub interest_linger: Duration,
}

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// A forwarder: it stamps, and says what is recorded.
    Link {
        /// Where it sends.
        link: Endpoint,
        /// Where it is asked for what is missing.
        recorder: Option<Uri>,
    },
    /// Publishers, directly: the edge stamps.
    Sources {
        /// At least one.
        sources: Vec<Source>,
        /// Part topic and body of single frames.
        splits: Vec<SplitRule>,
        /// What is numbered and kept.
        rules: RecordRules,
        /// Prefixes of the topics whose publishers count.
        sequences: Vec<String>,
    },
}

impl Default for Config {
    /// No flag given; no upstream, so not yet usable.
    fn default() -> Self {
        Self::parse_from(["trestle-edge"])
    }
}

impl Config {
    /// The upstream that the flags name.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flags at fault.
    pub fn upstream(&self) -> Result<Upstream, Exit> {
        match (&self.link, &self.source[..]) {
            (None, []) => Err(Exit::usage(
                "no upstream: give --link ENDPOINT (a forwarder) or --source ENDPOINT (a publisher)",
            )),
            (Some(_), [_, ..]) => Err(Exit::usage("--link and --source exclude each other")),
            (Some(link), []) => match self.only_with_source() {
                Some(flag) => Err(Exit::usage(format!(
                    "{flag} cannot be used with --link: give it to the forwarder, or use --source"
                ))),
                None => Ok(Upstream::Link { link: link.clone(), recorder: self.recorder.clone() }),
            },
            (None, _) if self.recorder.is_some() => {
                Err(Exit::usage("--recorder cannot be used with --source: it belongs to --link"))
            }
            (None, sources) => Ok(Upstream::Sources {
                sources: sources.to_vec(),
                splits: self.split.clone(),
                rules: self.rules()?,
                sequences: self.sequence.clone(),
            }),
        }
    }

    /// Whether [`start`](crate::start) would take it, its addresses aside.
    ///
    /// # Errors
    /// As of `start`: an [`Exit`] with code 64 that names the flag at fault.
    pub fn check(&self) -> anyhow::Result<()> {
        self.upstream()?;
        self.identity()?;
        self.limits.connection_rate()?;
        self.access()?;
        Way::of(self)?;
        decoders::of(self)?;
        Tokens::of(&self.tokens, Grant::nothing())?;
        Ok(())
    }

    /// Who this edge is where it connects by CURVE.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 for a file that holds no key, or a key where every endpoint is plain.
    pub(crate) fn identity(&self) -> Result<Identity, Exit> {
        let endpoints = self.link.iter().chain(&self.publish_to);
        let endpoints = endpoints.chain(self.source.iter().map(|source| &source.endpoint));
        self.curve.client(endpoints.map(Endpoint::server))
    }

    /// Whether tokens say who may what.
    pub(crate) fn asks_for_tokens(&self) -> bool {
        self.tokens.auth != Auth::None
    }

    fn only_with_source(&self) -> Option<&'static str> {
        let given = [
            ("--record", !self.record.is_empty()),
            ("--no-record", self.no_record),
            ("--split", !self.split.is_empty()),
            ("--sequence", !self.sequence.is_empty()),
        ];
        given.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }

    fn rules(&self) -> Result<RecordRules, Exit> {
        match (self.no_record, &self.record[..]) {
            (true, [_, ..]) => Err(Exit::usage("--record and --no-record exclude each other")),
            (true, []) => Ok(RecordRules::nothing()),
            (false, []) => Ok(RecordRules::everything()),
            (false, rules) => Ok(rules.iter().cloned().collect()),
        }
    }

    /// What private ports ask of those who come, and --recorder is shown.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 for a file that is none, or where another machine reaches a port that asks for nothing.
    pub(crate) fn access(&self) -> Result<Access, Exit> {
        let access = self.private.open()?;
        access.check("--control", self.control)?;
        private_http::check("--metrics", self.metrics, access.token())?;
        Ok(access)
    }

    /// The bounds of each session.
    pub fn limits(&self) -> Limits {
        self.limits.of_sessions(self.ping_interval, self.shards())
    }

    /// How many shards run.
    pub fn shards(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.shards.map_or_else(cores, usize::from)
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be more than 0".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write for example 500ms, 30s or 2m")),
    }
}

fn http_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{error}"))?;
    let known = url.scheme_str() == Some("http") && url.host().is_some();
    if known { Ok(url) } else { Err("write a URL, for example http://forwarder:9091".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::num::NonZeroU32;

    use trestle_process::zmq::Bounds;

    use super::*;
    use crate::admission::Rate;

    fn parse(args: &str) -> Result<Config, String> {
        let args = std::iter::once("trestle-edge").chain(args.split_whitespace());
        trestle_process::config::parse(args, &HashMap::new()).map_err(|error| error.to_string())
    }

    fn upstream(args: &str) -> Result<Upstream, String> {
        parse(args)?.upstream().map_err(|exit| {
            assert_eq!(exit.code, trestle_process::exit::USAGE);
            exit.reason
        })
    }

    #[test]
    fn an_upstream_is_a_link_or_sources_and_not_both() {
        let link = upstream("--link tcp://forwarder:5557 --recorder http://forwarder:9091").unwrap();
        let recorder = Some("http://forwarder:9091".parse().unwrap());
        assert_eq!(link, Upstream::Link { link: "tcp://forwarder:5557".parse().unwrap(), recorder });

        let sources = upstream("--source tcp://a:1 --source eddn=tcp://b:2 --split =\\x20").unwrap();
        let Upstream::Sources { sources, splits, rules, .. } = sources else { panic!("{sources:?}") };
        assert_eq!((sources.len(), splits.len(), rules), (2, 1, RecordRules::everything()));

        for (args, named) in [
            ("", &["--link", "--source"][..]),
            ("--link tcp://a:1 --source tcp://b:2", &["--link", "--source"]),
            ("--source tcp://a:1 --recorder http://b:2", &["--source", "--recorder"]),
            ("--link tcp://a:1 --no-record", &["--link", "--no-record"]),
            ("--link tcp://a:1 --record jobs/", &["--link", "--record"]),
            ("--link tcp://a:1 --split =x", &["--link", "--split"]),
            ("--link tcp://a:1 --sequence hash", &["--link", "--sequence"]),
            ("--source tcp://a:1 --record jobs/ --no-record", &["--record", "--no-record"]),
        ] {
            let reason = upstream(args).unwrap_err();
            assert!(named.iter().all(|flag| reason.contains(flag)), "{args}: {reason}");
        }
    }

    #[test]
    fn record_rules_come_from_the_flags() {
        let rules = |args: &str| match upstream(&format!("--source tcp://a:1 {args}")).unwrap() {
            Upstream::Sources { rules, .. } => rules,
            Upstream::Link { link, .. } => panic!("{link}"),
        };
        assert_eq!(rules("--no-record"), RecordRules::nothing());
        let some = rules("--record jobs/=1MiB,5m --record chat/");
        assert!(some.is_recorded(b"jobs/1") && some.is_recorded(b"chat/") && !some.is_recorded(b"x"));
    }

    #[test]
    fn a_burst_is_a_seconds_worth_and_needs_a_rate() {
        let rate = |args: &str| parse(args).unwrap().limits.connection_rate().map_err(|exit| exit.reason);
        let of = |a_second, burst| {
            let [a_second, burst] = [a_second, burst].map(|n| NonZeroU32::new(n).unwrap());
            Ok(Some(Rate { a_second, burst }))
        };
        assert_eq!(rate(""), Ok(None));
        assert_eq!(rate("--connection-rate 500"), of(500, 500));
        assert_eq!(rate("--connection-rate 500 --connection-burst 20"), of(500, 20));
        assert!(rate("--connection-burst 20").unwrap_err().contains("--connection-rate"));
    }

    #[test]
    fn defaults_are_those_of_the_sessions_and_sockets() {
        let config = Config::default();
        assert_eq!(config.limits.of_sessions(config.ping_interval, 1), Limits::default());
        assert_eq!(config.limits.of_sockets(), Bounds::default());
        assert!(config.shards() >= 1);
    }

    #[test]
    fn bad_values_name_their_flag() {
        for args in [
            "--listen 8080",
            "--link forwarder:5557",
            "--recorder forwarder",
            "--source =tcp://a:1",
            "--shards 0",
            "--ping-interval 0s",
            "--drain-timeout soon",
            "--outbox-bytes-max big",
            "--frame-bytes-max 1GiB",
            "--recv-hwm 0",
            "--connection-rate 0",
            "--address-connections-max 0",
            "--head-bytes-max 4KiB",
            "--trusted-proxy nginx",
            "--allow-origin https://a/b",
            "--split x",
            "--decoder x",
        ] {
            let flag = args.split(' ').next().unwrap();
            let error = parse(args).unwrap_err();
            assert!(error.contains(flag), "{args}: {error}");
        }
    }
}
