//! `trestle token`: makes and looks at the tokens that an edge with `--auth jwt` asks for.

mod inspect;
mod make;
mod secret;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use trestle_process::exit::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a token, signed with a secret (HS256) or a private key (RS256, ES256, EdDSA), and prints it.
    Make(Box<make::Flags>),
    /// Prints what a token says; with a key also whether it counts, or else why not.
    Inspect(inspect::Flags),
    /// Makes a file with a random secret, for `make` and for an edge's --auth-key-file.
    Secret(secret::Flags),
}

pub(crate) fn run(flags: Flags) -> anyhow::Result<()> {
    match flags.command {
        Command::Make(flags) => make::run(*flags),
        Command::Inspect(flags) => inspect::run(&flags),
        Command::Secret(flags) => secret::run(&flags),
    }
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, Exit> {
    std::fs::read(path).map_err(|error| Exit::usage(format!("{flag} {}: {error}", path.display())))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: String| format!("{why}; write for example 90s, 15m, 1h or 30d");
    let duration = humantime::parse_duration(text).map_err(|error| wrong(error.to_string()))?;
    if duration < Duration::from_secs(1) { Err(wrong("less than a second".to_owned())) } else { Ok(duration) }
}

/// A line to standard output, which may be closed.
fn print(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").context("standard output")
}
