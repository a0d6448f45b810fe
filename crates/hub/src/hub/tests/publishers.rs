//! PUB and XPUB sockets over ZWS: what they send is published, whole messages in order, or ends their connection.

use std::sync::Arc;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use trestle_recorder::Log;

use super::client::masked;
use crate::encode::PARTS_MAX;
use crate::grant::Prefixes;
use crate::hub::{Hub, SessionId};
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::ws::Opcode;
use crate::{ErrorCode, Grant, Unpublished};

const READY: &[u8] = b"\x02\x05READY\x0bSocket-Type\0\0\0\x03PUB";

struct Publisher {
    hub: Hub,
    id: SessionId,
}

impl Publisher {
    fn open(protocol: Protocol, limits: Limits, prefixes: &[&[u8]]) -> Self {
        let mut hub = Hub::new("test".to_owned(), limits, Arc::new(Log::new(0)), Instant::now());
        let publish: Prefixes = prefixes.iter().map(|prefix| prefix.to_vec()).collect();
        let id = hub.open_publisher(protocol, Arc::new(Grant { publish, ..Grant::nothing() }));
        Self { hub, id }
    }

    /// One that may say everything and has greeted.
    fn greeted(limits: Limits, prefixes: &[&[u8]]) -> Self {
        let mut publisher = Self::open(Protocol::Zws, limits, prefixes);
        publisher.say(b"\0");
        publisher
    }

    fn say(&mut self, payload: &[u8]) {
        self.hub.receive(self.id, &mut masked(Opcode::Binary, payload));
    }

    fn send(&mut self, frames: &[&[u8]]) {
        for (nth, frame) in frames.iter().enumerate() {
            let more = u8::from(nth + 1 < frames.len());
            self.say(&[&[more], *frame].concat());
        }
    }

