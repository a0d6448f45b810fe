//! What a client that comes back gets: what it missed, once, or the reason why not; and last values.

use std::time::Duration;

use serde_json::{Value, json};
use trestle_messages::Position;
use trestle_recorder::RecordRules;

use super::client::{Seen, masked};
use super::script::{Stage, check};
use super::world::{EPOCH, World};
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::ws::Opcode;

#[test]
fn what_was_missed_comes_between_the_reply_and_caught_up() {
    check(
        "publish x one
         publish y two
         publish x three
         publish x four
         a opens json
         a subscribes 1 since @1 x
         publish x five",
        "a: welcome 25000 @4
         a: subscribed 1 x @1 all recovered
         a: event x @3 three
         a: event x @4 four
         a: caught_up 1 @4 2
         a: event x @5 five",
    );
}

#[test]
fn live_messages_follow_a_replay_without_a_seam() {
    check(
        "publish x one
         publish x two
         a opens json
         a stalls 100
         a subscribes 1 since @0 x
         publish x three
         route x four
         a reads
         publish x five",
        "a: welcome 25000 @2
         a: subscribed 1 x @0 all recovered
         a: event x @1 one
         a: event x @2 two
         a: caught_up 1 @2 2
         a: event x @3 three
         a: event x @4 four
         a: event x @5 five",
    );
}

#[test]
fn what_several_missed_arrives_once() {
    check(
        "publish x1 one
         publish x1 two
         publish x2 three
         publish x1 four
         a opens json
         a stalls 0
         a subscribes 1 since @3 x
         a subscribes 2 since @0 x1
         a subscribes 3 since @1 ''
         publish x1 five
         a reads",
        "a: welcome 25000 @4
         a: subscribed 1 x @3 all recovered
         a: subscribed 2 x1 @0 all recovered
         a: event x1 @1 one
         a: subscribed 3 '' @1 some recovered
         a: event x1 @2 two
         a: event x2 @3 three
         a: event x1 @4 four
         a: caught_up 1 @4 1
         a: caught_up 2 @4 3
         a: caught_up 3 @4 3
         a: event x1 @5 five",
    );
}

#[test]
fn whoever_missed_more_gets_all_of_it_in_order() {
    // What the first had was not sent again for the second, which came behind it: then it had four before one.
    check(
        "publish x1 one
         publish x1 two
         publish x2 three
         publish x1 four
         a opens json
         a subscribes 1 since @3 x
         a subscribes 2 since @0 x1
         publish x1 five",
        "a: welcome 25000 @4
         a: subscribed 1 x @3 all recovered
         a: event x1 @4 four
         a: caught_up 1 @4 1
         a: subscribed 2 x1 @0 all recovered
         a: event x1 @1 one
         a: event x1 @2 two
         a: event x1 @4 four
         a: caught_up 2 @4 3
         a: event x1 @5 five",
    );
}

#[test]
fn since_is_a_floor() {
    // The log is read from before where the second starts, for the first.
    check(
        "publish x one
         publish y two
         publish y three
         publish x four
         a opens json
         a stalls 0
         a subscribes 1 since @0 x
         a subscribes 2 since @2 y
         a reads",
        "a: welcome 25000 @4
         a: subscribed 1 x @0 all recovered
         a: event x @1 one
         a: subscribed 2 y @2 all recovered
         a: event y @3 three
         a: event x @4 four
         a: caught_up 1 @4 2
         a: caught_up 2 @4 1",
    );
}

#[test]
fn subscribing_again_may_ask_anew() {
    check(
        "publish x one
         publish x two
         a opens json x
         publish x three
         a subscribes 1 since @1 x
         publish x four
         a subscribes 2 x",
        "a: welcome 25000 @2
         a: event x @3 three
         a: subscribed 1 x @1 all recovered
         a: event x @2 two
         a: event x @3 three
         a: caught_up 1 @3 2
         a: event x @4 four
         a: subscribed 2 x @4 all
         a: caught_up 2 @4 0",
    );
}

