//! Nothing that carries a position overtakes data, and frames are shared.

use std::collections::BTreeSet;

use super::client::Seen;
use super::script::{Stage, check, check_with};
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

/// The chain simulation found it: where a shard fell behind across the end of an epoch, the news of that end was among what
/// it missed, and clients were told a bound that knew nothing of it.
#[test]
fn what_is_missed_across_an_epoch_has_no_bound() {
    check(
        "a opens json x
         publish x hello
         overrun 5 @8:6",
        "a: welcome 25000 @0
         a: event x @1 hello
         a: lost x epoch_changed @1 @8:6",
    );
}

/// The chain simulation found it: a loss that waited to be told named a subscription that came later, too, and covered what
/// that one was then sent again.
#[test]
fn a_loss_concerns_the_subscriptions_of_its_time() {
    let limits = Limits { outbox_bytes_max: 400, ..Limits::default() };
    check_with(
        limits,
        r#"publish y before
         a opens json
         a says {"id":1,"subscribe":{"topics":["x"],"policy":"drop_oldest"}}
         a stalls 1
         publish x 1
         publish x 2
         publish y between
         publish x 3
         publish x 4
         publish x 5
         publish x 6
         publish x 7
         publish x 8
         a says {"id":2,"subscribe":{"topics":["y"],"since":"AQAAAAAAAAAHAAAAAAAAAAA","policy":"drop_oldest"}}
         a reads"#,
        "a: welcome 25000 @1
         a: subscribed 1 x @1 all
         a: caught_up 1 @1 0
         a: event x @2 1
         a: lost x slow_consumer 3 @2 @6
         a: subscribed 2 y @0 all recovered
         a: event y @1 before
         a: event y @4 between
         a: event x @7 5
         a: event x @8 6
         a: event x @9 7
         a: event x @10 8
         a: caught_up 2 @10 2",
    );
}
