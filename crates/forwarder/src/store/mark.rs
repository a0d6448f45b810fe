//! The small file that says how far a run has come and how it ended.

use std::io;
use std::sync::Arc;

use super::disk::Blocks;

/// The first bytes; the last of them is the layout's version.
const MAGIC: [u8; 8] = *b"trestle\x01";
/// Where the head stands: magic, epoch, head, boot id, clean.
const HEAD_AT: u64 = 16;
const BYTES: usize = 8 + 8 + 8 + 16 + 1;

/// One run of the machine, from its start to its end; Linux draws it at random.
pub(crate) type BootId = [u8; 16];

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// 0: there is nothing to continue.
    pub(super) epoch: u64,
    /// The newest offset that may have left the process.
    pub(super) head: u64,
    pub(super) boot_id: BootId,
    /// It ended in order, and everything is on the disk.
    pub(super) is_clean: bool,
}

impl Mark {
    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.head.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.boot_id);
        bytes[40] = self.is_clean.into();
        bytes
    }

    fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let boot_id = bytes[24..40].try_into().expect("sixteen bytes");
        let (epoch, head) = (number(8), number(16));
        (bytes[..8] == MAGIC && bytes[40] <= 1 && epoch != 0).then_some(Self {
            epoch,
            head,
            boot_id,
            is_clean: bytes[40] == 1,
        })
    }
}

/// The file. The database tells its own head, too: that both agree is how a damaged tail shows.
#[derive(Debug)]
pub(super) struct MarkFile(Arc<dyn Blocks>);

impl MarkFile {
    pub(super) fn new(file: Arc<dyn Blocks>) -> Self {
        Self(file)
    }

    /// What the last run left; `None` where there is nothing to continue.
    pub(super) fn read(&self) -> io::Result<Option<Mark>> {
        if self.0.len()? < BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; BYTES];
        self.0.read(0, &mut bytes)?;
        Ok(Mark::decode(&bytes))
    }

    /// Writes `mark`, and waits until the disk has it.
    pub(super) fn write(&self, mark: &Mark) -> io::Result<()> {
        self.0.write(0, &mark.encode())?;
        self.0.sync()
    }

    /// There is nothing to continue; without waiting for the disk, because a machine that goes down leaves nothing either.
    pub(super) fn forget(&self) -> io::Result<()> {
        let none = Mark { epoch: 0, head: 0, boot_id: BootId::default(), is_clean: false };
        self.0.write(0, &none.encode())
    }

    /// The sequence has come to `head`: one small write.
    pub(super) fn advance(&self, head: u64) -> io::Result<()> {
        self.0.write(HEAD_AT, &head.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mark_comes_back(epoch in 1u64.., head: u64, boot_id: BootId, is_clean: bool) {
            let mark = Mark { epoch, head, boot_id, is_clean };
            prop_assert_eq!(Mark::decode(&mark.encode()), Some(mark));
            let none = Mark { epoch: 0, ..mark };
            prop_assert_eq!(Mark::decode(&none.encode()), None);
        }

        #[test]
        fn the_head_is_written_in_its_place(mark_head: u64, head: u64) {
            let mark = Mark { epoch: 1, head: mark_head, boot_id: [7; 16], is_clean: false };
            let mut bytes = mark.encode();
            bytes[HEAD_AT as usize..][..8].copy_from_slice(&head.to_le_bytes());
            prop_assert_eq!(Mark::decode(&bytes), Some(Mark { head, ..mark }));
        }
    }
}
