//! How fast a client may say things, how long it may say nothing, and how much may wait for all of them.

use std::time::Duration;

use super::script::{Stage, check_with};
use super::world::World;
use crate::ErrorCode;
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::ws::Opcode;

fn rates(commands_per_second: u32, commands_burst: u32, publications_per_second: u32) -> Limits {
    Limits { commands_per_second, commands_burst, publications_per_second, ..Limits::default() }
}

#[test]
fn commands_come_as_fast_as_they_may() {
    check_with(
        rates(2, 3, 0),
        r#"a opens json
           a unsubscribes 1 x
           a unsubscribes 2 x
           a says {"id":3,"shout":{}}
           a unsubscribes 4 x
           a says {"id":5,"shout":{}}
           a says none at all
           wait 1s
           a unsubscribes 6 x
           a unsubscribes 7 x
           a unsubscribes 8 x
           b opens json
           b unsubscribes 1 x"#,
        "a: welcome 25000 @0
         a: unsubscribed 1 x
         a: unsubscribed 2 x
         a: error 3 unknown_command
         a: error 4 rate_limited
         a: error 5 rate_limited
         a: error rate_limited
         a: unsubscribed 6 x
         a: unsubscribed 7 x
         a: error 8 rate_limited
         b: welcome 25000 @0
         b: unsubscribed 1 x",
    );
}

/// Topics may travel to the publishers: a client that subscribes to hundreds again and again is as fast as one that says so
/// one by one.
#[test]
fn a_subscription_counts_for_each_of_its_topics() {
    check_with(
        rates(1, 4, 0),
        "a opens json
         a subscribes 1 a b c
         a subscribes 2 d e
         a unsubscribes 3 a b c
         wait 60s
         b opens json
         b subscribes 1 a b c d e
         b subscribes 2 f",
        "a: welcome 25000 @0
         a: subscribed 1 a,b,c @0 none
         a: caught_up 1 @0 0
         a: error 2 rate_limited
         a: unsubscribed 3 a,b,c
         a: heartbeat @0
         a: ping
         a: heartbeat @0
         a: heartbeat @0
         b: welcome 25000 @0
         b: subscribed 1 a,b,c,d,e @0 none
         b: caught_up 1 @0 0
         b: error 2 rate_limited",
    );
}

#[test]
fn publications_have_a_bucket_of_their_own() {
    check_with(
        rates(1, 1, 2),
        r#"a opens json
           a says {"id":1,"publish":{"topic":"x","text":"one"}}
           a says {"id":2,"publish":{"topic":"x","text":"two"}}
           a says {"id":3,"publish":{"topic":"x","text":"three"}}
           a unsubscribes 4 x
           a unsubscribes 5 x
           published @1
           published @2"#,
        "a: welcome 25000 @0
         a: error 3 rate_limited
         a: unsubscribed 4 x
         a: error 5 rate_limited
         a: published 1 @1
         a: published 2 @2",
    );
}

/// Each ping is answered until there are too many; then none of the rest is, and who never stops is closed.
#[test]
fn a_flood_of_pings_ends_with_4029() {
    let mut stage = Stage::new(rates(1, 10, 0));
    stage.play("a opens json");
    (0..1_020).for_each(|_| stage.play("a sends ping x"));
    let pongs = stage.record.iter().filter(|line| line.starts_with("a: pong")).count();
    assert_eq!((pongs, stage.record.last().map(String::as_str)), (10, Some("a: close 4029")));
    let counts = stage.world.hub.counts();
    assert_eq!(counts.refused[ErrorCode::RateLimited as usize], 1_000);
    let refusals = stage.world.hub.take_faults();
    assert_eq!(refusals.len(), 1_000, "each is told to whoever logs them");
}

