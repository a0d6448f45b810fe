//! The forwarder's flags: as typed ([`Config`]) and, checked against each other, as usable ([`Config::rules`],
//! [`Config::access`]).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;
use trestle_process::config::Common;
use trestle_process::curve::{CurveFlags, Identity, check_allow};
use trestle_process::exit::Exit;
use trestle_process::grpc::{Access, AccessFlags};
use trestle_process::private_http;
use trestle_process::source::Source;
use trestle_process::zmq::{Bounds, Listen};
use trestle_recorder::{RecordRule, RecordRules, SplitRule};

/// Joins ØMQ publishers and subscribers, and numbers what edges follow.
///
/// Every address is loopback by default, because ØMQ asks nobody for a password; give 0.0.0.0:PORT to serve other
/// machines. Port 0 picks a free port and the log says which.
#[derive(Debug, Clone, Parser)]
#[command(name = "trestle-forwarder", version)]
pub struct Config {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are the flags, and clap would show this as their help")]
    pub common: Common,

    /// Where publishers connect (XSUB).
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5555")]
    pub frontend: Listen,
    /// Where any ØMQ subscriber connects (XPUB): the frames as they came.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5556")]
    pub backend: Listen,
    /// Where edges connect (XPUB): the frames with a stamp behind them.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5557")]
    pub link: Listen,
    /// Where edges ask for what they missed (gRPC).
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9091")]
    pub grpc: SocketAddr,
    /// Where /metrics, /healthz and /readyz are.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9101")]
    pub metrics: SocketAddr,

    /// A publisher that binds, to connect to, for example tcp://bitcoind:28332. An ALIAS gives a feed that has no topics
    /// one, on --link. A KEY is its CURVE public key: what comes is encrypted, and from its holder; or ,curve-file=FILE.
    /// Repeatable.
    #[arg(long, value_name = "[ALIAS=]ENDPOINT[,curve=KEY]")]
    pub source: Vec<Source>,
    /// A single frame that begins with PREFIX is parted at DELIMITER into topic and body, on --link; escapes \n \t \r
    /// \0 \\ \xHH, for example '=\x20'. The longest prefix wins. Repeatable.
    #[arg(long, value_name = "PREFIX=DELIMITER")]
    pub split: Vec<SplitRule>,
    /// Number and keep topics that begin with PREFIX, for example jobs/=64MiB,10m. Default: every topic, 64 MiB and ten
    /// minutes. What is neither recorded nor subscribed to never leaves its publisher. Repeatable.
    #[arg(long, value_name = "PREFIX[=BYTES[,AGE]]")]
    pub record: Vec<RecordRule>,
    /// Number and keep nothing: plain best-effort ØMQ, fetched on demand.
    #[arg(long)]
    pub no_record: bool,
    /// Topics that begin with PREFIX carry their publisher's own counter in the last frame, four bytes, little-endian, as
    /// Bitcoin Core's do: where it leaps, messages were lost before they came here, which is counted and logged. Of recorded
    /// topics only, and of each topic one publisher at --frontend. Repeatable.
    #[arg(long, value_name = "PREFIX")]
    pub sequence: Vec<String>,
    /// A folder that keeps what is recorded over restarts and crashes of the forwarder. A power cut or a crash of the machine
    /// may lose all of it: a new epoch begins then, and clients are told. Without it every restart begins one.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as of `common`")]
    pub private: AccessFlags,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as of `common`")]
    pub curve: CurveFlags,
    /// Who may connect to --frontend, --backend and --link, beside --curve-secret-key: a file of public keys, one a line,
    /// perhaps a name behind each, or a folder of certificates. Read again every second. Without it whoever knows this
    /// forwarder's public key may.
    #[arg(long, value_name = "FILE|DIR")]
    pub curve_allow: Option<PathBuf>,

    /// A frame from a publisher. A larger one cuts the connection of its sender before it is held in memory.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = frame_bytes)]
    pub frame_bytes_max: ByteSize,
    /// Messages that wait for one subscriber or edge that does not read; beyond it its newest are dropped. 100,000: a
    /// second's stall at that rate.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(i32).range(1..))]
    pub send_hwm: i32,
    /// Messages that wait from one publisher before it is no longer read.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(i32).range(1..))]
    pub recv_hwm: i32,
    /// A replay of which an edge takes nothing for so long is ended, and the edge asks again: until then it holds what the
    /// record rules have let go since it began. An edge that has that much to do is seldom behind by more than seconds.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub replay_timeout: Duration,
}

