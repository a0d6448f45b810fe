//! `trestle sub`: prints the events of an edge.
//!
//! `session` is the protocol, `comeback` decides about reconnects, `render` and `notices` make lines; none of them knows a
//! socket or a clock. `socket` is one connection, `watch` drives them all.

mod address;
mod comeback;
mod flags;
mod notices;
mod output;
mod papers;
mod place;
mod render;
mod session;
mod socket;
mod tls;
mod watch;
mod wire;

use std::time::Duration;

use trestle_process::exit::Exit;
use trestle_process::signal;

pub(crate) use flags::Flags;

/// A thread that still writes to a terminal that is held may not keep the process.
const LEAVE_MAX: Duration = Duration::from_millis(100);

pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let options = flags.options().map_err(Exit::usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut terminated = std::pin::pin!(signal::terminated());
        let mut watch = watch::Watch::new(options)?;
        let ended = tokio::select! {
            signal = &mut terminated => signal.map(drop).map_err(Into::into),
            ended = watch.run() => ended,
            () = output::unread() => {
                watch.is_unread = true;
                Ok(())
            }
        };
        watch.leave().await;
        ended
    });
    runtime.shutdown_timeout(LEAVE_MAX);
    ended
}
