//! The flags of `trestle sub`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use trestle_messages::topic::{TOPIC_BYTES_MAX, is_reserved};
use trestle_messages::{Position, PositionError};

use super::address::Address;
use super::papers::{Papers, Token};
use super::session::Wanted;

/// Where `trestle demo` and an edge without flags listen.
const DEFAULT_URL: &str = "ws://127.0.0.1:8080";

/// What an edge takes as `max_hz`.
const HZ: std::ops::RangeInclusive<f64> = 0.001..=1_000.0;

const AFTER_HELP: &str = "\
Standard output has the events and nothing else. Everything else is on standard error, a line each: connected, stale, what was
lost (how much, why), that the edge will close the connection, when the next attempt is, and at the end the position to go on
from.

A connection that breaks comes back by itself, to any edge of the same installation, and gets what it missed: each recorded
message once, in its topic's order. What cannot be had any more is said as LOST.

Exit codes: 0 after --count events, Ctrl-C, SIGTERM, or when nobody reads the output any more; 64 for a wrong flag; 69 where
the edge cannot be reached at first, or refuses for good; 71 where output cannot be written.

Examples:
  trestle sub                                       everything of the demo
  trestle sub wss://example.org jobs/ hosts/        two prefixes
  trestle sub --snapshot --count 1 --exact --topic jobs/42
                                                    the last value of one topic
  trestle sub --json jobs/ | jq .data               the prefix alone: the URL is the default
  trestle sub --token-file ann.token --origin https://example.org wss://example.org jobs/
                                                    an edge that asks for tokens, and for a page of its own
  trestle sub --insecure https://localhost          the compose cluster's own certificate";

/// What to print, of which edge.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Flags {
    /// The edge, ws://127.0.0.1:8080 without it: ws://, wss://, http:// or https://; its path is /ws where none is given.
    /// Then prefixes of topics, as with --topic.
    #[arg(value_name = "URL] [PREFIX")]
    words: Vec<String>,
    /// Only topics that begin with PREFIX; base64:… where it is not text. Everything without any. Repeatable.
    #[arg(long, value_name = "PREFIX", value_parser = topic)]
    topic: Vec<Topic>,
    /// The prefixes are whole topics.
    #[arg(long)]
    exact: bool,
    /// First what came behind this position, which an event has in --json, or the last line of an earlier run.
    #[arg(long, value_name = "POSITION", value_parser = position)]
    since: Option<String>,
    /// First the last value of each topic; with --since only where what was missed cannot be sent.
    #[arg(long)]
    snapshot: bool,
    /// What the edge does when this reader is too slow: end the connection, which then comes back and gets the rest
    /// (disconnect, the default); drop the oldest and say so; or keep only the latest message of each topic.
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// At most so many events a topic and second, the latest of each; 0.001 to 1000.
    #[arg(long, value_name = "N", value_parser = hz)]
    max_hz: Option<f64>,
    /// One JSON object a line: exactly the edge's event, for jq. Without it: topic and body as text.
    #[arg(long)]
    json: bool,
    /// What was lost is on standard output, too, in its place: {"lost":{…}}.
    #[arg(long, requires = "json")]
    print_lost: bool,
    /// Ends after N events.
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// After a reconnect go on with what comes then, instead of with what was missed.
    #[arg(long)]
    no_recover: bool,
    /// Keep trying where the edge cannot be reached at first.
    #[arg(long)]
    wait: bool,
    /// A file with the token that an edge with --auth jwt asks for; read again for each connection.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The token itself, best as the variable TRESTLE_TOKEN: what is on a command line others on the machine see.
    #[arg(long, value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The page to pass for, where an edge asks for one: `https://example.org`.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    origin: Option<HeaderValue>,
    /// Trust the certificates in FILE (PEM) instead of the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// Trust any certificate. Whoever is on the way can read and change everything.
    #[arg(long)]
    insecure: bool,
}

/// [`Flags`] as they are used.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) address: Address,
    pub(super) trust: Trust,
    pub(super) papers: Papers,
    pub(super) wanted: Wanted,
    pub(super) json: bool,
    pub(super) print_lost: bool,
    pub(super) count: Option<u64>,
    pub(super) wait: bool,
}

/// Which certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    System,
    File(PathBuf),
    Any,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Policy {
    Disconnect,
    DropOldest,
    Conflate,
}

#[derive(Debug, Clone)]
struct Topic(Vec<u8>);