impl Default for Config {
    /// No flag given.
    fn default() -> Self {
        Self::parse_from(["trestle-forwarder"])
    }
}

impl Config {
    /// What is recorded.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 if `--record` and `--no-record` are both given.
    pub fn rules(&self) -> Result<RecordRules, Exit> {
        match (self.no_record, &self.record[..]) {
            (true, [_, ..]) => Err(Exit::usage("--record and --no-record exclude each other")),
            (true, []) => Ok(RecordRules::nothing()),
            (false, []) => Ok(RecordRules::everything()),
            (false, rules) => Ok(rules.iter().cloned().collect()),
        }
    }

    /// What private ports ask of those who come.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 for a file that is none, or where another machine reaches a port that asks for nothing.
    pub fn access(&self) -> Result<Access, Exit> {
        let access = self.private.open()?;
        access.check("--grpc", self.grpc)?;
        private_http::check("--metrics", self.metrics, access.token())?;
        Ok(access)
    }

    /// Whether ØMQ ports are encrypted, and who this forwarder is there and at its sources.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 for a file that holds no key, or an allow-list without one.
    pub fn identity(&self) -> Result<(bool, Identity), Exit> {
        let is_server = self.curve.curve_secret_key.is_some();
        if self.curve_allow.is_some() && !is_server {
            return Err(Exit::usage("--curve-allow needs --curve-secret-key: plain ØMQ knows nobody"));
        }
        Ok((is_server, self.curve.open()?))
    }

    /// Whether [`start`](crate::start) would take it, its addresses and its data folder aside.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag at fault.
    pub fn check(&self) -> Result<(), Exit> {
        self.rules()?;
        self.access()?;
        self.identity()?;
        self.curve_allow.as_deref().map_or(Ok(()), check_allow)
    }

    /// The bounds of each ØMQ socket.
    pub fn bounds(&self) -> Bounds {
        let frame_bytes_max = i64::try_from(self.frame_bytes_max.as_u64()).unwrap_or(i64::MAX);
        Bounds { frame_bytes_max, send_hwm: self.send_hwm, recv_hwm: self.recv_hwm }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("must be above zero".to_owned()) } else { Ok(duration) }
}

/// As an edge's bound is checked: what this lets pass, an edge can be told to take.
fn frame_bytes(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    let allowed = ByteSize::b(1)..=ByteSize::mib(128);
    if allowed.contains(&size) { Ok(size) } else { Err("must be between 1 byte and 128MiB".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use trestle_process::exit::USAGE;

    use super::*;

    fn parse(args: &[&str]) -> Result<Config, String> {
        let args = ["trestle-forwarder"].iter().chain(args);
        trestle_process::config::parse(args, &HashMap::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_loopback_and_record_everything() {
        let config = Config::default();
        assert_eq!(config.bounds(), Bounds::default());
        assert_eq!(config.rules().unwrap(), RecordRules::everything());
        assert!(config.access().unwrap().is_open());
        for listen in [&config.frontend, &config.backend, &config.link] {
            assert!(listen.to_string().starts_with("tcp://127.0.0.1:"), "{listen}");
        }
        assert!(config.grpc.ip().is_loopback() && config.metrics.ip().is_loopback());
    }

    #[test]
    fn record_rules_come_from_the_flags() {
        let rules = |args: &[&str]| parse(args).unwrap().rules();
        assert_eq!(rules(&["--no-record"]).unwrap(), RecordRules::nothing());
        let some = rules(&["--record", "jobs/=1MiB,5m", "--record", "chat/"]).unwrap();
        assert!(some.is_recorded(b"jobs/1") && some.is_recorded(b"chat/") && !some.is_recorded(b"x"));
        let both = rules(&["--no-record", "--record", "jobs/"]).unwrap_err();
        assert_eq!(both.code, USAGE);
        assert!(both.reason.contains("--record") && both.reason.contains("--no-record"));
    }

    #[test]
    fn bad_values_name_their_flag() {
        for args in [
            ["--frontend", "5555"],
            ["--grpc", "9091"],
            ["--source", "bitcoind:28332"],
            ["--split", "x"],
            ["--record", "x=big"],
            ["--frame-bytes-max", "1GiB"],
            ["--send-hwm", "0"],
            ["--recv-hwm", "many"],
            ["--replay-timeout", "0s"],
        ] {
            let error = parse(&args).unwrap_err();
            assert!(error.contains(args[0]), "{args:?}: {error}");
        }
    }
}
