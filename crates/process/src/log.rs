//! Logs on standard error, as text for people or JSON for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::exit::Exit;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Starts logging for the whole process. Call once.
///
/// # Errors
/// An [`Exit`] with code 64 if `filter` is none.
pub fn init(filter: &str, format: Format) -> Result<(), Exit> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| Exit::usage(format!("--log {filter}: {error}")))?;
    // A log that nobody reads any more is no reason to fail: complaints about it would go to the same closed file, and
    // `eprintln` panics there.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let builder = builder.with_writer(std::io::stderr);
    match format {
        // Colours are for people: in a file or another program's hands they are only noise.
        Format::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
