//! permessage-deflate: a bound on what comes out, and no trace of one message in the next.

use trestle_hub::ws::Inflater;

const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// The first byte says whether the message is text.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&mode, payload)) = bytes.split_first() else { return };
    let text = mode & 1 != 0;
    let mut inflater = Inflater::new(MESSAGE_BYTES_MAX);
    let first = format!("{:?}", inflater.inflate(text, payload));
    assert!(inflater.held_bytes() <= MESSAGE_BYTES_MAX + 1, "never more than the bound and one");
    assert_eq!(format!("{:?}", inflater.inflate(text, payload)), first, "each message stands by itself");
    // RFC 7692 §7.2.3.6: one empty stored block is an empty message.
    assert_eq!(inflater.inflate(true, &[0]), Ok(trestle_hub::ws::Incoming::Text("")));
}
