//! Messages that wait for what is missing before them.

use std::collections::BTreeMap;

/// By offset.
#[derive(Debug)]
pub(super) struct Held<M> {
    messages: BTreeMap<u64, (M, usize)>,
    bytes: usize,
}

impl<M> Default for Held<M> {
    fn default() -> Self {
        Self { messages: BTreeMap::new(), bytes: 0 }
    }
}

impl<M> Held<M> {
    /// One that came again is kept once.
    pub(super) fn insert(&mut self, offset: u64, message: M, bytes: usize) {
        self.bytes += bytes;
        if let Some((_, before)) = self.messages.insert(offset, (message, bytes)) {
            self.bytes -= before;
        }
    }

    /// The one at `offset`, if it is here.
    pub(super) fn take(&mut self, offset: u64) -> Option<M> {
        let (message, bytes) = self.messages.remove(&offset)?;
        self.bytes -= bytes;
        Some(message)
    }

    /// Those up to `offset` have come otherwise.
    pub(super) fn drop_up_to(&mut self, offset: u64) {
        while self.messages.first_key_value().is_some_and(|(first, _)| *first <= offset) {
            if let Some((_, (_, bytes))) = self.messages.pop_first() {
                self.bytes -= bytes;
            }
        }
    }

    /// The first offset.
    pub(super) fn first(&self) -> Option<u64> {
        self.messages.first_key_value().map(|(first, _)| *first)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
