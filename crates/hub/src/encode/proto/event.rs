//! Messages of the log as `trestle.v1.proto` shows them.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::encoding::{self, WireType, encode_key, encode_varint, encoded_len_varint};
use trestle_messages::v1;
use trestle_messages::v1::event::Body as TypedBody;
use trestle_messages::v1::progress::State;
use trestle_recorder::Message;

use super::super::body::is_json;
use super::super::typed;
use crate::ws::{Opcode, server_frame};

const NS_PER_MS: u64 = 1_000_000;

/// Where bodies begin, in bytes from the beginning of the payload: at a multiple of the largest number's size.
pub(super) const ALIGNMENT: usize = 8;

/// Bytes that an event has beside its topic and its bodies, at most: keys, lengths, position, time.
const ENVELOPE_BYTES_MAX: usize = 96;

/// Bytes that a body has beside itself, at most: key and length, and as much padding as it may need.
const BODY_HEAD_BYTES_MAX: usize = 1 + 5 + (ALIGNMENT + 1);

/// The fields of `ServerMessage` and of its `Event`, by number. All keys are one byte.
mod field {
    pub(super) const EVENT: u32 = 4;
    pub(super) const TOPIC: u32 = 1;
    pub(super) const POSITION: u32 = 2;
    pub(super) const TIME_MS: u32 = 3;
    pub(super) const SNAPSHOT: u32 = 4;
    pub(super) const ID: u32 = 5;
    pub(super) const SOURCE: u32 = 6;
    pub(super) const DATA: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const BYTES: u32 = 9;
    pub(super) const PROGRESS: u32 = 10;
    pub(super) const STATUS: u32 = 11;
    pub(super) const PARTS: u32 = 12;
    pub(super) const PADDING: u32 = 15;
    /// Of `Status`.
    pub(super) const GAUGES: u32 = 1;
}

/// A WebSocket frame of the message, as `json::event` has it, but for its frames, which are untouched.
pub(in crate::encode) fn frame(message: &Message<'_>, snapshot: bool) -> Bytes {
    server_frame(Opcode::Binary, &payload(message, snapshot))
}

/// A `ServerMessage` with an event.
pub(super) fn payload(message: &Message<'_>, snapshot: bool) -> Vec<u8> {
    let body_bytes_max: usize = message.body().map(|frame| BODY_HEAD_BYTES_MAX + frame.len()).sum();
    let event_bytes_max = ENVELOPE_BYTES_MAX + message.topic().len() + body_bytes_max;
    // Where the event begins depends on how long its length is, and its own length on where it begins.
    let length_bytes = encoded_len_varint(event_bytes_max as u64);
    let start = 1 + length_bytes;
    let mut out = Vec::with_capacity(start + event_bytes_max);
    encode_key(field::EVENT, WireType::LengthDelimited, &mut out);
    out.resize(start, 0);
    event(message, snapshot, &mut out);
    let shortest = if length_bytes == 1 { 0 } else { 1 << (7 * (length_bytes - 1)) };
    if let Some(missing) = (start + shortest).checked_sub(out.len()).filter(|missing| *missing > 0) {
        padding(missing.max(2), &mut out);
    }
    let event_bytes = out.len() - start;
    encode_varint(event_bytes as u64, &mut &mut out[1..start]);
    out
}

fn event(message: &Message<'_>, snapshot: bool, out: &mut Vec<u8>) {
    let typed = typed::event(message);
    let own_time = typed.as_ref().map(|event| event.time_unix_ns).filter(|time| *time != 0);
    if message.has_topic() {
        bytes(field::TOPIC, message.topic(), out);
    }
    if let Some(position) = message.position() {
        encoding::string::encode(field::POSITION, &position.to_string(), out);
    }
    let time_ms = own_time.unwrap_or(message.time_unix_ns()) / NS_PER_MS;
    encoding::uint64::encode(field::TIME_MS, &time_ms, out);
    if snapshot {
        encoding::bool::encode(field::SNAPSHOT, &true, out);
    }
    match typed {
        Some(event) => write_typed(event, out),
        None => write_frames(message, out),
    }
}

fn write_frames(message: &Message<'_>, out: &mut Vec<u8>) {
    let mut frames = message.body();
    if frames.len() <= 1 {
        return body(field::BYTES, frames.next().unwrap_or_default(), out);
    }
    frames.for_each(|frame| body(field::PARTS, frame, out));
}

/// The same choices as in JSON: what an event calls JSON wrongly is `text`, and so is nothing.
fn write_typed(event: v1::Event, out: &mut Vec<u8>) {
    for (number, value) in [(field::ID, &event.id), (field::SOURCE, &event.source)] {
        if !value.is_empty() {
            encoding::string::encode(number, value, out);
        }
    }
    match event.body {
        Some(TypedBody::Json(json)) if is_json(&json) => encoding::string::encode(field::DATA, &json, out),
        Some(TypedBody::Json(text) | TypedBody::Text(text)) => {
            encoding::string::encode(field::TEXT, &text, out);
        }
        Some(TypedBody::Bytes(bytes)) => body(field::BYTES, &bytes, out),
        Some(TypedBody::Progress(mut progress)) => {
            if matches!(progress.state(), State::Unspecified) {
                progress.set_state(State::Running);
            }
            encoding::message::encode(field::PROGRESS, &progress, out);
        }
        Some(TypedBody::Status(status)) => write_status(status, out),
        None => bytes(field::TEXT, b"", out),
    }
}

/// Sorted by name, so that equal events give equal bytes.
fn write_status(status: v1::Status, out: &mut Vec<u8>) {
    let gauges: BTreeMap<_, _> = status.gauges.into_iter().collect();
    let mut inner = Vec::new();
    encoding::btree_map::encode(
        encoding::string::encode,
        encoding::string::encoded_len,
        encoding::double::encode,
        encoding::double::encoded_len,
        field::GAUGES,
        &gauges,
        &mut inner,
    );
    bytes(field::STATUS, &inner, out);
}

/// Writes a body where it is aligned.
fn body(number: u32, frame: &[u8], out: &mut Vec<u8>) {
    let head_bytes = 1 + encoded_len_varint(frame.len() as u64);
    let missing = (out.len() + head_bytes).wrapping_neg() % ALIGNMENT;
    match missing {
        0 => {}
        // The shortest padding is a key and a length.
        1 => padding(1 + ALIGNMENT, out),
        missing => padding(missing, out),
    }
    bytes(number, frame, out);
}

/// Writes so many bytes that say nothing, 2 at least. Of more than 129 a few more.
fn padding(n: usize, out: &mut Vec<u8>) {
    encode_key(field::PADDING, WireType::LengthDelimited, out);
    encode_varint(n as u64 - 2, out);
    out.resize(out.len() + n - 2, 0);
}

/// Writes a field of bytes, or of a text, or of an encoded message; also an empty one.
fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}