impl Flags {
    /// # Errors
    /// Names the word that is wrong.
    pub(super) fn options(&self) -> Result<Options, String> {
        let (url, prefixes) = match self.words.split_first() {
            Some((first, rest)) if first.contains("://") => (&**first, rest),
            _ => (DEFAULT_URL, &self.words[..]),
        };
        let mut topics: Vec<_> = self.topic.iter().map(|Topic(topic)| topic.clone()).collect();
        for prefix in prefixes {
            if prefix.contains("://") {
                return Err(format!("{prefix}: the URL is the first word, and there is one"));
            }
            if is_host_and_port(prefix) {
                return Err(format!("{prefix}: write ws://{prefix}, or --topic {prefix} if it is a topic"));
            }
            topics.push(topic(prefix).map_err(|reason| format!("{prefix}: {reason}"))?.0);
        }
        if topics.is_empty() && self.exact {
            return Err("--exact: of which topic? --topic says it".to_owned());
        }
        if topics.is_empty() {
            topics.push(Vec::new());
        }
        Ok(Options {
            address: url.parse().map_err(|reason| format!("{url}: {reason}"))?,
            trust: match (&self.cacert, self.insecure) {
                (Some(file), _) => Trust::File(file.clone()),
                (None, true) => Trust::Any,
                (None, false) => Trust::System,
            },
            papers: Papers { token: self.token()?, origin: self.origin.clone() },
            wanted: Wanted {
                topics,
                exact: self.exact,
                snapshot: self.snapshot,
                since: self.since.clone(),
                policy: self.policy.map(|policy| match policy {
                    Policy::Disconnect => "disconnect",
                    Policy::DropOldest => "drop_oldest",
                    Policy::Conflate => "conflate",
                }),
                max_hz: self.max_hz,
                recover: !self.no_recover,
            },
            json: self.json,
            print_lost: self.print_lost,
            count: self.count.map(NonZeroU64::get),
            wait: self.wait,
        })
    }
}

impl Flags {
    /// A file goes first: a variable may be there for other runs.
    fn token(&self) -> Result<Option<Token>, String> {
        match (&self.token_file, &self.token) {
            (Some(file), _) => Ok(Some(Token::File(file.clone()))),
            (None, Some(text)) => {
                Token::of_text(text).map(Some).map_err(|reason| format!("--token: {reason}"))
            }
            (None, None) => Ok(None),
        }
    }
}

fn is_host_and_port(word: &str) -> bool {
    let host = |host: &str| {
        !host.is_empty() && host.chars().all(|char| char.is_alphanumeric() || ".-".contains(char))
    };
    word.split_once(':').is_some_and(|(name, port)| host(name) && port.parse::<u16>().is_ok())
}

fn topic(text: &str) -> Result<Topic, String> {
    let topic = match text.strip_prefix("base64:") {
        Some(base64) => STANDARD.decode(base64).map_err(|error| format!("behind base64: {error}"))?,
        None => text.as_bytes().to_vec(),
    };
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(format!("a topic of {} bytes, at most {TOPIC_BYTES_MAX} are allowed", topic.len()));
    }
    if is_reserved(&topic) {
        return Err("topics that begin with \\0trestle are reserved".to_owned());
    }
    Ok(Topic(topic))
}

/// One of a later release's layout is for its edge to understand.
fn position(text: &str) -> Result<String, String> {
    match text.parse::<Position>() {
        Ok(_) | Err(PositionError::Format(_)) => Ok(text.to_owned()),
        Err(PositionError::Malformed) => Err("no position as an event or an earlier run gave it".to_owned()),
    }
}

fn origin(text: &str) -> Result<HeaderValue, String> {
    let is_origin = text == "null"
        || text.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
    let header = HeaderValue::try_from(text).ok().filter(|_| is_origin);
    header.ok_or_else(|| "write it as a browser does, for example https://example.org".to_owned())
}

fn hz(text: &str) -> Result<f64, String> {
    let hz = text.parse().ok().filter(|hz| HZ.contains(hz));
    hz.ok_or_else(|| format!("must be a number from {} to {}", HZ.start(), HZ.end()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    fn options(line: &str) -> Result<Options, String> {
        let words = ["sub"].into_iter().chain(line.split_whitespace());
        Program::try_parse_from(words).map_err(|error| error.to_string())?.flags.options()
    }

    #[test]
    fn url_and_prefixes() {
        for (line, url, topics) in [
            ("", "ws://127.0.0.1:8080/ws", &[""][..]),
            ("jobs/", "ws://127.0.0.1:8080/ws", &["jobs/"]),
            ("https://a jobs/ hosts/", "wss://a/ws", &["jobs/", "hosts/"]),
            ("ws://a:1/x --topic jobs/ --topic base64:YQ==", "ws://a:1/x", &["jobs/", "a"]),
            ("--topic a:1", "ws://127.0.0.1:8080/ws", &["a:1"]),
        ] {
            let options = options(line).unwrap();
            assert_eq!(options.address.uri.to_string(), url, "{line}");
            let topics: Vec<_> = topics.iter().map(|topic| topic.as_bytes().to_vec()).collect();
            assert_eq!(options.wanted.topics, topics, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = format!("--topic {}", "x".repeat(256));
        for (line, named) in [
            ("localhost:8080", "write ws://localhost:8080"),
            ("jobs/ ws://a", "ws://a: the URL is the first word"),
            ("ftp://a", "ftp://a: unknown scheme"),
            ("--since AQ", "--since"),
            ("--since today", "no position"),
            ("--max-hz 0", "from 0.001 to 1000"),
            ("--max-hz NaN", "from 0.001 to 1000"),
            ("--count 0", "--count"),
            ("--policy drop", "drop_oldest"),
            ("--topic base64:=", "--topic"),
            (&*long, "256 bytes"),
            ("--exact", "--topic"),
            ("--print-lost", "--json"),
            ("--insecure --cacert x", "--cacert"),
            ("--token é", "--token: it holds no token"),
            ("--origin example.org", "https://example.org"),
            ("--origin https://example.org/", "https://example.org"),
        ] {
            let error = options(line).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }

    #[test]
    fn a_position_of_a_later_layout_is_passed_on() {
        let later = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([9; 20]);
        assert_eq!(options(&format!("--since {later}")).unwrap().wanted.since, Some(later));
    }
}
