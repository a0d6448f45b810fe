//! What a publisher is told: flags as typed ([`Flags`]) and what they come to ([`Config`]).

use std::num::NonZeroU64;
use std::time::Duration;

use clap::Parser;
use trestle_messages::topic::{TOPIC_BYTES_MAX, is_reserved};
use trestle_process::config::Common;
use trestle_process::curve::{CurveFlags, ServerKey};
use trestle_process::exit::Exit;
use trestle_process::zmq::Listen;

/// Where publishers of a forwarder connect to unless told otherwise.
const CONNECT_DEFAULT: &str = "tcp://127.0.0.1:5555";

/// Bytes of a generated payload where `--size` is not given: what ØMQ's own benchmarks take for a small message.
const SIZE_DEFAULT: usize = 128;

/// A body may be this long, bytes. Forwarders and edges cut a peer that sends frames over 4 MiB; 1 KiB is kept for
/// the envelope.
pub const BODY_BYTES_MAX: usize = (4 << 20) - (1 << 10);

const KEY_EXPECTED: &str =
    "behind ,curve= write the server's public key, 40 characters of Z85, or behind ,curve-file= its file";

/// Publishes to ØMQ: events of this host and of demo jobs, or as a tool what it is given.
///
/// Without any of --stdin, --rate, --count and --size it publishes demo events to whoever subscribes, until it is
/// stopped.
#[derive(Debug, Clone, Parser)]
#[command(name = "trestle-publisher", version)]
pub struct Flags {
    /// Connect to this endpoint, for example a forwarder's tcp://HOST:5555. Behind ,curve=KEY or ,curve-file=FILE stands
    /// its CURVE public key, without which it is plain ØMQ. Repeatable: each gets every message.
    /// [default: tcp://127.0.0.1:5555, unless --bind is given]
    #[arg(long, value_name = "ENDPOINT[,curve=KEY]", conflicts_with = "bind")]
    pub connect: Vec<String>,
    /// Listen here instead, HOST:PORT or an endpoint; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<Listen>,
    /// What the tool publishes on: at most 255 bytes.
    #[arg(long)]
    pub topic: Option<String>,
    /// Publish each line of standard input: a JSON object or array as JSON, other UTF-8 as text, the rest as bytes.
    #[arg(long, conflicts_with = "size")]
    pub stdin: bool,
    /// Publish bare frames, the topic and the body, instead of typed events.
    #[arg(long)]
    pub raw: bool,
    /// Messages a second, also fractions. Without it as fast as the slowest subscriber takes them.
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// End after so many messages.
    #[arg(long)]
    pub count: Option<NonZeroU64>,
    /// Publish generated bodies of so many bytes. [default: 128]
    #[arg(long, value_name = "BYTES")]
    pub size: Option<usize>,
    /// How long the tool waits for a subscription that covers its topic, or for a peer that takes no more messages,
    /// before it exits with 69: for example 200ms, 30s or 5m. The demo waits without end.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Who it is where it connects or listens by CURVE.
    #[command(flatten)]
    pub curve: CurveFlags,
    /// Flags of every process.
    #[command(flatten)]
    pub common: Common,
}

/// A publisher's whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The peers.
    pub attach: Attach,
    /// What is published.
    pub task: Task,
    /// Who it is by CURVE.
    pub curve: CurveFlags,
}

/// How a publisher meets its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attach {
    /// It connects to each of these endpoints, `ENDPOINT[,curve=KEY|,curve-file=FILE]`; each gets every message that it subscribed to.
    Connect(Vec<String>),
    /// It listens.
    Bind(Listen),
}

/// What a publisher does.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Events of this host and of demo jobs, until it is stopped.
    Demo(Demo),
    /// One topic's messages, until there are no more.
    Tool(Tool),
}

/// The demo's settings; the default is what the program runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demo {
    /// The host's name in `system/<host>/…`. Default: as the system says.
    pub host: Option<String>,
    /// The same seed gives the same jobs. Default: by the clock.
    pub seed: Option<u64>,
}

/// The tool's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// At most 255 bytes, not reserved.
    pub topic: Vec<u8>,
    /// The bodies.
    pub payloads: Payloads,
    /// Without the typed envelope.
    pub raw: bool,
    /// Messages a second, positive; `None` is without pacing.
    pub rate: Option<f64>,
    /// Ends after so many messages.
    pub count: Option<NonZeroU64>,
    /// How long nobody may want the topic, or a peer may take nothing.
    pub wait: Duration,
}

/// Where a tool's bodies come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payloads {
    /// Standard input, a body a line.
    Stdin,
    /// Generated: a decimal sequence number from 1, then letters, in all so many bytes.
    Generated(usize),
}

