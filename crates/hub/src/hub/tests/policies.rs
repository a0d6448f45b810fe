//! What a slow client loses, and how it hears of it; what `max_hz` holds.

use super::script::{check, check_with};
use crate::limits::Limits;

fn outbox(bytes: usize) -> Limits {
    Limits { outbox_bytes_max: bytes, ..Limits::default() }
}

#[test]
fn drop_oldest_is_told_what_it_lost_and_where() {
    // Each event is 87 to 90 bytes; 300 hold the three behind the first.
    check_with(
        outbox(300),
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"policy":"drop_oldest"}}
           a stalls 10
           publish x one
           publish x two
           publish x three
           publish x four
           publish x five
           publish x six
           a reads
           publish x seven"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x @1 one
         a: lost x slow_consumer 2 @1 @3
         a: event x @4 four
         a: event x @5 five
         a: event x @6 six
         a: event x @7 seven",
    );
}

#[test]
fn drop_oldest_counts_what_has_no_position_too() {
    check_with(
        outbox(120),
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["n"],"policy":"drop_oldest"}}
           a stalls 10
           publish n one
           publish n two
           publish n three
           publish n four
           publish n five
           a reads"#,
        "a: welcome 25000 @0
         a: subscribed 1 n @0 none
         a: caught_up 1 @0 0
         a: event n one
         a: lost n slow_consumer 2 @0 @0
         a: event n four
         a: event n five",
    );
}

#[test]
fn conflate_keeps_the_latest_of_each_topic() {
    // Within the bound, too: whoever is behind is not served what is old already. Positions only rise.
    check(
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"policy":"conflate"}}
           a stalls 10
           publish x/1 one
           publish x/2 two
           publish x/1 three
           publish x/3 four
           publish x/1 five
           publish x/2 six
           a reads
           publish x/1 seven"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x/1 @1 one
         a: event x/3 @4 four
         a: event x/1 @5 five
         a: event x/2 @6 six
         a: event x/1 @7 seven",
    );
}

#[test]
fn conflate_works_for_what_is_not_recorded() {
    check(
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["n"],"policy":"conflate"}}
           a stalls 10
           publish n/1 one
           publish n/2 two
           publish n/1 three
           publish n/1 four
           a reads"#,
        "a: welcome 25000 @0
         a: subscribed 1 n @0 none
         a: caught_up 1 @0 0
         a: event n/1 one
         a: event n/2 two
         a: event n/1 four",
    );
}

#[test]
fn a_client_that_conflates_few_topics_is_never_too_slow() {
    let mut script = r#"a opens json
         a says {"id":1,"subscribe":{"topics":["x"],"policy":"conflate"}}
         a stalls 10"#
        .to_owned();
    for n in 1..=1_000 {
        script += &format!("\npublish x/{} {n}", n % 2);
    }
    script += "\na reads";
    check_with(
        outbox(400),
        &script,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x/1 @1 1
         a: event x/1 @999 999
         a: event x/0 @1000 1000",
    );
}

#[test]
fn conflating_more_topics_than_the_bound_holds_closes() {
    let mut script = r#"a opens json
         a says {"id":1,"subscribe":{"topics":["x"],"policy":"conflate"}}
         a stalls 10"#
        .to_owned();
    for n in 1..=10 {
        script += &format!("\npublish x/{n} {n}");
    }
    script += "\na reads";
    check_with(
        outbox(400),
        &script,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x/1 @1 1
         a: close 4008",
    );
}

#[test]
fn the_longest_subscription_decides_and_an_exact_one_first() {
    check_with(
        outbox(300),
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"policy":"drop_oldest"}}
           a says {"id":2,"subscribe":{"topics":["x/keep"],"policy":"disconnect"}}
           a says {"id":3,"subscribe":{"topics":["x/keep"],"exact":true,"policy":"conflate"}}
           a stalls 10
           publish x 1
           publish x/1 2
           publish x/keep/1 3
           publish x/keep 4
           publish x/2 5
           publish x/keep 6
           publish x/3 7
           a reads"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: subscribed 2 x/keep @0 all
         a: caught_up 2 @0 0
         a: subscribed 3 x/keep @0 all
         a: caught_up 3 @0 0
         a: event x @1 1
         a: lost x slow_consumer 1 @1 @2
         a: event x/keep/1 @3 3
         a: lost x slow_consumer 1 @3 @5
         a: event x/keep @6 6
         a: event x/3 @7 7",
    );
}

#[test]
fn subscribing_again_changes_the_policy() {
    check_with(
        outbox(400),
        r#"a opens json x
           a stalls 10
           publish x one
           a says {"id":1,"subscribe":{"topics":["x"],"policy":"conflate"}}
           publish x two
           publish x three
           publish x four
           publish x five
           a reads"#,
        "a: welcome 25000 @0
         a: event x @1 one
         a: subscribed 1 x @1 all
         a: caught_up 1 @1 0
         a: event x @5 five",
    );
}

