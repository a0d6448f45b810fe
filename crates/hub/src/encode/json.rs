//! Messages as `trestle.v1.json` shows them, one JSON object each.

use trestle_messages::v1;
use trestle_messages::v1::event::Body as TypedBody;
use trestle_recorder::Message;

use super::body::{Body, is_json};
use super::decoded::{self, is_of_events};
use super::syntax::{Object, base64, integer, position, string};
use super::typed;
use crate::decode::Decoders;

const NS_PER_MS: u64 = 1_000_000;

/// Writes `{"event":{"topic":…,"position":…,"time_ms":…,"data":…}}`; `snapshot` adds `"snapshot":true`.
///
/// - A single frame without alias or split has no `topic`; one that is not UTF-8 is `topic_base64`.
/// - An unrecorded message has no `position`.
/// - `data` (byte for byte), `text` or `base64` is the body, `parts` an array of such where it has more than one frame.
/// - A typed event adds `id` and `source` where it has them, and may have `progress` or `status` for a body; its own
///   time goes before that of its stamp.
/// - Where `decoders` has one for the topic, the body is what that says, or `base64` with `"undecoded":"<why>"`; but a typed
///   event is what it is.
pub fn event(message: &Message<'_>, decoders: &Decoders, snapshot: bool, out: &mut Vec<u8>) {
    // Without a topic the body is what clients match: they must see it as it is.
    let decoder = decoders.of(message.topic()).filter(|_| message.has_topic());
    let typed = if decoder.is_some_and(is_of_events) { None } else { typed::event(message) };
    let shown = decoder.filter(|_| typed.is_none()).map(|decoder| decoded::shown(message, decoder, decoders));
    let own_time = match (&typed, &shown) {
        (Some(event), _) => Some(event.time_unix_ns).filter(|time| *time != 0),
        (None, shown) => shown.and_then(|shown| shown.own_time),
    };

    let mut envelope = Object::begin(out);
    let mut object = Object::begin(envelope.key("event"));
    if message.has_topic() {
        match std::str::from_utf8(message.topic()) {
            Ok(topic) => string(topic, object.key("topic")),
            Err(_) => base64(message.topic(), object.key("topic_base64")),
        }
    }
    if let Some(at) = message.position() {
        position(at, object.key("position"));
    }
    integer(own_time.unwrap_or(message.time_unix_ns()) / NS_PER_MS, object.key("time_ms"));
    if snapshot {
        object.key("snapshot").extend_from_slice(b"true");
    }
    match (&typed, shown) {
        (Some(event), _) => write_typed(event, &mut object),
        (None, Some(shown)) => object.fields(shown.fields),
        (None, None) => write_frames(message.body(), write_body, &mut object),
    }
    object.end();
    envelope.end();
}

/// A message of a topic without any frame behind it has an empty body, as if it had an empty frame.
pub(super) fn write_frames<'f>(
    mut frames: impl ExactSizeIterator<Item = &'f [u8]>,
    mut body: impl FnMut(&[u8], &mut Object<'_>),
    object: &mut Object<'_>,
) {
    if frames.len() <= 1 {
        return body(frames.next().unwrap_or_default(), object);
    }
    let out = object.key("parts");
    out.push(b'[');
    for (i, frame) in frames.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let mut part = Object::begin(out);
        body(frame, &mut part);
        part.end();
    }
    out.push(b']');
}

fn write_body(frame: &[u8], object: &mut Object<'_>) {
    match Body::classify(frame) {
        Body::Data(json) => object.key("data").extend_from_slice(json.as_bytes()),
        Body::Text(text) => string(text, object.key("text")),
        Body::Base64(bytes) => base64(bytes, object.key("base64")),
    }
}

/// An event without a body removes its topic's last value, as an empty body frame does; so it looks like one to a
/// client too: `"text":""`.
///
/// What an event calls JSON is `data` even if it is a lone number or string; what it calls so wrongly is `text`.
pub(super) fn write_typed(event: &v1::Event, object: &mut Object<'_>) {
    for (key, value) in [("id", &event.id), ("source", &event.source)] {
        if !value.is_empty() {
            string(value, object.key(key));
        }
    }
    match &event.body {
        Some(TypedBody::Json(json)) if is_json(json) => {
            object.key("data").extend_from_slice(json.as_bytes());
        }
        Some(TypedBody::Json(text) | TypedBody::Text(text)) => string(text, object.key("text")),
        Some(TypedBody::Bytes(bytes)) => base64(bytes, object.key("base64")),
        Some(TypedBody::Progress(progress)) => typed::progress(progress, object.key("progress")),
        Some(TypedBody::Status(status)) => typed::status(status, object.key("status")),
        None => string("", object.key("text")),
    }
}
