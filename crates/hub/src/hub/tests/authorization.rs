//! What clients may do by their tokens, another token in band, and the end of one.

use std::time::Duration;

use super::script::{Stage, check, check_with};
use crate::limits::Limits;
use crate::protocol::Protocol;

#[test]
fn a_client_does_what_its_token_allows() {
    check(
        r#"tokens asked
           a opens json:ann;x,y/;z
           a subscribes 1 x y/1
           a subscribes 2 y
           a subscribes 3 ''
           a subscribes 4 snapshot z
           a subscribes 5 since @0 z
           a subscribes 6 exactly z
           a says {"id":7,"publish":{"topic":"z1","text":"hi"}}
           published @1
           a says {"id":8,"publish":{"topic":"x","text":"hi"}}
           publish x1 one
           publish y two
           publish y/1 three
           publish z four"#,
        "a: welcome 25000 @0
         a: subscribed 1 x,y/1 @0 all
         a: caught_up 1 @0 0
         a: error 2 forbidden
         a: error 3 forbidden
         a: error 4 forbidden
         a: error 5 forbidden
         a: error 6 forbidden
         a: published 7 @1
         a: error 8 forbidden
         a: event x1 @1 one
         a: event y/1 @3 three",
    );
}

#[test]
fn topics_of_the_url_are_asked_about_too() {
    check(
        "tokens asked
         a opens json:ann;x;- x y
         b opens raw:bob;x;- x
         c opens json x
         publish x one
         publish y two",
        "a: welcome 25000 @0
         a: close 4503
         c: welcome 25000 @0
         c: close 4501
         b: text one",
    );
}

#[test]
fn a_first_token_may_come_in_band_and_in_time() {
    check(
        r#"tokens asked
           a opens json
           b opens json
           a subscribes 1 x
           a says {"id":2,"publish":{"topic":"x","text":"hi"}}
           a authenticates 3 ann;x;-
           a subscribes 4 x
           publish x one
           wait 9.5s
           wait 1s
           publish x two"#,
        "a: welcome 25000 @0
         b: welcome 25000 @0
         a: error 1 unauthorized
         a: error 2 unauthorized
         a: authenticated 3
         a: subscribed 4 x @0 all
         a: caught_up 4 @0 0
         a: event x @1 one
         b: close 4501
         a: event x @2 two",
    );
}

#[test]
fn where_no_tokens_are_asked_for_none_is_taken() {
    check(
        "a opens json
         a authenticates 1 ann;x;-",
        "a: welcome 25000 @0
         a: error 1 unavailable",
    );
}

#[test]
fn what_does_not_count_changes_nothing_for_who_has_a_token() {
    check(
        r#"tokens asked
           a opens json:ann;x;- x
           b opens json
           c opens json
           b authenticates 1 nonsense
           c authenticates 1 old
           a authenticates 1 bob;*;*
           a authenticates 2 nonsense
           a authenticates 3 old
           publish x one
           a authenticates 4 ann;x;-
           a authenticates 5 nonsense
           a authenticates 6 nonsense
           publish x two
           a authenticates 7 nonsense"#,
        "a: welcome 25000 @0
         b: welcome 25000 @0
         c: welcome 25000 @0
         b: error 1 unauthorized
         b: close 4501
         c: error 1 token_expired
         c: close 4401
         a: error 1 forbidden
         a: error 2 unauthorized
         a: error 3 token_expired
         a: event x @1 one
         a: authenticated 4
         a: error 5 unauthorized
         a: error 6 unauthorized
         a: event x @2 two
         a: error 7 unauthorized
         a: close 4501",
    );
}

