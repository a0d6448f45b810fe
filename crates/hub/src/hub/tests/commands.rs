//! What a client says and what it is told.

use super::script::{Stage, check, check_with};
use crate::limits::Limits;

#[test]
fn a_client_subscribes_and_hears_what_matches_from_then_on() {
    check(
        "a opens json
         publish x/1 before
         a subscribes 1 x/
         publish x/1 after
         publish y no
         a unsubscribes 2 x/
         publish x/1 late",
        "a: welcome 25000 @0
         a: subscribed 1 x/ @1 all
         a: caught_up 1 @1 0
         a: event x/1 @2 after
         a: unsubscribed 2 x/",
    );
}

#[test]
fn topics_of_the_url_stand_at_once() {
    check(
        "a opens json x
         b opens raw x y
         publish x hello
         publish y you",
        "a: welcome 25000 @0
         a: event x @1 hello
         b: text hello
         b: text you",
    );
}

#[test]
fn what_is_not_recorded_has_no_position() {
    check(
        "a opens json
         a subscribes 1 n
         a subscribes 2 ''
         a subscribes 3 x n
         a subscribes 4 exactly ''
         publish n hello",
        "a: welcome 25000 @0
         a: subscribed 1 n @0 none
         a: caught_up 1 @0 0
         a: subscribed 2 '' @0 some
         a: caught_up 2 @0 0
         a: subscribed 3 x,n @0 some
         a: caught_up 3 @0 0
         a: subscribed 4 '' @0 none
         a: caught_up 4 @0 0
         a: event n hello",
    );
}

#[test]
fn what_does_not_exist_is_named() {
    check(
        r#"a opens json
           a says {"id":1,"shout":{}}
           a says {"id":2,"subscribe":{"topics":["x"],"color":"red"}}
           a says {"id":3,"subscribe":{"topics":["x"]},"loud":true}
           a says {"subscribe":{"topics":["x"]}}
           a says {"id":4,"publish":{"topic":"x"}}
           a says {"id":5,"authenticate":{"token":"t"}}
           a says {"id":6,"subscribe":{"topics":["x"],"policy":"explode"}}
           a says {"id":7,"subscribe":{"topics":["x"],"max_hz":0}}
           publish x nobody"#,
        "a: welcome 25000 @0
         a: error 1 unknown_command
         a: error 2 unknown_field
         a: error 3 unknown_field
         a: error bad_request
         a: error 4 bad_request
         a: error 5 unavailable
         a: error 6 bad_request
         a: error 7 bad_request",
    );
}

