//! Standard output and standard error, in the order of what is said.

use std::future::pending;
use std::io::{self, ErrorKind, Write as _};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::io::{AsyncWriteExt as _, Stdout};
use tokio::sync::oneshot;
use trestle_process::exit::Exit;

/// Lines wait here until nothing more is at hand, or this many bytes.
const BATCH_BYTES: usize = 256 << 10;

/// Why nothing more can be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    /// Whoever read it has gone, as `head` does: no failure.
    #[error("nobody reads the output any more")]
    Closed,
    #[error(transparent)]
    Failed(#[from] Exit),
}

/// Lines for programs on standard output, lines for people on standard error.
#[derive(Debug)]
pub(super) struct Output {
    stdout: Stdout,
    batch: Vec<u8>,
    /// Bytes of the batch that are on their way.
    taken: usize,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { stdout: tokio::io::stdout(), batch: Vec::new(), taken: 0 }
    }

    /// Of standard output; written with the next [`flush`](Self::flush).
    pub(super) fn line(&mut self, line: &str) {
        self.batch.extend_from_slice(line.as_bytes());
        self.batch.push(b'\n');
    }

    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES
    }

    /// Waits for a reader that is slow, off this thread. Where that is given up, the next call goes on with the rest.
    pub(super) async fn flush(&mut self) -> Result<(), OutputError> {
        let written = self.write().await;
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => OutputError::Closed,
            _ => OutputError::Failed(Exit::os(format!("standard output: {error}"))),
        })
    }

    async fn write(&mut self) -> io::Result<()> {
        while self.taken < self.batch.len() {
            self.taken += self.stdout.write(&self.batch[self.taken..]).await?;
        }
        if self.taken > 0 {
            self.stdout.flush().await?;
        }
        self.batch.clear();
        self.taken = 0;
        Ok(())
    }

    /// On standard error, behind all lines before it.
    pub(super) async fn say(&mut self, notice: &str) -> Result<(), OutputError> {
        self.flush().await?;
        say(notice);
        Ok(())
    }
}

/// Resolves when nobody reads standard output any more. Without it `trestle sub | head -1` would only end when it has
/// something more to say, and the shell waits for that. Never resolves for a file.
pub(super) async fn unread() {
    let (gone, leaves) = oneshot::channel();
    // A thread that waits as long as the process lives; asking for nothing, `poll` still tells of errors.
    let waits = std::thread::Builder::new().name("output".to_owned()).spawn(move || {
        let stdout = io::stdout();
        let mut files = [PollFd::new(&stdout, PollFlags::empty())];
        while let Ok(0) | Err(Errno::INTR) = poll(&mut files, None) {}
        if !files[0].revents().is_empty() {
            let _ = gone.send(());
        }
    });
    // Where there is no thread, the next line that is written finds it out.
    if waits.is_err() || leaves.await.is_err() {
        pending().await
    }
}

/// On standard error. Where nobody reads that, nothing is missed that anybody wants.
pub(super) fn say(notice: &str) {
    let _ = writeln!(io::stderr(), "trestle: {notice}");
}
