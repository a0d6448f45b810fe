//! Topics: frame 0 of a message, matched by byte prefix (ZeroMQ RFC 29).

/// A topic or subscription prefix that a client names is at most this many bytes; ØMQ itself has no bound.
pub const TOPIC_BYTES_MAX: usize = 255;

/// Topics that begin with this belong to Trestle: publishers' messages on them are dropped, clients never see them.
pub const RESERVED: &[u8] = b"\0trestle";

/// Whether `topic` begins with [`RESERVED`].
pub fn is_reserved(topic: &[u8]) -> bool {
    topic.starts_with(RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nul_prefix_is_reserved() {
        for (topic, reserved) in [
            (&b"\0trestle"[..], true),
            (b"\0trestle/x", true),
            (b"trestle", false),
            (b"\0", false),
            (b"", false),
        ] {
            assert_eq!(is_reserved(topic), reserved, "{topic:?}");
        }
    }
}
