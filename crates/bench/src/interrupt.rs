//! SIGTERM and Ctrl-C end a run in order, so that a server that it started ends with it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use trestle_process::exit::Exit;
use trestle_process::signal;

/// 128 + SIGINT, as a shell reports it.
const INTERRUPTED: u8 = 130;

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on a signal is only noted for [`check`]; a second one ends the process at once.
///
/// # Errors
/// If there can be no more threads or handlers.
pub fn watch() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wait = move || {
        runtime.block_on(async {
            if signal::terminated().await.is_ok() {
                IS_INTERRUPTED.store(true, Ordering::Release);
                std::future::pending::<()>().await;
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Whether a signal has come.
pub fn is_set() -> bool {
    IS_INTERRUPTED.load(Ordering::Acquire)
}

/// What every loop of a run asks.
///
/// # Errors
/// An [`Exit`] with code 130 once a signal has come.
pub fn check() -> Result<(), Exit> {
    if is_set() { Err(Exit { code: INTERRUPTED, reason: "interrupted".to_owned() }) } else { Ok(()) }
}
