//! ZMTP 3.0 without security (ZeroMQ RFC 23), as bytes: libzmq's own clients would cost more CPU than the forwarder that
//! they are to measure.

/// Bytes of a greeting.
pub const GREETING_BYTES: usize = 64;

/// What both sides say first: signature, version 3.0, mechanism NULL.
pub fn greeting() -> [u8; GREETING_BYTES] {
    let mut greeting = [0; GREETING_BYTES];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// Whether a peer's greeting is one that [`greeting`] fits.
pub fn is_compatible(greeting: &[u8; GREETING_BYTES]) -> bool {
    greeting[0] == 0xff && greeting[9] & 1 == 1 && greeting[10] >= 3 && greeting[12..17] == *b"NULL\0"
}

/// The command that ends the handshake. libzmq wants it in another segment than the greeting: send it only when the
/// peer's greeting has come.
pub fn ready(socket_type: &str) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.extend_from_slice(&u32::try_from(socket_type.len()).expect("three or four").to_be_bytes());
    body.extend_from_slice(socket_type.as_bytes());
    let mut command = vec![4, u8::try_from(body.len()).expect("a short command")];
    command.extend_from_slice(&body);
    command
}

/// Appends one frame of a message.
pub fn push_frame(out: &mut Vec<u8>, frame: &[u8], more: bool) {
    match u8::try_from(frame.len()) {
        Ok(length) => out.extend_from_slice(&[u8::from(more), length]),
        Err(_) => {
            out.push(2 | u8::from(more));
            out.extend_from_slice(&(frame.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(frame);
}

/// A subscriber's message that asks for `topic`.
pub fn subscription(topic: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_frame(&mut out, &[b"\x01", topic.as_bytes()].concat(), false);
    out
}

/// The frame that `bytes` begin with: flags, body and length in all.
pub fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&flags, rest) = bytes.split_first()?;
    let (header, length): (usize, usize) = if flags & 2 != 0 {
        (9, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?)
    } else {
        (2, usize::from(*rest.first()?))
    };
    let end = header.checked_add(length)?;
    Some((flags, bytes.get(header..end)?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip() {
        for length in [0, 1, 255, 256, 70_000] {
            let body = vec![7; length];
            let mut bytes = Vec::new();
            push_frame(&mut bytes, &body, true);
            assert_eq!(frame(&bytes[..bytes.len() - 1]), None);
            let (flags, found, end) = frame(&bytes).unwrap();
            assert_eq!((flags & 1, found, end), (1, &body[..], bytes.len()));
        }
        assert_eq!(subscription("ab"), b"\0\x03\x01ab");
        assert!(is_compatible(&greeting()));
    }
}
