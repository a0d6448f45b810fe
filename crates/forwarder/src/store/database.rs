//! The one file that knows the store's crate: batches of messages under the first offset of each.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use prost::Message as _;
use redb::{Builder, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::disk::{Backend, Blocks};
use super::layout::{Kept, Malformed, Sequence, messages};

const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");
/// One row: the [`Sequence`].
const SEQUENCE: TableDefinition<'_, (), &[u8]> = TableDefinition::new("sequence");
/// Pages held in memory. What is read is read once, at the start.
const CACHE_BYTES: usize = 8 << 20;

/// Why the database does not do as it is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    /// The disk, or what is on it.
    #[error(transparent)]
    Redb(redb::Error),
    /// What is on the disk.
    #[error("damaged: {0}")]
    Malformed(#[from] Malformed),
    /// It says nothing of its sequence.
    #[error("damaged: nothing says what it holds")]
    NoSequence,
    /// A damage that showed as a panic, which the log has.
    #[error("damaged: the database panicked")]
    Panicked,
}

impl<E: Into<redb::Error>> From<E> for DatabaseError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

type Result<T> = std::result::Result<T, DatabaseError>;

/// An open database.
pub(super) struct Database(redb::Database);

/// No damage of the file may end a thread.
fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(DatabaseError::Panicked))
}

impl Database {
    /// Opens what is in `file` and reads it through for damages; an empty one becomes a database.
    pub(super) fn open(file: &Arc<dyn Blocks>) -> Result<Self> {
        let backend = Backend(Arc::clone(file));
        guarded(|| {
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
            let database = builder.create_with_backend(backend)?;
            let write = database.begin_write()?;
            write.open_table(BATCHES)?;
            write.open_table(SEQUENCE)?;
            write.commit()?;
            Ok(Self(database))
        })
    }

    /// What it holds.
    pub(super) fn sequence(&self) -> Result<Sequence> {
        guarded(|| {
            let table = self.0.begin_read()?.open_table(SEQUENCE)?;
            let row = table.get(())?.ok_or(DatabaseError::NoSequence)?;
            Sequence::decode(row.value()).map_err(|_| DatabaseError::NoSequence)
        })
    }

    pub(super) fn set_sequence(&self, sequence: &Sequence) -> Result<()> {
        self.change(Some(sequence), &[])
    }

    /// The newest offset; 0 if there is none.
    pub(super) fn head(&self) -> Result<u64> {
        guarded(|| {
            let table = self.0.begin_read()?.open_table(BATCHES)?;
            let Some((_, last)) = table.last()? else { return Ok(0) };
            let messages = messages(last.value())?;
            Ok(messages.last().map_or(0, |message| message.stamp.offset))
        })
    }

    /// The first offset of the newest batch; 0 if there is none.
    pub(super) fn last_key(&self) -> Result<u64> {
        guarded(|| {
            let table = self.0.begin_read()?.open_table(BATCHES)?;
            Ok(table.last()?.map_or(0, |(key, _)| key.value()))
        })
    }

    /// Adds a batch; the operating system has it when this returns.
    pub(super) fn append(&self, first_offset: u64, batch: &[u8]) -> Result<()> {
        guarded(|| {
            let write = self.0.begin_write()?;
            write.open_table(BATCHES)?.insert(first_offset, batch)?;
            Ok(write.commit()?)
        })
    }

    /// Reads the batches whose first offsets are in `keys`, in order, while `go_on`; it gets each with its messages.
    pub(super) fn read(
        &self,
        keys: Range<u64>,
        mut go_on: impl FnMut(u64, &[Kept<'_>]) -> bool,
    ) -> Result<()> {
        guarded(|| {
            let table = self.0.begin_read()?.open_table(BATCHES)?;
            for row in table.range(keys)? {
                let (key, batch) = row?;
                if !go_on(key.value(), &messages(batch.value())?) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Replaces batches (an empty one is removed) and what is known of the sequence, at once.
    pub(super) fn change(&self, sequence: Option<&Sequence>, batches: &[(u64, Vec<u8>)]) -> Result<()> {
        guarded(|| {
            let write = self.0.begin_write()?;
            if let Some(sequence) = sequence {
                write.open_table(SEQUENCE)?.insert((), &sequence.encode_to_vec()[..])?;
            }
            let mut table = write.open_table(BATCHES)?;
            for (key, batch) in batches {
                if batch.is_empty() {
                    table.remove(key)?;
                } else {
                    table.insert(key, &batch[..])?;
                }
            }
            drop(table);
            Ok(write.commit()?)
        })
    }

    /// Closes it in order.
    pub(super) fn close(self) -> Result<()> {
        guarded(|| Ok(self.0.close()?))
    }
}