#[test]
fn a_reason_names_the_field() {
    let mut stage = Stage::new(Limits::default());
    stage.play("a opens json");
    stage.play(r#"a says {"id":2,"subscribe":{"topics":["x"],"color":"red"}}"#);
    let seen = format!("{:?}", stage.world.clients[0].seen);
    assert!(seen.contains("`subscribe.color`"), "{seen}");
    assert_eq!(stage.world.hub.counts().refused.iter().sum::<u64>(), 1);
}

#[test]
fn three_in_a_row_that_are_no_json_close_with_4500() {
    check(
        "a opens json
         a says GET /
         a sends binary {}
         a says {
         a says {}
         a sends close 4500",
        "a: welcome 25000 @0
         a: error bad_request
         a: error bad_request
         a: error bad_request
         a: close 4500
         a: gone",
    );
}

#[test]
fn a_good_one_between_them_starts_the_count_anew() {
    check(
        r#"a opens json
           a says no
           a says no
           a says {"id":1,"shout":{}}
           a says no
           a says no
           a subscribes 2 x
           a says no
           a says no
           publish x hello"#,
        "a: welcome 25000 @0
         a: error bad_request
         a: error bad_request
         a: error 1 unknown_command
         a: error bad_request
         a: error bad_request
         a: subscribed 2 x @0 all
         a: caught_up 2 @0 0
         a: error bad_request
         a: error bad_request
         a: event x @1 hello",
    );
}

#[test]
fn what_the_original_page_says_concerns_nobody() {
    check(
        "a opens raw x
         a says no
         a says no
         a says no
         a sends binary no
         a sends ping hi
         publish x hello",
        "a: pong hi
         a: text hello",
    );
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    check(
        "a opens json
         a sends ping abc
         a sends ping
         a sends pong unasked",
        "a: welcome 25000 @0
         a: pong abc
         a: pong",
    );
}

#[test]
fn since_tells_what_became_of_it() {
    let at = |epoch, offset| trestle_messages::Position { epoch, offset };
    // A later release's layout: the first byte is the format.
    let later = "CQAAAAAAAAAHAAAAAAAAAAE";
    for (topic, since, expected) in [
        ("x", at(7, 2).to_string(), "subscribed 1 x @2 all recovered"),
        ("x", at(7, 3).to_string(), "subscribed 1 x @2 unknown_position all unrecovered"),
        ("x", at(8, 2).to_string(), "subscribed 1 x @2 epoch_changed all unrecovered"),
        ("x", later.to_owned(), "subscribed 1 x @2 unknown_position all unrecovered"),
        ("n", at(7, 2).to_string(), "subscribed 1 n @2 not_recorded none unrecovered"),
        ("n", at(7, 1).to_string(), "subscribed 1 n @2 not_recorded none unrecovered"),
        ("", at(7, 2).to_string(), "subscribed 1 '' @2 some recovered"),
    ] {
        check(
            &format!(
                r#"publish x one
                   publish x two
                   a opens json
                   a says {{"id":1,"subscribe":{{"topics":["{topic}"],"since":"{since}"}}}}"#
            ),
            &format!(
                "a: welcome 25000 @2
                 a: {expected}
                 a: caught_up 1 @2 0"
            ),
        );
    }
}

#[test]
fn too_many_subscriptions_are_refused_all_or_nothing() {
    check_with(
        Limits { subscriptions_max: 3, ..Limits::default() },
        "a opens json x
         a subscribes 1 y z j
         publish y no
         a subscribes 2 y z
         a subscribes 3 j
         a subscribes 4 exactly x
         a unsubscribes 5 x
         a subscribes 6 exactly x
         publish x hello",
        "a: welcome 25000 @0
         a: error 1 too_many_subscriptions
         a: subscribed 2 y,z @1 all
         a: caught_up 2 @1 0
         a: error 3 too_many_subscriptions
         a: error 4 too_many_subscriptions
         a: unsubscribed 5 x
         a: subscribed 6 x @1 all
         a: caught_up 6 @1 0
         a: event x @2 hello",
    );
}

#[test]
fn a_topic_named_twice_is_one_subscription() {
    // Two in one command counted as two, and the bound refused what would have fitted.
    check_with(
        Limits { subscriptions_max: 2, ..Limits::default() },
        "a opens json x
         a subscribes 1 y y x
         a subscribes 2 y
         publish y hello
         a unsubscribes 3 y y
         publish y no",
        "a: welcome 25000 @0
         a: subscribed 1 y,y,x @0 all
         a: caught_up 1 @0 0
         a: subscribed 2 y @0 all
         a: caught_up 2 @0 0
         a: event y @1 hello
         a: unsubscribed 3 y,y",
    );
}

#[test]
fn replies_that_pile_up_stop_the_reading() {
    let limits = Limits { replies_bytes_max: 1_000, ..Limits::default() };
    let mut stage = Stage::new(limits);
    stage.play("a opens json");
    stage.play("a stalls 0");
    let session = stage.world.clients[0].session.unwrap();
    let mut n_pings = 0;
    while stage.world.hub.wants_read(session) {
        stage.play("a sends ping 0123456789012345678901234567890123456789");
        n_pings += 1;
    }
    assert_eq!(n_pings, 1_000 / 42 + 1, "42 bytes each, and one beyond the bound");
    stage.play("publish x nobody");
    assert!(!stage.world.hub.wants_read(session));
    stage.play("a reads");
    assert!(stage.world.hub.wants_read(session));
    assert_eq!(stage.record.len(), 1 + n_pings);
}
