//! Nothing that carries a position overtakes data, and frames are shared.

use std::collections::BTreeSet;

use super::client::Seen;
use super::script::{Stage, check};
use crate::limits::Limits;
use crate::protocol::Protocol;

#[test]
fn a_reply_with_a_position_waits_for_messages_not_yet_visited() {
    // They were staged, the reply was not: it went first, and its position covered what had not come.
    check(
        "a opens json x
         route x one
         a subscribes 1 y
         route x two
         a sends ping hi",
        "a: welcome 25000 @0
         a: event x @1 one
         a: subscribed 1 y @1 all
         a: caught_up 1 @1 0
         a: event x @2 two
         a: pong hi",
    );
}

#[test]
fn a_loss_is_told_behind_what_came_before_it() {
    check(
        "a opens json x y
         b opens raw x
         c opens json
         route x one
         overrun 5 @6
         publish x seven",
        "a: welcome 25000 @0
         c: welcome 25000 @0
         a: event x @1 one
         a: lost x,y 5 shard_overrun @1 @6
         b: text one
         a: event x @2 seven
         b: text seven",
    );
}

#[test]
fn what_was_routed_before_an_unsubscription_still_comes() {
    check(
        "a opens json x
         route x one
         route x two
         a unsubscribes 1 x
         publish x three
         b opens raw x
         route x four
         b leaves
         publish x five",
        "a: welcome 25000 @0
         a: event x @1 one
         a: event x @2 two
         a: unsubscribed 1 x
         b: gone",
    );
}

#[test]
fn a_stalled_client_gets_everything_in_order_later() {
    for room in [0, 1, 2, 50, 85, 200] {
        check(
            &format!(
                "a opens json x
                 a stalls {room}
                 publish x one
                 a subscribes 1 y
                 route x two
                 a sends ping hi
                 publish y three
                 a reads"
            ),
            "a: welcome 25000 @0
             a: event x @1 one
             a: subscribed 1 y @1 all
             a: caught_up 1 @1 0
             a: event x @2 two
             a: pong hi
             a: event y @3 three",
        );
    }
}

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
