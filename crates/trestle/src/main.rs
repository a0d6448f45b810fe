//! The command line: one binary for whoever tries, watches or operates Trestle.

#![forbid(unsafe_code)]

mod config;
mod demo;
mod keys;
mod sub;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use trestle_process::config::Common;
use trestle_process::{exit, log};

/// Live ØMQ messages in browsers.
#[derive(Debug, Parser)]
#[command(name = "trestle", version)]
struct Flags {
    #[command(flatten)]
    common: Common,
    /// Without one: demo.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a publisher, the forwarder and an edge in this process, and shows the page.
    Demo(demo::Flags),
    /// Prints the events of an edge, as they come: `trestle sub wss://example.org jobs/`.
    Sub(Box<sub::Flags>),
    /// Makes and inspects the tokens that an edge with --auth jwt asks for.
    Token(token::Flags),
    /// Measures how fast an edge, a forwarder or another server delivers, and at what cost.
    Bench(Box<trestle_bench::Bench>),
    /// Says whether a process would start as it is configured, and what that comes to: `trestle config check edge.toml`.
    Config(config::Flags),
    /// Makes keys for encrypted ØMQ links: `trestle keys forwarder edge publisher --dir keys`.
    Keys(keys::Flags),
}

fn main() -> ExitCode {
    // What variables and a file say is of the process that is asked about, which reads it then.
    let flags = match Flags::try_parse() {
        Ok(flags) if matches!(flags.command, Some(Command::Config(_))) => flags,
        _ => trestle_process::config::load(),
    };
    exit::with(run(flags))
}

fn run(flags: Flags) -> anyhow::Result<()> {
    log::init(&flags.common.log, flags.common.log_format)?;
    let file = flags.common.config;
    match flags.command.unwrap_or(Command::Demo(demo::Flags::default())) {
        Command::Demo(flags) => demo::run(&flags),
        Command::Sub(flags) => sub::run(&flags),
        Command::Token(flags) => token::run(flags),
        Command::Bench(flags) => trestle_bench::run(&flags),
        Command::Config(flags) => config::run(&flags, file.as_deref()),
        Command::Keys(flags) => keys::run(&flags),
    }
}
