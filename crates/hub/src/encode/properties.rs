//! Whatever publishers send, a client gets valid JSON and can get the bytes back.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use prost::Message as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use trestle_messages::EVENT_MARKER;
use trestle_messages::v1::{Event, Progress, Stamp, Status, event::Body as TypedBody};

use super::tests::segment;
use super::*;
use crate::ws::server_frame;

/// An event as an independent reader sees it; an unknown key is an error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown<'j> {
    topic: Option<String>,
    topic_base64: Option<String>,
    position: Option<String>,
    time_ms: u64,
    snapshot: Option<bool>,
    id: Option<String>,
    source: Option<String>,
    #[serde(borrow)]
    data: Option<&'j RawValue>,
    text: Option<String>,
    base64: Option<String>,
    #[serde(borrow)]
    progress: Option<&'j RawValue>,
    #[serde(borrow)]
    status: Option<&'j RawValue>,
    #[serde(borrow)]
    parts: Option<Vec<Part<'j>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part<'j> {
    #[serde(borrow)]
    data: Option<&'j RawValue>,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Deserialize)]
struct Envelope<'j> {
    #[serde(borrow)]
    event: Shown<'j>,
}

impl Part<'_> {
    /// The body's bytes; the reader drops white space around `data`, as every JSON reader may.
    fn bytes(&self) -> Vec<u8> {
        match (&self.data, &self.text, &self.base64) {
            (Some(data), None, None) => data.get().as_bytes().to_vec(),
            (None, Some(text), None) => text.clone().into_bytes(),
            (None, None, Some(base64)) => STANDARD.decode(base64).unwrap(),
            _ => panic!("one of data, text and base64: {self:?}"),
        }
    }
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "(\\PC|[\\x00-\\x22\\\\]){0,100}".prop_map(String::into_bytes),
        "[ \\n]?\\{\"[a-zØ\\x7f]{0,5}\" ?: ?\\[1,\"\\\\\\\\u00e9\",-0.5e3\\]\n?\\}[ \\n]?"
            .prop_map(String::into_bytes),
        "[\\[{][\\[\\]{}\",:1\\\\ ]{0,12}".prop_map(String::into_bytes),
    ]
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), 0..3u64, any::<u64>(), any::<bool>(), 0..5u32).prop_map(
        |(epoch, offset, time_unix_ns, original_frames, body_start)| Stamp {
            epoch,
            offset,
            time_unix_ns,
            original_frames,
            body_start: if original_frames { body_start } else { 0 },
        },
    )
}

fn typed_body() -> impl Strategy<Value = Option<TypedBody>> {
    let progress = (".{0,5}", any::<u64>(), any::<u64>(), ".{0,5}", -1..7i32);
    let progress =
        progress.prop_map(|(job, done, total, unit, state)| Progress { job, done, total, unit, state });
    let gauges = proptest::collection::hash_map(".{0,5}", any::<f64>(), 0..4);
    prop_oneof![
        Just(None),
        "[\\[{]?[\\[\\]{}\",:1]{0,6}".prop_map(|json| Some(TypedBody::Json(json))),
        ".{0,20}".prop_map(|text| Some(TypedBody::Text(text))),
        any::<Vec<u8>>().prop_map(|bytes| Some(TypedBody::Bytes(bytes.into()))),
        progress.prop_map(|progress| Some(TypedBody::Progress(progress))),
        gauges.prop_map(|gauges| Some(TypedBody::Status(Status { gauges }))),
    ]
}

