//! `trestle keys`: makes CURVE keys for ØMQ links.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use trestle_process::curve::certificate::{Pair, SECRET_SUFFIX};
use trestle_process::exit::Exit;

/// Makes a pair of CURVE keys for each name, and prints the public keys.
///
/// NAME.key holds the public key: for allow-lists, and for whoever connects. NAME.key_secret holds both, mode 0600, and stays
/// with NAME. They are certificates as CZMQ and pyzmq write them. What is there already is never replaced.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Whose keys: letters, digits, dots, dashes and underscores, for example forwarder, edge, publisher.
    #[arg(required = true, value_name = "NAME", value_parser = name)]
    names: Vec<String>,
    /// The folder, which is made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

fn name(text: &str) -> Result<String, &'static str> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    match text.starts_with(['.', '-']) || !text.chars().all(is_fine) || text.is_empty() {
        true => Err("letters, digits, and behind them dots, dashes and underscores"),
        false => Ok(text.to_owned()),
    }
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let pairs: Vec<_> = flags.names.iter().map(|name| (name, pair(flags, name))).collect();
    // All or nothing: a second run must not make half of what it was asked for.
    if let Some((name, pair)) = pairs.iter().find(|(_, pair)| pair.is_there()) {
        let (public, secret) = (pair.public.display(), pair.secret.display());
        return Err(Exit::usage(format!(
            "{name} has keys already, which stay: remove {public} and {secret}, or take another name"
        ))
        .into());
    }
    let dir = flags.dir.display();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&flags.dir);
    made.with_context(|| format!("--dir {dir}"))?;
    for (name, pair) in pairs {
        let public = pair.make(name)?;
        writeln!(std::io::stdout(), "{public} {name}").context("standard output")?;
    }
    Ok(())
}

fn pair(flags: &Flags, name: &str) -> Pair {
    let path = |suffix: &str| flags.dir.join(format!("{name}.key{suffix}"));
    Pair { public: path(""), secret: path(SECRET_SUFFIX) }
}
