//! Clients that read too slowly.

use trestle_recorder::RecordRules;

use super::script::{check, check_with};
use super::show::show;
use super::world::World;
use crate::limits::Limits;
use crate::protocol::Protocol;

fn outbox(bytes: usize) -> Limits {
    Limits { outbox_bytes_max: bytes, ..Limits::default() }
}

#[test]
fn a_json_client_is_closed_with_4008() {
    // It has the first frame half, gets the rest of that, and learns why the others do not come.
    check_with(
        outbox(200),
        "a opens json x
         a stalls 10
         publish x one
         publish x two
         publish x three
         publish x four
         a reads
         publish x five
         a sends close 4008",
        "a: welcome 25000 @0
         a: event x @1 one
         a: close 4008
         a: gone",
    );
}

#[test]
fn the_original_page_loses_the_oldest() {
    check_with(
        outbox(19),
        "a opens raw x
         a stalls 3
         publish x one
         publish x two
         publish x three
         publish x four
         publish x five
         publish x sixsix
         a reads
         publish x seven",
        "a: text one
         a: text five
         a: text sixsix
         a: text seven",
    );
}

#[test]
fn a_slow_client_is_told_no_position_that_it_did_not_reach() {
    // The messages went and the heartbeat behind them stayed: it moved the client's resume point across the gap.
    check_with(
        outbox(300),
        "a opens json x
         wait 12s
         a stalls 10
         publish x one
         publish x two
         wait 1s
         a subscribes 1 y
         publish x three
         publish x four
         a reads
         a sends close 4008",
        "a: welcome 25000 @0
         a: event x @1 one
         a: close 4008
         a: gone",
    );
}

#[test]
fn a_message_larger_than_the_bound_reaches_whoever_reads() {
    // A socket never takes all of it at once, and what was left of it alone passed the bound.
    let body = "x".repeat(1_000);
    check_with(
        outbox(300),
        &format!(
            "a opens json x
             b opens raw x
             a stalls 100
             b stalls 100
             publish x {body}
             publish x small
             a reads
             b reads"
        ),
        &format!(
            "a: welcome 25000 @0
             a: event x @1 {body}
             a: event x @2 small
             b: text {body}
             b: text small"
        ),
    );
}

#[test]
fn a_slow_client_harms_nobody_else() {
    check_with(
        outbox(100),
        "a opens json x
         b opens raw x
         c opens json x
         d opens raw x
         a stalls 0
         b stalls 0
         publish x one
         publish x two
         publish x three
         a leaves
         b leaves",
        "a: welcome 25000 @0
         c: welcome 25000 @0
         c: event x @1 one
         d: text one
         c: event x @2 two
         d: text two
         c: event x @3 three
         d: text three
         a: gone
         b: gone",
    );
}

#[test]
fn nobody_is_slow_within_the_bound() {
    check(
        "a opens json x
         a stalls 0
         publish x one
         publish x two
         a reads",
        "a: welcome 25000 @0
         a: event x @1 one
         a: event x @2 two",
    );
}

#[test]
fn a_client_that_reads_is_not_closed_for_a_slow_shard() {
    // Whatever is said to a client alone has it fed from the log. When the log moved on between the turn's routing and
    // its visits, a client that had read everything was closed as a slow consumer; and the loss was told ahead of it.
    let mut world = World::with_log(256, Limits::default(), RecordRules::everything());
    let client = world.open(Protocol::Json, [&b""[..]]);
    world.append(b"x", b"one");
    world.route();
    world.flush();
    world.overrun_unvisited(5, 1);
    world.append(b"x", b"two");
    world.route();
    for _ in 0..10 {
        world.append(b"x", &[b'-'; 300]);
    }
    world.flush();
    world.route();
    world.flush();
    world.settle();
    let told: Vec<_> = world.clients[client].seen.iter().map(|seen| show(Protocol::Json, seen)).collect();
    let last = format!("event x @12 {}", "-".repeat(300));
    let lost =
        ["lost '' 5 shard_overrun @1 @1", "lost '' 1 shard_overrun @1 @2", "lost '' 9 shard_overrun @2 @11"];
    assert_eq!(told, [&["welcome 25000 @0", "event x @1 one"][..], &lost, &[&last]].concat());
    assert_eq!((world.hub.counts().closed_slow, world.hub.counts().overrun), (0, 5 + 1 + 9));
}

/// What was dropped lay in more segments of the log than are looked at in one visit, before a message that stayed. Nothing of it
/// was to be sent, so each visit began where the one before had, and the client got nothing any more.
#[test]
fn much_that_was_dropped_is_passed_over_in_the_end() {
    const DROPPED: usize = 700;
    let mut world = World::new(outbox(2_000), RecordRules::everything());
    let client = world.open(Protocol::Json, std::iter::empty::<&[u8]>());
    world.say(client, r#"{"id":1,"subscribe":{"topics":["keep"]}}"#);
    world.say(client, r#"{"id":2,"subscribe":{"topics":["x"],"policy":"drop_oldest"}}"#);
    (world.clients[client].reads, world.clients[client].socket.room) = (false, 10);
    world.publish(b"x", b"in part");
    world.publish(b"keep", b"first");
    for n in 0..DROPPED {
        world.publish(b"x", n.to_string().as_bytes());
    }
    world.publish(b"keep", b"last");
    (world.clients[client].reads, world.clients[client].socket.room) = (true, usize::MAX);
    world.settle();
    let seen = world.clients[client].seen.iter();
    let said: Vec<_> = seen.map(|seen| show(Protocol::Json, seen).trim_end().to_owned()).collect();
    for text in ["keep @2 first", "lost x", "keep @703 last"] {
        assert!(said.iter().any(|line| line.contains(text)), "no {text} in {said:?}");
    }
    let n_events = world.n_events(client);
    let lost = said.iter().filter(|line| line.starts_with("lost x slow_consumer"));
    let lost: u64 = lost.map(|line| line.split(' ').nth(3).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(lost + n_events, DROPPED as u64 + 3, "{said:?}");
}
