//! Exit codes by `sysexits.h`, and how a process says its last word.

use std::io::Write as _;
use std::process::ExitCode;

/// EX_USAGE: a flag, variable or configuration file is wrong.
pub const USAGE: u8 = 64;
/// EX_UNAVAILABLE: what the process was to talk to is not there.
pub const UNAVAILABLE: u8 = 69;
/// EX_OSERR: an address cannot be bound, or another resource of the machine is missing.
pub const OS_ERROR: u8 = 71;

/// An error that decides the exit code; attach it with `anyhow`'s `context` or return it as the error itself.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Exit {
    /// One of this module's codes.
    pub code: u8,
    /// What went wrong, with the address, flag or variable in it.
    pub reason: String,
}

impl Exit {
    /// Exits with [`USAGE`].
    pub fn usage(reason: impl Into<String>) -> Self {
        Self { code: USAGE, reason: reason.into() }
    }

    /// Exits with [`UNAVAILABLE`].
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self { code: UNAVAILABLE, reason: reason.into() }
    }

    /// Exits with [`OS_ERROR`].
    pub fn os(reason: impl Into<String>) -> Self {
        Self { code: OS_ERROR, reason: reason.into() }
    }
}

/// Turns a process's result into its exit code; an error is printed to standard error in one line.
pub fn with(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    // The code says it, too, where nobody reads standard error any more; `eprintln` would panic then.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    let code = error.chain().find_map(|cause| cause.downcast_ref::<Exit>()).map_or(1, |exit| exit.code);
    ExitCode::from(code)
}
