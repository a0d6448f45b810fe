//! The program: flags, logs, serve, end.

use std::process::ExitCode;

use trestle_edge::Config;
use trestle_process::{config, exit, log, signal, zmq};

fn main() -> ExitCode {
    exit::with(run(config::load()))
}

fn run(config: Config) -> anyhow::Result<()> {
    log::init(&config.common.log, config.common.log_format)?;
    zmq::check_build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut edge = trestle_edge::start(config).await?;
        let failure = tokio::select! {
            signal = signal::terminated() => {
                tracing::info!(signal = signal?, "stopping");
                None
            }
            failure = edge.failed() => Some(failure),
        };
        edge.shutdown().await?;
        failure.map_or(Ok(()), Err)
    })
}