#[test]
fn a_gap_in_the_log_is_not_replayed_across() {
    check(
        "publish x one
         miss 3
         publish x five
         a opens json
         a subscribes 1 since @1 x
         a subscribes 2 since @4 y
         a subscribes 3 since @4 x",
        "a: welcome 25000 @5
         a: subscribed 1 x @5 history_truncated all unrecovered
         a: caught_up 1 @5 0
         a: subscribed 2 y @4 all recovered
         a: caught_up 2 @5 0
         a: subscribed 3 x @4 all recovered
         a: event x @5 five
         a: caught_up 3 @5 1",
    );
}

#[test]
fn a_gap_is_told_in_its_place() {
    // To whoever may have wanted something of it; `n` is not recorded, and the original page hears nothing.
    check(
        "a opens json x y
         b opens json n
         c opens raw x
         route x one
         miss 3
         publish x five
         a stalls 0
         publish y six
         miss 1
         publish x eight
         a reads
         wait 25s",
        "a: welcome 25000 @0
         b: welcome 25000 @0
         a: event x @1 one
         a: lost x,y 3 link_hole @1 @4
         c: text one
         a: event x @5 five
         c: text five
         c: text eight
         a: event y @6 six
         a: lost x,y 1 link_hole @6 @7
         a: event x @8 eight
         a: heartbeat @8
         b: heartbeat @8",
    );
}

#[test]
fn another_epoch_is_told_and_nothing_is_replayed_across() {
    check(
        "a opens json x
         publish x one
         epoch 8
         publish x anew
         b opens json
         b subscribes 1 since @1 x
         b subscribes 2 since @8:0 x",
        "a: welcome 25000 @0
         a: event x @1 one
         a: lost x epoch_changed @1 @8:0
         a: event x @8:1 anew
         b: welcome 25000 @8:1
         b: subscribed 1 x @8:1 epoch_changed all unrecovered
         b: caught_up 1 @8:1 0
         b: subscribed 2 x @8:0 all recovered
         b: event x @8:1 anew
         b: caught_up 2 @8:1 1",
    );
}

#[test]
fn a_snapshot_comes_first_and_moves_nothing() {
    check(
        "publish x1 old
         publish x2 two
         publish y three
         publish x1 new
         publish n unrecorded
         a opens json
         a subscribes 1 snapshot x
         publish x2 live
         a subscribes 2 snapshot x
         a subscribes 3 snapshot n",
        "a: welcome 25000 @4
         a: subscribed 1 x @4 all
         a: event x2 @2 snapshot two
         a: event x1 @4 snapshot new
         a: caught_up 1 @4 0
         a: event x2 @5 live
         a: subscribed 2 x @5 all
         a: event x1 @4 snapshot new
         a: event x2 @5 snapshot live
         a: caught_up 2 @5 0
         a: subscribed 3 n @5 none
         a: caught_up 3 @5 0",
    );
}

#[test]
fn what_changes_during_a_snapshot_comes_live_instead() {
    check(
        "publish x1 one
         publish x2 two
         publish x3 three
         publish x2
         a opens json
         a stalls 0
         a subscribes 1 snapshot x
         publish x1 four
         a reads",
        "a: welcome 25000 @4
         a: subscribed 1 x @4 all
         a: event x3 @3 snapshot three
         a: caught_up 1 @4 0
         a: event x1 @5 four",
    );
}

#[test]
fn with_since_a_snapshot_comes_only_if_recovery_failed() {
    check(
        r#"publish x one
           publish x two
           a opens json
           a subscribes 1 snapshot since @1 x
           a subscribes 2 snapshot since @9 x"#,
        "a: welcome 25000 @2
         a: subscribed 1 x @1 all recovered
         a: event x @2 two
         a: caught_up 1 @2 1
         a: subscribed 2 x @2 unknown_position all unrecovered
         a: event x @2 snapshot two
         a: caught_up 2 @2 0",
    );
}

