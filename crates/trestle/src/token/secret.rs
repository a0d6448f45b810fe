//! `trestle token secret`: a file with a random secret.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use trestle_process::exit::Exit;

/// As many as HS256 hashes to, RFC 7518 §3.2.
const RANDOM_BYTES: usize = 32;

/// Where it is written to.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Must not be there yet. Whoever can read it can make tokens, so that only you can (0600).
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(flags: &Flags) -> anyhow::Result<()> {
    let path = flags.file.display();
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| Exit::os(format!("no random bytes: {error}")))?;
    let failed = |error| Exit::usage(format!("{path}: {error}"));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&flags.file).map_err(failed)?;
    // As text, which can be in a variable, too.
    writeln!(file, "{}", URL_SAFE_NO_PAD.encode(random)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    eprintln!("{path}: a secret for HS256. Edges: --auth jwt --auth-key-file {path}");
    Ok(())
}