#[test]
fn a_socket_of_zws_that_says_too_much_is_closed_for_it_cannot_be_told() {
    let mut stage = Stage::new(rates(1, 3, 0));
    let world = &mut stage.world;
    let client = world.open(Protocol::Zws, std::iter::empty::<&[u8]>());
    let mut send = |payload: &[u8]| {
        world.send(client, super::client::masked(Opcode::Binary, payload));
        world.settle();
        world.hub.n_subscriptions()
    };
    assert_eq!(send(b"\0"), 0, "its routing id");
    assert_eq!([send(b"\0\x01a"), send(b"\0\x01b"), send(b"\0\x01c")], [1, 2, 3]);
    assert_eq!(send(b"\0\x01d"), 0);
    let code = world.hub.sessions.iter().next().and_then(|(_, session)| session.close_code);
    assert_eq!(code.map(|code| code.value()), Some(4029));
}

#[test]
fn without_rates_nothing_is_counted() {
    let mut stage = Stage::new(rates(0, 0, 0));
    stage.play("a opens json");
    (0..5_000).for_each(|_| stage.play("a sends ping"));
    assert_eq!(stage.record.iter().filter(|line| line.starts_with("a: pong")).count(), 5_000);
}

#[test]
fn topics_are_as_long_as_they_may_be() {
    check_with(
        Limits { topic_bytes_max: 3, ..Limits::default() },
        r#"a opens json
           a subscribes 1 abc
           a subscribes 2 abcd
           a says {"id":3,"publish":{"topic":"abcd","text":"one"}}"#,
        "a: welcome 25000 @0
         a: subscribed 1 abc @0 none
         a: caught_up 1 @0 0
         a: error 2 invalid_topic
         a: error 3 invalid_topic",
    );
}

/// A pong is no word of its own; a subscription, a command or a ping is.
#[test]
fn who_wants_nothing_and_says_nothing_is_closed_after_a_while() {
    let ends = |idle_timeout: u64| {
        let (idle_timeout, ping_interval) = (Duration::from_secs(idle_timeout), Duration::from_secs(20));
        let mut stage = Stage::new(Limits { idle_timeout, ping_interval, ..Limits::default() });
        let script = ["a opens json", "b opens json x", "c opens json", "d opens raw", "wait 50s"];
        script.into_iter().for_each(|line| stage.play(line));
        ["c sends ping hi", "d sends pong", "wait 40s"].into_iter().for_each(|line| stage.play(line));
        stage.record.retain(|line| line.contains("close") || line.contains("gone"));
        stage.record
    };
    assert_eq!(ends(60), ["a: close 1001", "a: gone"]);
    assert_eq!(ends(0), [""; 0], "unless there is no limit");
}

#[test]
fn what_waits_for_all_is_bounded_and_those_who_have_most_go() {
    let limits = Limits { outboxes_bytes_max: 40_000, ..Limits::default() };
    let mut world = World::new(limits, trestle_recorder::RecordRules::nothing());
    let clients: Vec<_> = (0..10).map(|_| world.open(Protocol::Json, [&b"u"[..]])).collect();
    world.settle();
    for (n, client) in clients.iter().enumerate() {
        world.clients[*client].reads = false;
        world.clients[*client].socket.room = n * 1_000;
    }
    let body = [b'x'; 1_000];
    (0..10).for_each(|_| _ = world.publish(b"u", &body));
    let before = world.hub.outbox_bytes();
    assert!(before > 50_000, "{before}");
    world.hub.bound_outboxes();
    world.flush();
    let closed = world.hub.sessions.iter().filter(|(_, session)| session.close_code.is_some());
    let closed: Vec<_> = closed.map(|(id, _)| id).collect();
    // The first took least.
    assert_eq!(closed, (0..closed.len()).collect::<Vec<_>>());
    assert_eq!(world.hub.counts().closed_full, closed.len() as u64);
    let left = world.hub.outbox_bytes();
    assert!((20_000..=40_000).contains(&left), "{left}");
    world.hub.bound_outboxes();
    assert_eq!(world.hub.counts().closed_full, closed.len() as u64, "and nobody else");
}