#[test]
fn a_snapshot_holds_up_the_others_for_a_moment_and_loses_them_nothing() {
    check(
        "publish x one
         publish y two
         a opens json y
         a stalls 0
         publish y three
         a subscribes 1 snapshot x
         publish y four
         a reads",
        "a: welcome 25000 @2
         a: subscribed 1 x @3 all
         a: event x @1 snapshot one
         a: event y @3 three
         a: caught_up 1 @3 0
         a: event y @4 four",
    );
}

#[test]
fn who_comes_from_elsewhere_waits_for_what_the_recorder_says() {
    check(
        "asks yes
         publish x one
         a opens json
         b opens json
         c opens json
         a subscribes 1 since @3 x
         b subscribes 1 since @5 x
         c subscribes 1 since @8:1 x
         recorder @4
         publish x two
         publish x three
         publish x four",
        "a: welcome 25000 @1
         b: welcome 25000 @1
         c: welcome 25000 @1
         b: subscribed 1 x @1 unknown_position all unrecovered
         b: caught_up 1 @1 0
         c: subscribed 1 x @1 epoch_changed all unrecovered
         c: caught_up 1 @1 0
         b: event x @2 two
         c: event x @2 two
         a: subscribed 1 x @3 all recovered
         a: caught_up 1 @3 0
         b: event x @3 three
         c: event x @3 three
         a: event x @4 four
         b: event x @4 four
         c: event x @4 four",
    );
}

#[test]
fn who_comes_from_the_next_epoch_waits_for_it() {
    check(
        "asks yes
         publish x one
         a opens json
         a subscribes 1 since @8:1 x
         recorder @8:2
         epoch 8
         publish x anew
         publish x second",
        "a: welcome 25000 @1
         a: subscribed 1 x @8:1 all recovered
         a: caught_up 1 @8:1 0
         a: event x @8:2 second",
    );
}

#[test]
fn a_recorder_that_says_nothing_is_not_waited_for_long() {
    let told = "a: welcome 25000 @1
                a: subscribed 1 x @1 unknown_position all unrecovered
                a: caught_up 1 @1 0";
    let script = "asks yes
                  publish x one
                  a opens json
                  a subscribes 1 since @2 x";
    check(&format!("{script}\nwait 1.5s"), "a: welcome 25000 @1");
    check(&format!("{script}\nwait 2.5s"), told);
    check(&format!("{script}\nrecorder silent"), told);
    // It has been there, and what it said does not come.
    check(&format!("{script}\nrecorder @2\nwait 3.5s"), "a: welcome 25000 @1");
    check(&format!("{script}\nrecorder @2\nwait 4.5s"), told);
}

#[test]
fn whoever_waits_may_change_its_mind() {
    check(
        "asks yes
         publish x one
         a opens json
         a subscribes 1 since @2 x
         a unsubscribes 2 x
         publish x two
         a subscribes 3 since @3 x
         b opens json
         b subscribes 1 since @3 x
         b leaves
         publish x three",
        "a: welcome 25000 @1
         a: subscribed 1 x @1 unknown_position all unrecovered
         a: caught_up 1 @1 0
         a: unsubscribed 2 x
         b: welcome 25000 @2
         b: gone
         a: subscribed 3 x @3 all recovered
         a: caught_up 3 @3 0",
    );
}

#[test]
fn a_replay_is_not_held_against_the_client() {
    // Ten frames of 90 bytes wait, and the bound is 200: it holds for what comes after the client has caught up.
    let mut stage = Stage::new(Limits { outbox_bytes_max: 200, ..Limits::default() });
    for number in 0..10 {
        stage.play(&format!("publish x n{number}"));
    }
    for line in ["a opens json", "a stalls 10", "a subscribes 1 since @0 x", "publish x live", "a reads"] {
        stage.play(line);
    }
    assert_eq!(stage.record.len(), 1 + 1 + 10 + 1 + 1, "{:?}", stage.record);
    stage.play("a stalls 10");
    for number in 0..5 {
        stage.play(&format!("publish x late{number}"));
    }
    stage.play("a reads");
    assert!(stage.record.iter().any(|line| line == "a: close 4008"), "{:?}", stage.record);
}

