//! `trestle token inspect`: what a token says, and whether it counts.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use trestle_auth::{Jwt, Keys, Refused, Rules, TOKEN_BYTES_MAX, unverified};
use trestle_process::exit::Exit;

use super::{duration, print, read};

const AFTER_HELP: &str = "\
Standard output has header and claims as JSON; the rest is on standard error. Exit codes: 0, 1 for a token that does not
count, 64 for a wrong flag or key.";

/// Which token, and what is to verify it.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Flags {
    /// Without it, or as -, it is read from standard input: what is on a command line others on the machine see.
    #[arg(value_name = "TOKEN")]
    token: Option<String>,
    /// As an edge's --auth-key-file: a public key in PEM, a JWK or a set of them, or a secret. Repeatable.
    #[arg(long, value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// As an edge's --auth-issuer. Repeatable.
    #[arg(long, value_name = "ISSUER", requires = "key_file")]
    iss: Vec<String>,
    /// As an edge's --auth-audience. Repeatable.
    #[arg(long, value_name = "AUDIENCE", requires = "key_file")]
    aud: Vec<String>,
    /// As an edge's --auth-leeway.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    leeway: Duration,
}

pub(super) fn run(flags: &Flags) -> anyhow::Result<()> {
    let keys = flags.keys()?;
    let token = flags.token()?;
    let (header, claims) = unverified(&token).map_err(|refused| {
        anyhow::anyhow!("{refused}: three parts of base64url, of which two are JSON objects")
    })?;
    print(&shown(&json!({"header": header, "claims": claims})))?;
    times(&claims);
    if token.len() > TOKEN_BYTES_MAX {
        bail!("it has {} bytes, and an edge takes {TOKEN_BYTES_MAX}", token.len());
    }
    let Some(keys) = keys else {
        eprintln!("Whether it counts is not known: --key-file checks it.");
        return Ok(());
    };
    let rules = Rules { issuers: flags.iss.clone(), audiences: flags.aud.clone(), leeway: flags.leeway };
    match Jwt::new(keys.clone(), rules).verify(&token) {
        Ok(grant) => {
            let of = |prefixes: String| if prefixes.is_empty() { "nothing".to_owned() } else { prefixes };
            let (subscribe, publish) = (of(grant.subscribe.to_string()), of(grant.publish.to_string()));
            eprintln!("It counts. Subscribe: {subscribe}. Publish: {publish}.");
            Ok(())
        }
        Err(refused) => {
            bail!("it does not count: {refused}{}", flags.detail(refused, &keys, &header, &claims))
        }
    }
}

impl Flags {
    fn keys(&self) -> Result<Option<Keys>, Exit> {
        let mut keys = None;
        for path in &self.key_file {
            let wrong = |error| Exit::usage(format!("--key-file {}: {error}", path.display()));
            let those = Keys::read(&read("--key-file", path)?).map_err(wrong)?;
            keys = Some(keys.unwrap_or_else(Keys::default).and(those).map_err(wrong)?);
        }
        Ok(keys)
    }

    fn token(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        match self.token.as_deref() {
            None | Some("-") => {
                // A little more than an edge takes can still be looked at.
                let most = 16 * TOKEN_BYTES_MAX as u64;
                std::io::stdin().take(most).read_to_string(&mut text).context("standard input")?;
            }
            Some(token) => token.clone_into(&mut text),
        }
        let token = text.trim();
        Ok(token.strip_prefix("Bearer ").unwrap_or(token).trim_start().to_owned())
    }

    /// What the token has against what is asked for.
    fn detail(&self, refused: Refused, keys: &Keys, header: &Value, claims: &Value) -> String {
        let list = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        let has = |value: &Value, name: &str| {
            let value = value.get(name).map_or_else(|| "none".to_owned(), shown);
            format!("; its `{name}` is {value}")
        };
        match refused {
            Refused::UnknownKey => {
                let names: Vec<_> = keys.each().filter_map(|(kid, _)| kid.map(str::to_owned)).collect();
                format!("{}, those of the keys are {}", has(header, "kid"), list(&names))
            }
            Refused::WrongAlgorithm => {
                let mut algorithms: Vec<_> = keys.each().flat_map(|(_, algorithms)| algorithms).collect();
                algorithms.sort();
                algorithms.dedup();
                format!("{}, the keys are for {}", has(header, "alg"), list(&algorithms))
            }
            Refused::WrongIssuer => format!("{}, accepted: {}", has(claims, "iss"), list(&self.iss)),
            Refused::WrongAudience if self.aud.is_empty() => {
                format!("{}; --aud says for whom it should be", has(claims, "aud"))
            }
            Refused::WrongAudience => format!("{}, accepted: {}", has(claims, "aud"), list(&self.aud)),
            Refused::BadSignature => "; another key signed it, or it was changed since".to_owned(),
            _ => String::new(),
        }
    }
}

/// A token is whoever's: nothing in it may speak to a terminal.
fn shown(value: &Value) -> String {
    let text = if value.is_object() { format!("{value:#}") } else { value.to_string() };
    let escaped = |char: char| match char {
        '\n' => "\n".to_owned(),
        char if char.is_control() => format!("\\u{:04x}", u32::from(char)),
        char => char.to_string(),
    };
    text.chars().map(escaped).collect()
}

fn times(claims: &Value) {
    let now = SystemTime::now();
    for (name, was, will) in
        [("nbf", "it is valid since", "it becomes valid in"), ("exp", "it expired", "it expires in")]
    {
        let Some(seconds) = claims.get(name).and_then(Value::as_f64) else { continue };
        let Some(at) = time(seconds) else { continue };
        let whole = |duration: Duration| humantime::format_duration(Duration::from_secs(duration.as_secs()));
        let (date, line) = (
            humantime::format_rfc3339_seconds(at),
            match at.duration_since(now) {
                Ok(left) => format!("{will} {}", whole(left)),
                Err(error) => format!("{was} {} ago", whole(error.duration())),
            },
        );
        eprintln!("{name}: {line}, at {date}");
    }
}

/// Of a year that can be written in four digits.
fn time(unix_seconds: f64) -> Option<SystemTime> {
    const LAST: f64 = 253_402_300_799.0;
    (0.0..=LAST).contains(&unix_seconds).then(|| UNIX_EPOCH + Duration::from_secs(unix_seconds as u64))
}
