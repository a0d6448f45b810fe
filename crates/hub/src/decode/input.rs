//! A body that is read from its beginning to its end.

use super::Undecoded;

#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
    bytes: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { rest: body, bytes: body.len() }
    }

    /// Where the next byte is in the body.
    pub(super) fn at(&self) -> usize {
        self.bytes - self.rest.len()
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Undecoded> {
        let (bytes, rest) = self.rest.split_at_checked(n).ok_or_else(breaks_off)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Undecoded> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(breaks_off)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Undecoded> {
        self.array().map(|[byte]| byte)
    }

    /// The whole body was read.
    pub(super) fn end(&self) -> Result<(), Undecoded> {
        match self.rest.len() {
            0 => Ok(()),
            behind => Err(Undecoded::malformed(format!("{behind} bytes behind its end"))),
        }
    }
}

pub(super) fn breaks_off() -> Undecoded {
    Undecoded::malformed("it breaks off")
}