/// A client whose socket is full amid a replay of more than is gathered at once.
fn amid_a_replay() -> Stage {
    let mut stage = Stage::new(Limits::default());
    for number in 1..=500 {
        stage.play(&format!("publish x n{number}"));
    }
    for line in ["a opens json y", "a stalls 250", "a subscribes 1 since @0 x", "publish y live"] {
        stage.play(line);
    }
    stage
}

#[test]
fn a_client_that_is_sent_elsewhere_amid_its_replay_is_told_no_position_behind_it() {
    // `caught_up` and what was live went out behind a replay that was cut off, and moved the client across the rest.
    let mut stage = amid_a_replay();
    for line in ["restart 0s", "a reads", "a sends close 1012"] {
        stage.play(line);
    }
    let expected = [
        "a: welcome 25000 @500",
        "a: subscribed 1 x @0 all recovered",
        "a: event x @1 n1",
        "a: event x @2 n2",
        "a: goodbye restarting 250",
        "a: close 1012",
        "a: gone",
    ];
    assert_eq!(stage.record, expected);
}

#[test]
fn whoever_unsubscribes_amid_a_replay_gets_no_more_of_it() {
    let mut stage = amid_a_replay();
    for line in ["a unsubscribes 2 x", "a reads", "publish y late"] {
        stage.play(line);
    }
    let expected = [
        "a: welcome 25000 @500",
        "a: subscribed 1 x @0 all recovered",
        "a: event x @1 n1",
        "a: event x @2 n2",
        "a: caught_up 1 @500 2",
        "a: event y @501 live",
        "a: unsubscribed 2 x",
        "a: event y @502 late",
    ];
    assert_eq!(stage.record, expected);
}

#[test]
fn a_replay_under_max_hz_comes_whole_and_what_is_live_waits() {
    let since = Position { epoch: EPOCH, offset: 0 };
    check(
        &format!(
            r#"publish x one
               publish x two
               a opens json
               a says {{"id":1,"subscribe":{{"topics":["x"],"since":"{since}","max_hz":1}}}}
               publish x three
               publish x four
               publish x five
               wait 2s"#
        ),
        "a: welcome 25000 @2
         a: subscribed 1 x @0 all recovered
         a: event x @1 one
         a: event x @2 two
         a: caught_up 1 @2 2
         a: event x @3 three
         a: event x @5 five",
    );
}

#[test]
fn a_client_of_a_quiet_topic_does_not_fall_out_of_a_busy_history() {
    // Some forty messages are kept, twenty come each second, and a heartbeat each 25 s.
    let mut world = World::with_log(6_000, Limits::default(), RecordRules::everything());
    let quiet = world.open(Protocol::Json, [&b"quiet"[..]]);
    let mut told = Vec::new();
    for second in 0..20 {
        for _ in 0..20 {
            world.publish(b"busy", &[b'-'; 50]);
        }
        world.wait(Duration::from_secs(1));
        let heard = world.clients[quiet].seen.iter().filter_map(|seen| match seen {
            Seen::Text(text) => {
                serde_json::from_str::<Value>(text).ok()?["heartbeat"]["position"].as_str().map(str::to_owned)
            }
            _ => None,
        });
        told = heard.collect();
        if second > 5 {
            let since = told.last().expect("it was told");
            let again = world.open(Protocol::Json, []);
            let subscribe = json!({"id": 1, "subscribe": {"topics": ["quiet"], "since": since}}).to_string();
            world.send(again, masked(Opcode::Text, subscribe.as_bytes()));
            world.settle();
            let seen = format!("{:?}", world.clients[again].seen);
            assert!(seen.contains("recovered") && !seen.contains("history_truncated"), "{seen}");
            world.leave(again);
        }
    }
    assert!((8..=20).contains(&told.len()), "told for every half of it: {}", told.len());
}
