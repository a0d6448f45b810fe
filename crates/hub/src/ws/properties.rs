//! What holds for every message, fragmentation and cut of the stream.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// An [`Incoming`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Text(String),
    Binary(Vec<u8>),
    Compressed { text: bool, payload: Vec<u8> },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close { code: Option<u16>, reason: String },
}

impl From<Incoming<'_>> for Event {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.into()),
            Incoming::Binary(payload) => Self::Binary(payload.into()),
            Incoming::Compressed { text, payload } => Self::Compressed { text, payload: payload.into() },
            Incoming::Ping(payload) => Self::Ping(payload.into()),
            Incoming::Pong(payload) => Self::Pong(payload.into()),
            Incoming::Close { code, reason } => Self::Close { code, reason: reason.into() },
        }
    }
}

/// Feeds `reads` one after the other; all events, and the error that ended them. Checks the memory bound on the way.
pub(super) fn read<B: AsRef<[u8]>>(
    reader: &mut Reader,
    reads: impl IntoIterator<Item = B>,
) -> (Vec<Event>, Option<ReadError>) {
    const FIXED_BYTES: usize = 256;
    let (mut events, mut n_read) = (Vec::new(), 0);
    for bytes in reads {
        let mut scratch = bytes.as_ref().to_vec();
        n_read += scratch.len();
        let mut input = &mut scratch[..];
        loop {
            match reader.next(&mut input) {
                Ok(Some(incoming)) => events.push(incoming.into()),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(input.is_empty(), "None means that the input is used up");
        assert!(reader.held_bytes() <= FIXED_BYTES + 2 * n_read, "{} held", reader.held_bytes());
    }
    (events, None)
}

pub(super) fn read_bytewise(reader: &mut Reader, bytes: &[u8]) -> (Vec<Event>, Option<ReadError>) {
    read(reader, bytes.chunks(1))
}

/// Cuts `bytes` at `cuts`.
fn pieces(bytes: &[u8], cuts: &[Index]) -> Vec<Vec<u8>> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    let starts = [0].into_iter().chain(ends.clone());
    starts.zip(ends).map(|(start, end)| bytes[start..end].to_vec()).collect()
}

/// One message cut into fragments, each followed by the pings that come before the next.
#[derive(Clone, Debug)]
struct Sent {
    message: Event,
    cuts: Vec<Index>,
    pings: Vec<Vec<u8>>,
    mask: [u8; 4],
}

impl Sent {
    /// The frames on the wire, and what a reader is to make of them.
    fn encode(&self) -> (Vec<u8>, Vec<Event>) {
        let (opcode, rsv1, payload) = match &self.message {
            Event::Text(text) => (Opcode::Text, false, text.as_bytes()),
            Event::Binary(payload) => (Opcode::Binary, false, &payload[..]),
            Event::Compressed { text: true, payload } => (Opcode::Text, true, &payload[..]),
            Event::Compressed { text: false, payload } => (Opcode::Binary, true, &payload[..]),
            other => unreachable!("{other:?} is no data message"),
        };
        let fragments = pieces(payload, &self.cuts);
        let (mut wire, mut events) = (Vec::new(), Vec::new());
        for (i, fragment) in fragments.iter().enumerate() {
            let fin = i + 1 == fragments.len();
            let start = wire.len();
            wire.extend(client_frame(
                if i == 0 { opcode } else { Opcode::Continuation },
                fin,
                self.mask,
                fragment,
            ));
            wire[start] |= u8::from(rsv1 && i == 0) << 6;
            if let Some(ping) = self.pings.get(i).filter(|_| !fin) {
                wire.extend(client_frame(Opcode::Ping, true, self.mask, ping));
                events.push(Event::Ping(ping.clone()));
            }
        }
        events.push(self.message.clone());
        (wire, events)
    }
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let payload = || prop_oneof![4 => vec(any::<u8>(), 0..300), 1 => vec(any::<u8>(), 60_000..70_000)];
    let message = prop_oneof![
        "\\PC{0,200}".prop_map(Event::Text),
        payload().prop_map(Event::Binary),
        (any::<bool>(), payload()).prop_map(|(text, payload)| Event::Compressed { text, payload }),
    ];
    let pings = vec(vec(any::<u8>(), 0..=CONTROL_BYTES_MAX), 0..4);
    (message, vec(any::<Index>(), 0..5), pings, any::<[u8; 4]>())
        .prop_map(|(message, cuts, pings, mask)| Sent { message, cuts, pings, mask })
}

/// Streams that are nearly right: real frames, with a few bits turned over.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        Just(Opcode::Continuation),
        Just(Opcode::Text),
        Just(Opcode::Binary),
        Just(Opcode::Ping),
        Just(Opcode::Pong),
        Just(Opcode::Close),
    ];
    let payload = prop_oneof![vec(any::<u8>(), 0..140), "\\PC{0,40}".prop_map(String::into_bytes)];
    let frame =
        (opcode, any::<bool>(), any::<[u8; 4]>(), payload).prop_map(|(opcode, fin, mask, payload)| {
            client_frame(opcode, fin || opcode.is_control(), mask, &payload)
        });
    let flips = prop_oneof![Just(vec![]), vec((any::<Index>(), 0..8_u32), 0..3)];
    (vec(frame, 0..8), flips).prop_map(|(frames, flips)| {
        let mut bytes = frames.concat();
        for (at, bit) in flips.iter().filter(|_| !frames.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn decoding_what_was_encoded_gives_it_back(
        sent in vec(any_sent(), 1..4),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let (wire, expected): (Vec<_>, Vec<_>) = sent.iter().map(Sent::encode).unzip();
        let mut reader = Reader::new(70_000, true);
        let read = read(&mut reader, pieces(&wire.concat(), &cuts));
        prop_assert_eq!(read, (expected.concat(), None));
        prop_assert_eq!(reader.held_bytes(), 0);
    }

    #[test]
    fn the_cut_of_the_stream_changes_nothing(
        bytes in any_stream(),
        cuts in vec(any::<Index>(), 0..12),
        limit in prop_oneof![Just(64), Just(1000)],
        rsv1_allowed: bool,
    ) {
        let expected = read(&mut Reader::new(limit, rsv1_allowed), [&bytes]);
        prop_assert_eq!(&read_bytewise(&mut Reader::new(limit, rsv1_allowed), &bytes), &expected);
        prop_assert_eq!(&read(&mut Reader::new(limit, rsv1_allowed), pieces(&bytes, &cuts)), &expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_are_bounded(bytes in vec(any::<u8>(), 0..400), rsv1_allowed: bool) {
        let expected = read(&mut Reader::new(100, rsv1_allowed), [&bytes]);
        prop_assert_eq!(read_bytewise(&mut Reader::new(100, rsv1_allowed), &bytes), expected);
    }

    #[test]
    fn memory_follows_what_has_arrived_and_never_exceeds_the_limit(
        fragments in vec(0_usize..5000, 1..6),
        read_bytes in 1_usize..3000,
    ) {
        const LIMIT: usize = 8 * 1024;
        const FIXED_BYTES: usize = 256;
        let mut reader = Reader::new(LIMIT, false);
        for (i, &len) in fragments.iter().enumerate() {
            let opcode = if i == 0 { Opcode::Binary } else { Opcode::Continuation };
            for part in client_frame(opcode, false, [9; 4], &vec![0; len]).chunks(read_bytes) {
                let mut scratch = part.to_vec();
                let result = reader.next(&mut &mut scratch[..]);
                let too_large = fragments[..=i].iter().sum::<usize>() > LIMIT;
                prop_assert!(matches!(result, Ok(None)) || too_large);
                prop_assert!(reader.held_bytes() <= FIXED_BYTES + LIMIT);
            }
        }
    }

    #[test]
    fn text_is_judged_as_the_standard_library_does(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..40),
            ("\\PC{0,20}", vec(any::<u8>(), 0..4), "\\PC{0,20}").prop_map(|(a, b, c)| [a.as_bytes(), &b, c.as_bytes()].concat()),
        ],
        cuts in vec(any::<Index>(), 0..4),
    ) {
        let expected = match str::from_utf8(&bytes) {
            Ok(text) => (vec![Event::Text(text.into())], None),
            Err(_) => (vec![], Some(ReadError::InvalidUtf8)),
        };
        let wire = client_frame(Opcode::Text, true, [1, 2, 3, 4], &bytes);
        prop_assert_eq!(read(&mut Reader::new(1000, false), pieces(&wire, &cuts)), expected);
    }
}
