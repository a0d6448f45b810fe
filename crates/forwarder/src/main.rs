//! `trestle-forwarder`: flags → start → wait for a signal → shut down.

#![forbid(unsafe_code)]

use std::pin::pin;
use std::process::ExitCode;

use trestle_forwarder::Config;
use trestle_process::{config, exit, log, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    exit::with(run(config::load()).await)
}

async fn run(config: Config) -> anyhow::Result<()> {
    log::init(&config.common.log, config.common.log_format)?;
    // Polled first, it catches signals from before the addresses are said.
    let mut terminated = pin!(signal::terminated());
    let mut forwarder = tokio::select! {
        biased;
        signal = &mut terminated => return signal.map(drop).map_err(Into::into),
        forwarder = trestle_forwarder::start(config) => forwarder?,
    };
    let signal = tokio::select! {
        signal = terminated => signal?,
        failed = forwarder.failed() => return failed,
    };
    tracing::info!("{signal}: shutting down");
    forwarder.shutdown().await;
    Ok(())
}
