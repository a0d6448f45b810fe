//! The files of a data folder, as the store sees them; a test puts failing ones in their place.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// Opens files. They are made where there are none.
pub(super) trait Disk: Debug + Send + Sync {
    /// Opens `path` to read and write.
    ///
    /// # Errors
    /// What the system answers.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Blocks>>;
}

/// An open file: a write has reached the operating system when it returns, and the disk after the next `sync`.
pub(super) trait Blocks: Debug + Send + Sync {
    fn len(&self) -> io::Result<u64>;
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// The operating system's.
#[derive(Debug)]
pub(super) struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Blocks>> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Arc::new(file))
    }
}

impl Blocks for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The database's file. A commit is in the hands of the operating system when it returns; the disk has it after
/// [`Blocks::sync`], which the keeper's thread calls. In between a power cut may leave any mixture on the disk, which is
/// why nothing is read any more after one.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<dyn Blocks>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(offset, bytes)
    }
}
