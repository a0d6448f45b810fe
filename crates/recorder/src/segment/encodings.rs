//! The encodings of one message, each made once in the process.

use std::sync::OnceLock;

use bytes::Bytes;

/// Bytes that an encoding costs beside its own.
pub(super) const OVERHEAD_BYTES: usize = size_of::<Encoding>();

/// A once-filled cell for one encoding of a message. The recorder knows none of the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(u8);

impl Slot {
    /// The slot of that number; a format and compression has one of its own.
    pub const fn new(index: u8) -> Self {
        Self(index)
    }
}

/// A list that only grows at its end: most recorded messages are never sent in most formats, so that a cell for each
/// would cost more than the messages.
#[derive(Debug, Default)]
pub(super) struct Encodings(OnceLock<Box<Encoding>>);

#[derive(Debug)]
struct Encoding {
    slot: Slot,
    bytes: OnceLock<Bytes>,
    next: Encodings,
}

impl Encodings {
    pub(super) fn get(&self, slot: Slot) -> Option<&Bytes> {
        let mut here = self;
        loop {
            let encoding = here.0.get()?;
            if encoding.slot == slot {
                return encoding.bytes.get();
            }
            here = &encoding.next;
        }
    }

    pub(super) fn get_or_init(&self, slot: Slot, encode: impl FnOnce() -> Bytes) -> &Bytes {
        let mut here = self;
        loop {
            let new = || Box::new(Encoding { slot, bytes: OnceLock::new(), next: Self::default() });
            // Another shard may have put another slot here in the meantime.
            let encoding = here.0.get_or_init(new);
            if encoding.slot == slot {
                return encoding.bytes.get_or_init(encode);
            }
            here = &encoding.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn each_is_made_once_by_whichever_shard_comes_first() {
        const THREADS: u8 = 4;
        const SLOTS: u8 = 8;
        for _ in 0..100 {
            let (encodings, made, start) = (Encodings::default(), AtomicUsize::new(0), Barrier::new(4));
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (encodings, made, start) = (&encodings, &made, &start);
                    scope.spawn(move || {
                        start.wait();
                        for nth in 0..SLOTS {
                            let slot = (nth + 2 * thread) % SLOTS;
                            let bytes = encodings.get_or_init(Slot::new(slot), || {
                                made.fetch_add(1, Ordering::Relaxed);
                                Bytes::from(vec![slot])
                            });
                            assert_eq!(bytes[..], [slot]);
                        }
                    });
                }
            });
            assert_eq!(made.into_inner(), usize::from(SLOTS));
            assert!((0..SLOTS).all(|slot| encodings.get(Slot::new(slot)).unwrap()[..] == [slot]));
        }
    }
}
