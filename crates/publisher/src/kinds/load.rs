//! Generated bodies, for measuring.

use crate::random::Random;

/// Letters of the filler: text to a browser, and no easier to compress than real text.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz .,;-\n";

/// Bodies of one size: a decimal sequence number from 1, a space, then letters that are always the same. A number
/// that does not fit loses its front digits.
pub(crate) struct Load {
    body: Vec<u8>,
    n: u64,
}

impl Load {
    /// Bodies of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        let mut body = vec![0; size];
        Random::new(0).fill(&mut body);
        body.iter_mut().for_each(|byte| *byte = LETTERS[usize::from(*byte) % LETTERS.len()]);
        Self { body, n: 0 }
    }

    /// The next body.
    pub(crate) fn next(&mut self) -> &[u8] {
        self.n += 1;
        let number = format!("{} ", self.n);
        // The number stands alone where nothing else fits.
        let number = if number.len() > self.body.len() { number.trim_end() } else { &number };
        let tail = &number.as_bytes()[number.len().saturating_sub(self.body.len())..];
        self.body[..tail.len()].copy_from_slice(tail);
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_numbered_and_of_their_size() {
        for size in [0, 1, 2, 3, 128] {
            let mut load = Load::new(size);
            for n in 1..=1_234 {
                let body = str::from_utf8(load.next()).expect("letters and digits");
                let number = n.to_string();
                assert_eq!(body.len(), size);
                if size < number.len() {
                    assert!(number.ends_with(body), "{n}: {body}");
                } else {
                    assert_eq!(body.split(' ').next(), Some(number.as_str()));
                }
            }
        }
    }
}
