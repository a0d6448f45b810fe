//! Which subscriptions match, once for each message, and what of them goes upward.

use super::script::{Stage, check};
use crate::limits::Limits;

#[test]
fn the_empty_prefix_is_everything() {
    check(
        "a opens raw ''
         publish x one
         publish '' two
         publish n three",
        "a: text one
         a: text two
         a: text three",
    );
}

#[test]
fn a_message_that_several_subscriptions_match_arrives_once() {
    check(
        "a opens json '' x x/1
         a subscribes 1 exactly x/1
         publish x/1 once",
        "a: welcome 25000 @0
         a: subscribed 1 x/1 @0 all
         a: caught_up 1 @0 0
         a: event x/1 @1 once",
    );
}

#[test]
fn exactly_is_a_subscription_of_its_own() {
    check(
        "a opens json
         a subscribes 1 exactly x
         publish x yes
         publish x/1 no
         a unsubscribes 2 x
         publish x still
         a subscribes 3 x
         a unsubscribes 4 exactly x
         publish x/1 prefix",
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x @1 yes
         a: unsubscribed 2 x
         a: event x @3 still
         a: subscribed 3 x @3 all
         a: caught_up 3 @3 0
         a: unsubscribed 4 x
         a: event x/1 @4 prefix",
    );
}

#[test]
fn subscribing_again_changes_nothing() {
    check(
        "a opens json x
         a subscribes 1 x
         publish x once
         a unsubscribes 2 x
         publish x no",
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x @1 once
         a: unsubscribed 2 x",
    );
}

#[test]
fn interest_follows_the_first_and_the_last() {
    let mut stage = Stage::new(Limits::default());
    for (line, expected) in [
        ("a opens json x", "x"),
        ("b opens raw x y", "x y"),
        ("a subscribes 1 exactly y", "x y"),
        ("a unsubscribes 2 x", "x y"),
        ("b leaves", "y"),
        ("a subscribes 3 ''", " y"),
        ("a sends close 1000", ""),
    ] {
        stage.play(line);
        let wanted: Vec<_> = stage.world.wanted.iter().map(|topic| str::from_utf8(topic).unwrap()).collect();
        assert_eq!(wanted.join(" "), expected, "behind: {line}");
    }
    assert!(stage.world.wanted.is_empty());
}
