//! SIGTERM and Ctrl-C.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGTERM or SIGINT and names it. From its first poll on they no longer kill the process; a
/// second one ends it at once, for whoever cannot wait for the grace period.
///
/// # Errors
/// If the handlers cannot be installed.
pub async fn terminated() -> io::Result<&'static str> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {},
            _ = int.recv() => {},
        }
        // 128 + SIGINT, as a shell reports it.
        std::process::exit(130);
    });
    Ok(name)
}
