//! The program: flags, logs, publish, end.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context as _;
use trestle_process::{config, exit, log, signal, zmq};
use trestle_publisher::config::Flags;

fn main() -> ExitCode {
    exit::with(run(config::load()))
}

fn run(flags: Flags) -> anyhow::Result<()> {
    log::init(&flags.common.log, flags.common.log_format)?;
    zmq::check_build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        // Polled before the sockets open, so that a signal from here on ends the publisher cleanly.
        let mut terminated = std::pin::pin!(signal::terminated());
        tokio::select! {
            biased;
            signal = &mut terminated => signal.map(drop)?,
            () = std::future::ready(()) => {}
        }
        let running = trestle_publisher::start(flags.into_config()?)?;
        let stopper = running.stopper();
        let mut ended = tokio::task::spawn_blocking(|| running.wait());
        let result = tokio::select! {
            result = &mut ended => result,
            signal = terminated => {
                stopper.stop();
                tracing::info!(signal = signal?, "stopping");
                ended.await
            }
        };
        result.context("the publisher's thread panicked")?
    })
}