#[test]
fn max_hz_sends_the_first_at_once_and_then_the_latest() {
    check(
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"max_hz":1}}
           publish x/1 one
           publish x/1 two
           publish x/2 three
           publish x/1 four
           wait 0.75s
           publish x/1 five
           wait 0.25s
           wait 2s
           publish x/1 six"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x/1 @1 one
         a: event x/2 @3 three
         a: event x/1 @5 five
         a: event x/1 @6 six",
    );
}

#[test]
fn max_hz_holds_nobody_elses_messages() {
    check(
        r#"a opens json y
           a says {"id":1,"subscribe":{"topics":["x"],"max_hz":0.1}}
           b opens json x
           publish x one
           publish x two
           publish y three
           a leaves"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         b: welcome 25000 @0
         a: event x @1 one
         b: event x @1 one
         b: event x @2 two
         a: event y @3 three
         a: gone",
    );
}

#[test]
fn nothing_that_is_limited_is_overtaken_by_a_position_that_covers_it() {
    // The exact subscription is not limited: none of its messages is replaced, and they come with what they would overtake.
    check(
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"max_hz":1}}
           a says {"id":2,"subscribe":{"topics":["x/all"],"exact":true}}
           publish x/1 one
           publish x/1 two
           publish x/all three
           publish x/all four
           publish x/1 five
           wait 1s"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: subscribed 2 x/all @0 all
         a: caught_up 2 @0 0
         a: event x/1 @1 one
         a: event x/all @3 three
         a: event x/all @4 four
         a: event x/1 @5 five",
    );
}

#[test]
fn a_heartbeat_waits_for_what_max_hz_holds() {
    check(
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"max_hz":0.02}}
           publish x one
           publish x two
           publish y nobody
           wait 13s
           wait 38s"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x @1 one
         a: heartbeat @1
         a: ping
         a: heartbeat @1
         a: event x @2 two",
    );
}

#[test]
fn max_hz_keeps_the_latest_while_the_client_does_not_read() {
    check(
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"max_hz":1}}
           a stalls 10
           publish x one
           wait 1s
           publish x two
           wait 5s
           publish x three
           a reads
           wait 0.25s"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x @1 one
         a: event x @3 three",
    );
}

/// It was forgotten with the limit, or, where another subscription was still limited, held for ever.
#[test]
fn what_was_held_comes_when_the_limit_goes() {
    for other in ["x", "y"] {
        check(
            &r#"a opens json
               a says {"id":1,"subscribe":{"topics":["x"],"max_hz":1}}
               a says {"id":2,"subscribe":{"topics":["OTHER"],"max_hz":1}}
               publish x one
               publish x two
               a says {"id":3,"subscribe":{"topics":["x"]}}
               publish x three
               wait 2s"#
                .replace("OTHER", other),
            &"a: welcome 25000 @0
             a: subscribed 1 x @0 all
             a: caught_up 1 @0 0
             a: subscribed 2 OTHER @0 all
             a: caught_up 2 @0 0
             a: event x @1 one
             a: event x @2 two
             a: subscribed 3 x @2 all
             a: caught_up 3 @2 0
             a: event x @3 three"
                .replace("OTHER", other),
        );
    }
}

/// It waited as long as the limit before had said. Nor does the reply's position cover it: the client resumes from there.
#[test]
fn what_is_held_is_due_by_the_new_limit() {
    check(
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"max_hz":0.1}}
           publish x one
           publish x two
           a says {"id":2,"subscribe":{"topics":["x"],"max_hz":4}}
           wait 0.25s
           a leaves"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x @1 one
         a: subscribed 2 x @1 all
         a: caught_up 2 @1 0
         a: event x @2 two
         a: gone",
    );
}

#[test]
fn whoever_unsubscribes_hears_nothing_of_what_was_held() {
    check(
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"max_hz":1}}
           publish x one
           publish x two
           a unsubscribes 2 x
           wait 2s
           publish x three"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x @1 one
         a: unsubscribed 2 x",
    );
}

#[test]
fn whoever_is_closed_gets_what_was_held_first() {
    check(
        r#"a opens json
           a says {"id":1,"subscribe":{"topics":["x"],"max_hz":1}}
           publish x one
           publish x two
           a sends close 1000"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x @1 one
         a: event x @2 two
         a: close 1000
         a: gone",
    );
}

/// What waited in the log was taken for limited once the subscription was, and never came; and what `max_hz` had held while
/// the client was behind came once more out of the log when the limit was taken back.
#[test]
fn a_limit_that_changes_for_who_is_behind_is_for_what_comes_later() {
    check(
        r#"a opens json
           a subscribes 1 x
           a stalls 1
           publish x one
           publish x two
           a says {"id":2,"subscribe":{"topics":["x"],"max_hz":1}}
           publish x three
           publish x four
           a subscribes 3 x
           publish x five
           a reads
           wait 2s"#,
        "a: welcome 25000 @0
         a: subscribed 1 x @0 all
         a: caught_up 1 @0 0
         a: event x @1 one
         a: event x @2 two
         a: subscribed 2 x @2 all
         a: caught_up 2 @2 0
         a: event x @4 four
         a: subscribed 3 x @4 all
         a: caught_up 3 @4 0
         a: event x @5 five",
    );
}