    /// What it has been told, each WebSocket frame's payload.
    fn heard(&mut self) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        let _ = self.hub.visit(self.id, |slices| {
            slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        let mut rest = &bytes[..];
        let mut payloads = Vec::new();
        while let [_, len, behind @ ..] = rest {
            let (payload, behind) = behind.split_at(usize::from(*len));
            payloads.push(payload.to_vec());
            rest = behind;
        }
        payloads
    }

    fn published(&mut self) -> Vec<Vec<Vec<u8>>> {
        let taken = self.hub.take_publications();
        taken.into_iter().map(|(_, publish)| [vec![publish.topic], publish.body].concat()).collect()
    }

    /// The code that it was closed with, and what was counted.
    fn refused(&self) -> (Option<u16>, Vec<ErrorCode>) {
        let code = self.hub.sessions[self.id as usize].close_code.map(|code| code.value());
        let counts = self.hub.counts().refused;
        (code, ErrorCode::ALL.into_iter().filter(|code| counts[*code as usize] > 0).collect())
    }
}

#[test]
fn it_hears_what_it_may_publish_once_it_has_greeted() {
    let allowed: [&[u8]; 3] = [b"b", b"a/", b"a/more"];
    for (protocol, theirs, ours) in [
        (Protocol::Zws, &b"\0"[..], &b"\0"[..]),
        (Protocol::ZwsNull, READY, b"\x02\x05READY\x0bSocket-Type\0\0\0\x04XSUB"),
    ] {
        let mut publisher = Publisher::open(protocol, Limits::default(), &allowed);
        assert_eq!(publisher.heard(), [ours]);
        publisher.say(theirs);
        // What another one covers adds nothing.
        assert_eq!(publisher.heard(), [&b"\0\x01a/"[..], b"\0\x01b"]);
    }
}

#[test]
fn a_subscriber_is_no_publisher() {
    let mut publisher = Publisher::open(Protocol::ZwsNull, Limits::default(), &[b""]);
    publisher.say(b"\x02\x05READY\x0bSocket-Type\0\0\0\x03SUB");
    assert_eq!(publisher.refused().0, Some(4500));
}

proptest! {
    #[test]
    fn messages_come_out_whole_and_in_order(
        messages in vec(vec(vec(any::<u8>(), 0..40), 1..5), 1..8),
        piece_bytes in 1usize..50,
    ) {
        let mut publisher = Publisher::greeted(Limits::default(), &[b""]);
        let mut stream = Vec::new();
        for message in &messages {
            for (nth, frame) in message.iter().enumerate() {
                let more = u8::from(nth + 1 < message.len());
                stream.extend(masked(Opcode::Binary, &[&[more], &frame[..]].concat()));
            }
        }
        let mut published = Vec::new();
        for piece in stream.chunks(piece_bytes) {
            publisher.hub.receive(publisher.id, &mut piece.to_vec());
            published.extend(publisher.published());
        }
        prop_assert_eq!(published, messages);
    }
}

#[test]
fn what_may_not_be_published_is_dropped_and_counted() {
    let long = [b'x'; 256];
    for (message, code) in [
        (&[&b"jobs/1"[..], b"no"][..], ErrorCode::Forbidden),
        (&[&b"\0trestle"[..], b"no"][..], ErrorCode::InvalidTopic),
        (&[&long[..], b"no"][..], ErrorCode::InvalidTopic),
    ] {
        let mut publisher = Publisher::greeted(Limits::default(), &[b"x"]);
        publisher.send(message);
        publisher.send(&[b"x", b"after"]);
        assert_eq!(publisher.refused(), (None, vec![code]), "{:?}", message.first());
        assert_eq!(publisher.published(), [[b"x".to_vec(), b"after".to_vec()]]);
    }
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let many = vec![&b""[..]; PARTS_MAX + 2];
    let large = vec![b'-'; 600];
    for message in [&many[..], &[&b"x"[..], &large, &large][..]] {
        let limits = Limits { message_bytes_max: 1_000, ..Limits::default() };
        let mut publisher = Publisher::greeted(limits, &[b""]);
        publisher.send(&[b"x", b"before"]);
        publisher.send(message);
        publisher.send(&[b"x", b"after"]);
        assert_eq!(publisher.refused(), (Some(1009), vec![ErrorCode::TooLarge]), "{:?}", message.first());
        assert_eq!(publisher.published(), [[b"x".to_vec(), b"before".to_vec()]]);
    }
    // Neither a frame nor a command of a publisher.
    for payload in [&b""[..], b"\x02\x05OTHER", b"\x03"] {
        let mut publisher = Publisher::greeted(Limits::default(), &[b""]);
        publisher.say(payload);
        assert_eq!(publisher.refused(), (Some(4500), vec![ErrorCode::BadRequest]));
    }
}

#[test]
fn one_frame_may_be_longer_than_a_topic() {
    let mut publisher = Publisher::greeted(Limits::default(), &[b"jobs/"]);
    let frame = [&b"jobs/1 "[..], &[b'.'; 500]].concat();
    publisher.send(&[&frame]);
    assert_eq!(publisher.published(), [[frame]]);
}

#[test]
fn what_comes_too_fast_is_dropped_and_counted() {
    let limits = Limits { publications_per_second: 2, ..Limits::default() };
    let mut publisher = Publisher::greeted(limits, &[b""]);
    for body in [b"1", b"2", b"3"] {
        publisher.send(&[b"x", body]);
    }
    assert_eq!(publisher.published().len(), 2);
    assert_eq!(publisher.refused(), (None, vec![ErrorCode::RateLimited]));
}

#[test]
fn an_answer_says_nothing_and_a_refusal_is_counted() {
    let mut publisher = Publisher::greeted(Limits::default(), &[b""]);
    publisher.heard();
    publisher.send(&[b"x", b"1"]);
    publisher.send(&[b"x", b"2"]);
    let away = || Err(Unpublished::new(ErrorCode::Unavailable, "away"));
    for ((ticket, _), outcome) in publisher.hub.take_publications().into_iter().zip([Ok(None), away()]) {
        publisher.hub.published(ticket, outcome);
    }
    assert_eq!(publisher.heard(), Vec::<Vec<u8>>::new());
    assert_eq!(publisher.refused(), (None, vec![ErrorCode::Unavailable]));
}

#[test]
fn while_many_have_no_answer_it_is_not_read() {
    let limits = Limits { publications_max: 2, ..Limits::default() };
    let mut publisher = Publisher::greeted(limits, &[b""]);
    publisher.send(&[b"x", b"1"]);
    assert!(publisher.hub.wants_read(publisher.id));
    publisher.send(&[b"x", b"2"]);
    assert!(!publisher.hub.wants_read(publisher.id));
    let (ticket, _) = publisher.hub.take_publications().remove(0);
    publisher.hub.published(ticket, Ok(None));
    assert!(publisher.hub.wants_read(publisher.id));
}