proptest! {
    #[test]
    fn plain_messages_come_back(
        frames in proptest::collection::vec(body(), 1..5), stamp in stamp(), snapshot: bool,
    ) {
        let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
        prop_assume!(frames.get(1) != Some(&EVENT_MARKER));
        let segment = segment(&frames, stamp);
        let message = segment.message(0);
        let mut out = Vec::new();
        event(&message, &Decoders::default(), snapshot, &mut out);
        let shown = serde_json::from_slice::<Envelope<'_>>(&out).unwrap().event;

        let topic = match (&shown.topic, &shown.topic_base64) {
            (Some(text), None) => Some(text.clone().into_bytes()),
            (None, Some(base64)) => Some(STANDARD.decode(base64).unwrap()),
            (None, None) => None,
            both => panic!("{both:?}"),
        };
        prop_assert_eq!(topic, message.has_topic().then(|| message.topic().to_vec()));
        prop_assert_eq!(shown.position, message.position().map(|position| position.to_string()));
        prop_assert_eq!((shown.time_ms, shown.snapshot), (stamp.time_unix_ns / 1_000_000, snapshot.then_some(true)));
        prop_assert!(shown.progress.is_none() && shown.status.is_none());
        prop_assert!(shown.id.is_none() && shown.source.is_none());

        let mut bodies: Vec<_> = message.body().map(<[u8]>::to_vec).collect();
        if bodies.is_empty() {
            bodies.push(vec![]);
        }
        let parts = shown.parts.unwrap_or_else(|| {
            vec![Part { data: shown.data, text: shown.text, base64: shown.base64 }]
        });
        prop_assert_eq!(parts.len(), bodies.len());
        for (part, body) in parts.iter().zip(&bodies) {
            if part.data.is_some() {
                // Byte for byte, white space included: the body as it came is a part of what went out.
                prop_assert!(memchr::memmem::find(&out, body).is_some());
                prop_assert_eq!(&part.bytes()[..], body.trim_ascii());
            } else {
                prop_assert_eq!(&part.bytes(), body);
            }
        }
    }

    #[test]
    fn typed_events_come_back(id in ".{0,5}", source in ".{0,5}", time_unix_ns: u64, body in typed_body()) {
        let sent = Event { id, time_unix_ns, source, body };
        let segment = segment(&[b"t", EVENT_MARKER, &sent.encode_to_vec()], Stamp::default());
        let mut out = Vec::new();
        event(&segment.message(0), &Decoders::default(), false, &mut out);
        let shown = serde_json::from_slice::<Envelope<'_>>(&out).unwrap().event;

        prop_assert_eq!(shown.id.unwrap_or_default(), sent.id);
        prop_assert_eq!(shown.source.unwrap_or_default(), sent.source);
        prop_assert_eq!(shown.time_ms, sent.time_unix_ns / 1_000_000);
        match sent.body {
            None => prop_assert_eq!(shown.text, Some(String::new())),
            Some(TypedBody::Text(text)) => prop_assert_eq!(shown.text, Some(text)),
            Some(TypedBody::Json(json)) => match shown.data {
                Some(data) => prop_assert_eq!(data.get(), json),
                None => prop_assert_eq!(shown.text, Some(json)),
            },
            Some(TypedBody::Bytes(bytes)) => {
                prop_assert_eq!(STANDARD.decode(shown.base64.unwrap()).unwrap(), bytes);
            }
            Some(TypedBody::Progress(progress)) => {
                let value: serde_json::Value = serde_json::from_str(shown.progress.unwrap().get()).unwrap();
                prop_assert_eq!(value["job"].as_str(), Some(&progress.job[..]));
                let done = value["done"].to_string();
                prop_assert_eq!(done.trim_matches('"'), progress.done.to_string());
                prop_assert_eq!(value["done"].is_string(), progress.done >> 53 != 0);
                prop_assert!(["started", "running", "done", "failed"].contains(&value["state"].as_str().unwrap()));
            }
            Some(TypedBody::Status(status)) => {
                let shown: BTreeMap<&str, BTreeMap<String, &RawValue>> =
                    serde_json::from_str(shown.status.unwrap().get()).unwrap();
                prop_assert_eq!(shown["gauges"].len(), status.gauges.len());
                for (name, gauge) in status.gauges {
                    // serde_json's own reading of numbers may be off by the last bit.
                    let read = shown["gauges"][&name].get().parse::<f64>().ok();
                    prop_assert_eq!(read, Some(gauge).filter(|gauge| gauge.is_finite()));
                }
            }
        }
    }

    /// Frames that look like typed events, whole or broken, make frames that a client can read.
    #[test]
    fn whatever_comes_every_frame_is_valid(
        topic in body(), rest in proptest::collection::vec(body(), 0..3), marked: bool, stamp in stamp(),
    ) {
        let marker = marked.then_some(EVENT_MARKER);
        let frames = [&topic[..]].into_iter().chain(marker).chain(rest.iter().map(Vec::as_slice));
        let segment = segment(&frames.collect::<Vec<_>>(), stamp);
        let message = segment.message(0);

        let json = frame(&message, Format::Json, &Decoders::default());
        let payload = &json[payload_start(json)..];
        prop_assert_eq!(json, &server_frame(crate::ws::Opcode::Text, payload));
        let json = serde_json::from_slice::<Envelope<'_>>(payload);
        prop_assert!(json.is_ok(), "{:?}", json.err());

        let raw = frame(&message, Format::Raw, &Decoders::default());
        let payload = &raw[payload_start(raw)..];
        let is_text = raw[0] == 0x81;
        prop_assert_eq!(raw[0] & 0xf0, 0x80);
        prop_assert!(!is_text || std::str::from_utf8(payload).is_ok());
    }
}

/// Bytes of a short server frame's header (RFC 6455 §5.2).
fn payload_start(frame: &[u8]) -> usize {
    if frame[1] == 126 { 4 } else { 2 }
}
