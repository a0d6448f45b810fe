//! Nothing that carries a position overtakes data, and frames are shared.

use std::collections::BTreeSet;

use super::client::Seen;
use super::script::Stage;
use crate::limits::Limits;
use crate::protocol::Protocol;

#[test]
fn a_socket_is_visited_once_for_a_batch() {
    let mut stage = Stage::new(Limits::default());
    stage.play("a opens raw x");
    let before = stage.world.clients[0].socket.writes;
    for n in 0..100u8 {
        stage.world.append(b"x", &[n]);
    }
    stage.world.route();
    stage.world.flush();
    stage.world.settle();
    assert_eq!(stage.world.n_events(0), 100);
    assert_eq!(stage.world.clients[0].socket.writes - before, 1);
}

#[test]
fn a_batch_of_any_size_arrives() {
    let mut stage = Stage::new(Limits::default());
    for line in ["a opens raw x", "b opens raw x", "b stalls 1000"] {
        stage.play(line);
    }
    for n in 0..1_000u32 {
        stage.world.append(b"x", n.to_string().as_bytes());
    }
    stage.world.route();
    stage.world.flush();
    stage.play("b reads");
    for client in &stage.world.clients {
        let numbers = client.seen.iter().map(|seen| match seen {
            Seen::Text(text) => text.parse::<i32>().unwrap(),
            other => panic!("{other:?}"),
        });
        assert!(numbers.eq(0..1_000));
    }
}

#[test]
fn one_frame_in_memory_serves_all_of_a_format() {
    let mut stage = Stage::new(Limits::default());
    let protocols = [Protocol::RustWebsocket, Protocol::Json, Protocol::RustWebsocket, Protocol::Json];
    let sessions = protocols.map(|protocol| {
        let client = stage.world.open(protocol, [&b"x"[..]]);
        stage.world.clients[client].session.unwrap()
    });
    stage.world.append(b"x", b"shared");
    stage.world.route();
    let pointers = sessions.map(|session| {
        let mut pointer = std::ptr::null();
        stage.world.hub.visit(session, |slices| {
            pointer = slices[0].as_ptr();
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        pointer
    });
    assert_eq!((pointers[0], pointers[1]), (pointers[2], pointers[3]));
    assert_eq!(pointers.into_iter().collect::<BTreeSet<_>>().len(), 2);
}
