//! ZWS 2.0 as a client speaks it, over its whole way: the same subscriptions and the same end however its bytes are cut.

use std::sync::Arc;
use std::time::Instant;

use trestle_hub::ws::{Opcode, client_frame};
use trestle_hub::{Grant, Hub, Limits, Protocol, Role};
use trestle_recorder::Log;

/// Few, so that short inputs reach the bound.
const SUBSCRIPTIONS_MAX: usize = 4;

/// The first byte says which of the two protocols, at which end, and how long the pieces are; what follows are messages, each
/// behind a byte that is its length.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&mode, mut rest)) = bytes.split_first() else { return };
    let protocol = if mode & 0x80 != 0 { Protocol::ZwsNull } else { Protocol::Zws };
    let mut stream = Vec::new();
    while let Some((&len, behind)) = rest.split_first() {
        let (message, behind) = behind.split_at(usize::from(len).min(behind.len()));
        stream.extend(client_frame(Opcode::Binary, true, [0x37, 0xfa, 0x21, 0x3d], message));
        rest = behind;
    }
    let role = if mode & 0x40 != 0 { Role::Publisher } else { Role::Subscriber };
    let whole = say(protocol, role, &stream, stream.len().max(1));
    for piece_bytes in [1, 1 + usize::from(mode & 0x3f)] {
        assert_eq!(say(protocol, role, &stream, piece_bytes), whole, "in pieces of {piece_bytes}");
    }
}

/// What it publishes, what it holds then, what upstream is asked for, how many were refused and closed, and the last bytes of the server.
fn say(protocol: Protocol, role: Role, stream: &[u8], piece_bytes: usize) -> String {
    let now = Instant::now();
    let limits = Limits { subscriptions_max: SUBSCRIPTIONS_MAX, commands_per_second: 0, ..Limits::default() };
    let mut hub = Hub::new("fuzz".to_owned(), limits, Arc::new(Log::new(0)), now);
    hub.tick(now);
    let grant = Arc::new(Grant::everything());
    let id = match role {
        Role::Subscriber => hub.open(protocol, None, grant, []),
        Role::Publisher => hub.open_publisher(protocol, grant),
    };
    for piece in stream.chunks(piece_bytes) {
        hub.receive(id, &mut piece.to_vec());
    }
    assert!(hub.n_subscriptions() <= SUBSCRIPTIONS_MAX, "{} subscriptions", hub.n_subscriptions());
    let interest = format!("{:?}", hub.take_interest());
    let faults = format!("{:?}", hub.take_faults());
    let publications: Vec<_> = hub.take_publications().into_iter().map(|(_, publish)| publish).collect();
    format!(
        "{publications:?} {} {interest} {faults} {} {}",
        hub.n_subscriptions(),
        hub.counts().closed_protocol,
        hub.is_ended(id)
    )
}
