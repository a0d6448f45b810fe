//! Values under numbers that stay while others come and go.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

use slab::Slab;

use super::relieve;

/// Values that share an allocation. It goes when the last of them does, whatever stays elsewhere.
const CHUNK_LEN: usize = 1_024;

#[derive(Debug)]
pub(super) struct Arena<T> {
    chunks: Vec<Slab<T>>,
    /// The chunks that take more. The first is filled first, so that the last ones become empty.
    with_room: BTreeSet<usize>,
    len: usize,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), with_room: BTreeSet::new(), len: 0 }
    }
}

impl<T> Arena<T> {
    /// Keeps a value; the number leads back to it.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let at = self.with_room.first().copied().unwrap_or_else(|| self.add_chunk());
        let chunk = &mut self.chunks[at];
        let number = at * CHUNK_LEN + chunk.insert(value);
        if chunk.len() == CHUNK_LEN {
            self.with_room.remove(&at);
        }
        self.len += 1;
        u32::try_from(number).expect("less than 2^32 values")
    }

    /// Hands a value back; its number may become another's.
    pub(super) fn remove(&mut self, number: u32) -> T {
        let (at, within) = place(number);
        let chunk = &mut self.chunks[at];
        let value = chunk.remove(within);
        self.len -= 1;
        if chunk.len() == CHUNK_LEN - 1 {
            self.with_room.insert(at);
        }
        if chunk.is_empty() {
            *chunk = Slab::new();
            self.drop_empty_end();
        }
        value
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn add_chunk(&mut self) -> usize {
        self.chunks.push(Slab::new());
        self.with_room.insert(self.chunks.len() - 1);
        self.chunks.len() - 1
    }

    fn drop_empty_end(&mut self) {
        while self.chunks.last().is_some_and(Slab::is_empty) {
            self.chunks.pop();
            self.with_room.remove(&self.chunks.len());
        }
        relieve(&mut self.chunks);
    }

    /// Bytes on the heap, but for those of the values themselves.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        // A slab's slot is never larger than its value and a word beside it.
        let slots: usize = self.chunks.iter().map(Slab::capacity).sum();
        slots * (size_of::<T>() + size_of::<usize>()) + self.chunks.capacity() * size_of::<Slab<T>>()
    }
}

fn place(number: u32) -> (usize, usize) {
    (number as usize / CHUNK_LEN, number as usize % CHUNK_LEN)
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        let (at, within) = place(number);
        &self.chunks[at][within]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        let (at, within) = place(number);
        &mut self.chunks[at][within]
    }
}
