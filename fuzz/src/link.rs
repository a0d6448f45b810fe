//! The last frame of the link, and beats: what is read is written as it was meant, and no lie about frames is believed.

use prost::Message as _;
use trestle_messages::stamp;
use trestle_messages::v1::{Beat, Stamp};
use trestle_recorder::{Log, SegmentBuilder};

/// The first byte says how many frames stand before the one that is read, as a stamp and as a beat.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&mode, last)) = bytes.split_first() else { return };
    if let Ok(stamp) = Stamp::decode(last) {
        let (encoded, n) = stamp::encode(&stamp);
        assert_eq!(Stamp::decode(&encoded[..n]), Ok(stamp), "what is written is read");
        record(stamp, 1 + usize::from(mode % 4));
    }
    if let Ok(beat) = Beat::decode(last) {
        assert_eq!(Beat::decode(&beat.encode_to_vec()[..]), Ok(beat), "what is written is read");
    }
}

/// Whatever the stamp says of them, a message shows no bytes but its own.
fn record(stamp: Stamp, n_frames: usize) {
    const FRAMES: [&[u8]; 4] = [b"jobs/42", b"body", b"", b"last"];
    let log = Log::new(0);
    let (mut cursor, mut segments) = (log.cursor(), Vec::new());
    let mut batch = SegmentBuilder::default();
    batch.push(FRAMES[..n_frames].iter().copied(), stamp);
    log.append(&mut batch);
    log.read(&mut cursor, &mut segments).expect("the log holds one message");
    let message = segments[0].message(0);
    assert!(message.frames().eq(FRAMES[..n_frames].iter().copied()), "its frames are untouched");
    assert!(message.original_frames().len() <= n_frames, "none is made up");
    let shown: usize = message.body().map(<[u8]>::len).sum();
    assert!(shown <= message.frames().map(<[u8]>::len).sum(), "{shown} bytes of body");
}
