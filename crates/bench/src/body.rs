//! The bodies that are published: a JSON object with the mark and padding.

use crate::marker::{MARK_BYTES, Mark, Marker};

const HEAD: &[u8] = br#"{"t":""#;
const MIDDLE: &[u8] = br#"","p":""#;
const TAIL: &[u8] = br#""}"#;

/// The shortest body, bytes.
pub const SIZE_MIN: usize = HEAD.len() + MARK_BYTES + MIDDLE.len() + TAIL.len();
/// The longest body, bytes: what ØMQ sockets and edges take by default, with room for an envelope.
pub const SIZE_MAX: usize = (4 << 20) - 1024;

/// One body, stamped anew for each message.
#[derive(Debug, Clone)]
pub struct Body {
    bytes: Vec<u8>,
    marker: Marker,
}

impl Body {
    /// A body of `size` bytes, [`SIZE_MIN`] at least.
    pub fn new(size: usize, marker: Marker) -> Self {
        let mut bytes = HEAD.to_vec();
        bytes.resize(HEAD.len() + MARK_BYTES, b'0');
        bytes.extend_from_slice(MIDDLE);
        let padding = size.saturating_sub(SIZE_MIN);
        bytes.extend((b'a'..=b'z').cycle().take(padding));
        bytes.extend_from_slice(TAIL);
        Self { bytes, marker }
    }

    /// The body that carries `mark`.
    pub fn stamped(&mut self, mark: Mark) -> &[u8] {
        self.marker.write(mark, &mut self.bytes[HEAD.len()..]);
        &self.bytes
    }

    /// Its length in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Finds the marks in bodies like this.
    pub fn marker(&self) -> &Marker {
        &self.marker
    }

    /// Whether `payload` has this body in it, byte for byte but for the digits of a mark at `at`.
    pub fn is_in(&self, payload: &[u8], at: usize) -> bool {
        let after = HEAD.len() + MARK_BYTES;
        let Some(start) = at.checked_sub(HEAD.len()) else { return false };
        let Some(body) = payload.get(start..start + self.bytes.len()) else { return false };
        body[..HEAD.len()] == *HEAD && body[after..] == self.bytes[after..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_json_of_its_size_and_recognises_itself() {
        for size in [SIZE_MIN, 100, 4096] {
            let mut body = Body::new(size, Marker::new(7));
            let bytes = body.stamped(Mark { seq: 12, time_ns: 34 }).to_vec();
            assert_eq!(bytes.len(), size);
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let text = value["t"].as_str().unwrap();
            assert!(text.ends_with(":000000120000000000000034"), "{text}");
            let event = [b"{\"data\":", &bytes[..], b"}"].concat();
            let at = Marker::new(7).find(&event).unwrap();
            assert!(body.is_in(&event, at));
            let mut damaged = event;
            let last = damaged.len() - 4;
            damaged[last] ^= 1;
            assert!(!body.is_in(&damaged, at) && !body.is_in(&damaged[..last], at));
        }
    }
}
