//! The program: flags, logs, serve, end.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use trestle_edge::Config;
use trestle_process::{config, exit, log, memory, signal, zmq};

fn main() -> ExitCode {
    exit::with(run(config::load()))
}

fn run(config: Config) -> anyhow::Result<()> {
    log::init(&config.common.log, config.common.log_format)?;
    zmq::check_build()?;
    memory::bound();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Polled first: whoever sees that it runs may end it, and the handlers stand by then.
        let mut terminated = Box::pin(signal::terminated());
        let mut edge = tokio::select! {
            biased;
            signal = &mut terminated => return signal.map(drop).map_err(Into::into),
            edge = trestle_edge::start(config) => edge?,
        };
        let stop = edge.stopper();
        // In a task, because a signal counts also while a longer drain, by Control.Drain, is under way.
        tokio::spawn(async move {
            if let Ok(signal) = terminated.await {
                tracing::info!(signal, "stopping");
                stop();
            }
        });
        let draining = edge.draining();
        let failure = tokio::select! {
            () = draining => None,
            failure = edge.failed() => Some(failure),
        };
        edge.shutdown().await?;
        failure.map_or(Ok(()), Err)
    })
}
