//! Bodies that a decoder is for, as `trestle.v1.json` shows them: decoded once a message, for all clients and formats.

use bytes::Bytes;
use trestle_messages::EVENT_MARKER;
use trestle_recorder::{Message, Slot};

use super::json::{write_frames, write_typed};
use super::syntax::{Object, base64, string};
use crate::decode::{BodyKind, Decoded, Decoder, Decoders};

/// Where a message keeps it: behind the slots of all formats.
const SLOT: Slot = Slot::new(u8::MAX);

/// The time of an event, in front of the fields.
const TIME_BYTES: usize = size_of::<u64>();

/// The body of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    /// Of an event that has one, Unix nanoseconds.
    pub(super) own_time: Option<u64>,
    /// Fields of a JSON object, without its braces.
    pub(super) fields: &'a [u8],
}

/// Whether what stands behind the marker of events is for a decoder to look at, too.
pub(super) fn is_of_events(decoder: &Decoder) -> bool {
    matches!(decoder.body, BodyKind::Event)
}

/// Looks at the body on the first call in the process.
pub(super) fn shown<'a>(message: &Message<'a>, decoder: &Decoder, decoders: &Decoders) -> Shown<'a> {
    let kept = message.encoded(SLOT, || make(message, decoder, decoders));
    let (time, fields) = kept.split_first_chunk::<TIME_BYTES>().expect("a time is in front");
    let own_time = Some(u64::from_le_bytes(*time)).filter(|time| *time != 0);
    Shown { own_time, fields }
}

fn make(message: &Message<'_>, decoder: &Decoder, decoders: &Decoders) -> Bytes {
    let mut frames: Vec<_> = message.body().collect();
    if is_of_events(decoder) && frames.len() == 2 && frames[0] == EVENT_MARKER {
        frames.remove(0);
    }
    let mut out = vec![0; TIME_BYTES];
    let mut own_time = 0;
    let body =
        |frame: &[u8], object: &mut Object<'_>| own_time = write_body(frame, decoder, decoders, object);
    write_frames(frames.iter().copied(), body, &mut Object::within(&mut out));
    if frames.len() == 1 {
        out[..TIME_BYTES].copy_from_slice(&own_time.to_le_bytes());
    }
    out.into()
}

/// Writes a frame by itself, and returns the time of an event, or 0.
fn write_body(frame: &[u8], decoder: &Decoder, decoders: &Decoders, object: &mut Object<'_>) -> u64 {
    // Nothing is nothing in every encoding, and removes its topic's last value; without a decoder it looks the same.
    if frame.is_empty() {
        string("", object.key("text"));
        return 0;
    }
    match decoders.decode(decoder, frame) {
        Ok(Decoded::Data(json)) => object.key("data").extend_from_slice(json.as_bytes()),
        Ok(Decoded::Text(text)) => string(&text, object.key("text")),
        Ok(Decoded::Bytes(bytes)) => base64(&bytes, object.key("base64")),
        Ok(Decoded::Event(event)) => {
            write_typed(&event, object);
            return event.time_unix_ns;
        }
        Err(undecoded) => {
            base64(frame, object.key("base64"));
            string(&undecoded.why, object.key("undecoded"));
        }
    }
    0
}
