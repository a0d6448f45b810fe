//! Which message takes away its topic's last value.

use prost::Message as _;
use trestle_messages::EVENT_MARKER;
use trestle_messages::v1::Event;

use crate::Message;

/// Whether all frames of its body are empty, or it is a typed event without a body.
pub(super) fn is_removal(message: &Message<'_>) -> bool {
    let mut frames = message.frames();
    // By far the most messages are topic and body.
    if frames.len() == 2 && message.stamp().body_start == 0 {
        return frames.nth(1).is_some_and(<[u8]>::is_empty);
    }
    let mut body = message.body();
    if body.len() == 2 && message.frames().nth(1) == Some(EVENT_MARKER) {
        return body.nth(1).is_some_and(is_bodiless);
    }
    body.all(<[u8]>::is_empty)
}

/// Whether this is an event without a body. Looks at the fields until one is a body, which is nearly always so; decodes
/// only what has none.
fn is_bodiless(event: &[u8]) -> bool {
    let mut rest = event;
    while let Some((tag, field)) = rest.split_first() {
        let skipped = match tag {
            // `id` and `source`, of less than 128 bytes.
            0x0a | 0x1a => field
                .split_first()
                .and_then(|(n, text)| text.get(usize::from(*n)..))
                .filter(|_| field[0] < 0x80),
            // `time_unix_ns`.
            0x11 => field.get(8..),
            // One of the body.
            0x22 | 0x2a | 0x32 | 0x3a | 0x42 => return false,
            _ => None,
        };
        let Some(skipped) = skipped else { break };
        rest = skipped;
    }
    Event::decode(event).is_ok_and(|event| event.body.is_none())
}

#[cfg(test)]
mod tests {
    use trestle_messages::v1::Stamp;
    use trestle_messages::v1::event::Body;

    use super::*;
    use crate::SegmentBuilder;
    use crate::segment::EncodedBytes;

    fn check(frames: &[&[u8]], stamp: Stamp, expected: bool) {
        let mut batch = SegmentBuilder::default();
        batch.push(frames.iter().copied(), stamp);
        let segment = batch.build(0, EncodedBytes::default());
        assert_eq!(is_removal(&segment.message(0)), expected, "{frames:?}");
    }

    #[test]
    fn an_empty_body_removes() {
        let plain = Stamp::default();
        check(&[b"t", b""], plain, true);
        check(&[b"t", b"", b""], plain, true);
        check(&[b"t", b"", b"x"], plain, false);
        check(&[b"t", b"x"], plain, false);
        let split = Stamp { original_frames: true, body_start: 2, ..plain };
        check(&[b"t", b"t "], split, true);
        check(&[b"t", b"t x"], split, false);
    }

    #[test]
    fn an_event_without_a_body_removes() {
        let long = "long".repeat(100);
        let bodies = [
            None,
            Some(Body::Json(String::new())),
            Some(Body::Text("x".into())),
            Some(Body::Bytes(vec![0].into())),
            Some(Body::Progress(Default::default())),
            Some(Body::Status(Default::default())),
        ];
        for (body, id, time_unix_ns) in bodies.iter().flat_map(|body| {
            ["", "id", &long].into_iter().flat_map(move |id| [0, 1].map(|time| (body, id, time)))
        }) {
            let event = Event { id: id.into(), source: id.into(), time_unix_ns, body: body.clone() };
            check(&[b"t", EVENT_MARKER, &event.encode_to_vec()], Stamp::default(), body.is_none());
        }
        check(&[b"t", EVENT_MARKER, b""], Stamp::default(), true);
        check(&[b"t", EVENT_MARKER, b"\xff"], Stamp::default(), false);
        check(&[b"t", EVENT_MARKER, b"\x0a"], Stamp::default(), false);
        check(&[b"t", EVENT_MARKER, b"", b""], Stamp::default(), false);
    }
}
