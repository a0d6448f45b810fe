//! Standard output and standard error, in the order of what is said.

use std::io::{self, ErrorKind, Write as _};

use tokio::io::{AsyncWriteExt as _, Stdout};
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

/// On standard error. Where nobody reads that, nothing is missed that anybody wants.
pub(super) fn say(notice: &str) {
    let _ = writeln!(io::stderr(), "trestle: {notice}");
}