#[test]
fn a_narrower_token_ends_subscriptions_and_the_rest_goes_on() {
    check(
        "tokens asked
         a opens json:ann;*;-
         a subscribes 1 x ''
         a subscribes 2 exactly y
         publish x/1 one
         publish y two
         a authenticates 3 ann;x,z;-
         publish x/2 three
         publish y four
         publish z five
         a subscribes 4 y
         a authenticates 5 ann;*;-
         a subscribes 6 y
         publish y six",
        "a: welcome 25000 @0
         a: subscribed 1 x, @0 some
         a: caught_up 1 @0 0
         a: subscribed 2 y @0 all
         a: caught_up 2 @0 0
         a: event x/1 @1 one
         a: event y @2 two
         a: authenticated 3 [{\"exact\":false,\"topics\":[\"\"]},{\"exact\":true,\"topics\":[\"y\"]}]
         a: event x/2 @3 three
         a: error 4 forbidden
         a: authenticated 5
         a: subscribed 6 y @5 all
         a: caught_up 6 @5 0
         a: event y @6 six",
    );
}

/// Recorded messages wait in the log, others in the session, and what `max_hz` holds with them; an `unsubscribe` leaves what
/// waits. None of it goes out once the token does not cover it.
#[test]
fn nothing_that_waited_for_what_ended_is_sent() {
    check(
        r#"tokens asked
           a opens json:ann;*;- x
           a subscribes 1 y
           a subscribes 2 unrecorded
           a subscribes 3 z
           a says {"id":4,"subscribe":{"topics":["x1"],"max_hz":0.1}}
           publish x1 one
           a stalls 0
           publish x1 two
           publish y three
           publish unrecorded/1 four
           publish z five
           a unsubscribes 5 z
           publish x2 six
           a authenticates 6 ann;x2,unrecorded/2;-
           a subscribes 7 x2
           publish unrecorded/2 seven
           publish x2 eight
           a reads
           publish x2 nine
           wait 20s"#,
        "a: welcome 25000 @0
         a: subscribed 1 y @0 all
         a: caught_up 1 @0 0
         a: subscribed 2 unrecorded @0 none
         a: caught_up 2 @0 0
         a: subscribed 3 z @0 all
         a: caught_up 3 @0 0
         a: subscribed 4 x1 @0 all
         a: caught_up 4 @0 0
         a: event x1 @1 one
         a: unsubscribed 5 z
         a: authenticated 6 [{\"exact\":false,\"topics\":[\"unrecorded\",\"x\",\"x1\",\"y\"]}]
         a: subscribed 7 x2 @5 all
         a: caught_up 7 @5 0
         a: event x2 @6 eight
         a: event x2 @7 nine
         a: heartbeat @7",
    );
}

#[test]
fn a_command_that_waits_is_refused_when_the_token_no_longer_allows_it() {
    check(
        "tokens asked
         asks yes
         a opens json:ann;*;-
         a subscribes 1 since @9 x
         a subscribes 2 since @9 y
         a authenticates 3 ann;y;-
         recorder @0",
        "a: welcome 25000 @0
         a: error 1 forbidden
         a: authenticated 3
         a: subscribed 2 y @0 unknown_position all unrecovered
         a: caught_up 2 @0 0",
    );
}

#[test]
fn a_token_ends_with_a_warning_and_a_close() {
    check_with(
        Limits { ping_interval: Duration::from_secs(1_000), ..Limits::default() },
        "tokens asked
         a opens json:ann;x;-;100 x
         b opens json:bob;x;-;100 x
         c opens raw:cleo;x;-;100 x
         d opens json:dan;x;-;8 x
         wait 69s
         b authenticates 1 bob;x;-;300
         wait 31.5s
         publish x one
         wait 170s",
        "a: welcome 1790000100 1000000 @0
         b: welcome 1790000100 1000000 @0
         d: welcome 1790000008 1000000 @0
         d: goodbye token_expired 4000
         d: close 4401
         d: gone
         b: authenticated 1 1790000300
         a: goodbye token_expired 30000
         a: close 4401
         c: close 4401
         b: event x @1 one
         a: gone
         b: goodbye token_expired 30250
         c: gone",
    );
}

/// Whoever refreshes as often as it may has one timer all the same.
#[test]
fn many_refreshes_cost_one_timer() {
    let limits = Limits { commands_per_second: 0, ..Limits::default() };
    let mut stage = Stage::new(limits);
    stage.play("tokens asked");
    stage.play("a opens json:ann;x;-;100 x");
    let before = stage.world.hub.n_timers();
    for n in 0..500 {
        stage.play(&format!("a authenticates {n} ann;x;-;{}", 100 + n));
    }
    assert_eq!(stage.world.hub.n_timers(), before);
}

/// Ten thousand tokens that end together are warned of apart.
#[test]
fn warnings_are_spread() {
    let silent = Duration::from_secs(10_000);
    let limits = Limits {
        ping_interval: silent,
        half_open_timeout: silent,
        idle_timeout: silent,
        ..Limits::default()
    };
    let mut stage = Stage::new(limits);
    stage.play("tokens asked");
    let clients: Vec<_> = (0..640).map(|_| stage.opens(Protocol::Json, "ann;x;-;1000")).collect();
    let warned = |stage: &Stage| {
        let goodbyes =
            |client: &&usize| format!("{:?}", stage.world.clients[**client].seen).contains("goodbye");
        clients.iter().filter(goodbyes).count()
    };
    stage.world.wait(Duration::from_secs(950));
    stage.world.settle();
    assert_eq!(warned(&stage), 0);
    let mut most = 0;
    for _ in 0..25 {
        let before = warned(&stage);
        stage.world.wait(Duration::from_secs(1));
        stage.world.settle();
        most = most.max(warned(&stage) - before);
    }
    assert_eq!(warned(&stage), 640, "half a minute before at the latest");
    assert!(most <= 80, "{most} in a second");
}
