//! `trestle-forwarder`: flags → start → wait for a signal → shut down.

use std::process::ExitCode;

use trestle_forwarder::Config;
use trestle_process::{config, exit, log, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    exit::with(run(config::load()).await)
}

async fn run(config: Config) -> anyhow::Result<()> {
    log::init(&config.common.log, config.common.log_format)?;
    let mut forwarder = trestle_forwarder::start(config).await?;
    let signal = tokio::select! {
        signal = signal::terminated() => signal?,
        failed = forwarder.failed() => return failed,
    };
    tracing::info!("{signal}: shutting down");
    forwarder.shutdown().await;
    Ok(())
}