impl Config {
    /// A demo publisher that connects to `endpoint`.
    pub fn demo(endpoint: impl Into<String>) -> Self {
        Self {
            attach: Attach::Connect(vec![endpoint.into()]),
            task: Task::Demo(Demo::default()),
            curve: CurveFlags::default(),
        }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag.
    pub fn check(&self) -> Result<(), Exit> {
        if self.attach == Attach::Connect(Vec::new()) {
            return Err(Exit::usage("--connect names no endpoint"));
        }
        self.attach.peers()?;
        let Task::Tool(tool) = &self.task else { return Ok(()) };
        if tool.topic.len() > TOPIC_BYTES_MAX {
            let n = tool.topic.len();
            return Err(Exit::usage(format!(
                "--topic has {n} bytes; at most {TOPIC_BYTES_MAX} are possible"
            )));
        }
        if is_reserved(&tool.topic) {
            return Err(Exit::usage("--topic begins with \"\\0trestle\", which is reserved"));
        }
        if let Payloads::Generated(size) = tool.payloads
            && size > BODY_BYTES_MAX
        {
            return Err(Exit::usage(format!("--size {size} is more than {BODY_BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

impl Attach {
    /// The endpoints to connect to as libzmq takes them, each with whose key it must prove to have.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the endpoint.
    pub(crate) fn peers(&self) -> Result<Vec<(&str, Option<ServerKey>)>, Exit> {
        let Self::Connect(endpoints) = self else { return Ok(Vec::new()) };
        let split = |text: &String| Exit::usage(format!("--connect {text}: {KEY_EXPECTED}"));
        endpoints.iter().map(|text| ServerKey::split(text).map_err(|_| split(text))).collect()
    }
}

impl Flags {
    /// What the flags come to.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flags that are missing or contradict each other.
    pub fn into_config(self) -> Result<Config, Exit> {
        let attach = match (self.bind, self.connect) {
            (Some(listen), _) => Attach::Bind(listen),
            (None, connect) if connect.is_empty() => Attach::Connect(vec![CONNECT_DEFAULT.to_owned()]),
            (None, connect) => Attach::Connect(connect),
        };
        let is_tool = self.stdin || self.rate.is_some() || self.count.is_some() || self.size.is_some();
        let task = match (is_tool, self.topic) {
            (true, Some(topic)) => Task::Tool(Tool {
                topic: topic.into_bytes(),
                payloads: match self.stdin {
                    true => Payloads::Stdin,
                    false => Payloads::Generated(self.size.unwrap_or(SIZE_DEFAULT)),
                },
                raw: self.raw,
                rate: self.rate,
                count: self.count,
                wait: self.wait,
            }),
            (true, None) => return Err(Exit::usage("--stdin, --rate, --count and --size need --topic")),
            (false, Some(_)) => return Err(needs_tool("--topic")),
            (false, None) if self.raw => return Err(needs_tool("--raw")),
            (false, None) => Task::Demo(Demo::default()),
        };
        let config = Config { attach, task, curve: self.curve };
        config.check()?;
        Ok(config)
    }
}

fn needs_tool(flag: &str) -> Exit {
    Exit::usage(format!(
        "{flag} needs one of --stdin, --rate, --count and --size: demo events have their own topics"
    ))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("not a positive number".to_owned()) }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err("not a duration such as 200ms, 30s or 5m".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "not a whole number before the unit".to_owned())?;
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn check(args: &[&str]) -> Result<Config, String> {
        let args = ["trestle-publisher"].into_iter().chain(args.iter().copied());
        let flags: Flags =
            trestle_process::config::parse(args, &HashMap::new()).map_err(|e| e.to_string())?;
        flags.into_config().map_err(|exit| exit.to_string())
    }

    fn tool(args: &[&str]) -> Tool {
        match check(args).unwrap().task {
            Task::Tool(tool) => tool,
            Task::Demo(_) => panic!("{args:?} is no demo"),
        }
    }

    #[test]
    fn no_flags_are_the_demo_at_the_local_forwarder() {
        assert_eq!(check(&[]).unwrap(), Config::demo(CONNECT_DEFAULT));
    }

    #[test]
    fn each_tool_flag_makes_a_tool() {
        assert_eq!(tool(&["--stdin", "--topic", "a"]).payloads, Payloads::Stdin);
        assert_eq!(tool(&["--count", "3", "--topic", "a"]).payloads, Payloads::Generated(SIZE_DEFAULT));
        assert_eq!(tool(&["--size", "0", "--topic", "a"]).payloads, Payloads::Generated(0));
        assert_eq!(tool(&["--rate", "0.5", "--topic", "a"]).rate, Some(0.5));
        let paced = tool(&["--stdin", "--rate", "10", "--count", "2", "--topic", "a", "--wait", "5m"]);
        assert_eq!((paced.rate, paced.wait), (Some(10.0), Duration::from_secs(300)));
    }

    #[test]
    fn contradictions_name_the_flags() {
        let long = "x".repeat(256);
        for (args, names) in [
            (&["--connect", "tcp://a:1", "--bind", "127.0.0.1:0"][..], &["--connect", "--bind"][..]),
            (&["--stdin", "--size", "3", "--topic", "a"], &["--stdin", "--size"]),
            (&["--stdin"], &["--topic"]),
            (&["--topic", "a"], &["--topic", "--stdin"]),
            (&["--raw"], &["--raw", "--stdin"]),
            (&["--rate", "0", "--topic", "a"], &["--rate"]),
            (&["--rate", "NaN", "--topic", "a"], &["--rate"]),
            (&["--count", "0", "--topic", "a"], &["--count"]),
            (&["--size", "4194304", "--topic", "a"], &["--size"]),
            (&["--wait", "3", "--stdin", "--topic", "a"], &["--wait"]),
            (&["--stdin", "--topic", &long], &["--topic", "256"]),
            (&["--stdin", "--topic", "\0trestle"], &["--topic", "reserved"]),
        ] {
            let error = check(args).expect_err("contradicts itself");
            assert!(names.iter().all(|name| error.contains(name)), "{args:?}: {error}");
        }
    }
}
