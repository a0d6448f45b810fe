//! How connections end: by the client, by us, and by nobody.

use super::script::{Stage, check, check_with};
use crate::limits::Limits;
use crate::ws::CloseCode;

#[test]
fn a_client_that_closes_is_answered_and_gone() {
    check(
        "a opens json x
         a sends close 1000
         publish x no
         b opens raw x
         b sends close
         publish x no",
        "a: welcome 25000 @0
         a: close 1000
         a: gone
         b: close
         b: gone",
    );
}

#[test]
fn a_restart_says_goodbye_at_once_and_closes_one_after_the_other() {
    check(
        "a opens json x
         b opens raw x
         c opens json x
         d opens json x
         restart 10s
         publish x one
         a sends close 1012
         wait 3s
         publish x two
         b sends close 1012
         wait 2.5s
         c sends close 1012
         publish x three
         d leaves",
        "a: welcome 25000 @0
         c: welcome 25000 @0
         d: welcome 25000 @0
         a: goodbye restarting 250
         a: close 1012
         c: goodbye restarting 5250
         d: goodbye restarting 7750
         b: text one
         c: event x @1 one
         d: event x @1 one
         a: gone
         b: close 1012
         c: event x @2 two
         d: event x @2 two
         b: gone
         c: close 1012
         c: gone
         d: event x @3 three
         d: gone",
    );
}

#[test]
fn goodbye_may_be_said_again_for_an_earlier_close() {
    check(
        "a opens json x
         b opens json x
         restart 100s
         restart 10s
         wait 5.25s
         a sends close 1012
         publish x no
         b sends close 1012
         wait 100s
         c opens raw",
        "a: welcome 25000 @0
         b: welcome 25000 @0
         a: goodbye restarting 250
         a: close 1012
         b: goodbye restarting 50250
         b: goodbye restarting 250
         b: close 1012
         a: gone
         b: gone",
    );
}

#[test]
fn behind_our_close_frame_nothing_is_answered() {
    check(
        "a opens json
         restart 0s
         a sends ping hi
         a subscribes 1 x
         a says no
         publish x no
         a sends close 1012",
        "a: welcome 25000 @0
         a: goodbye restarting 250
         a: close 1012
         a: gone",
    );
}

#[test]
fn whoever_is_being_closed_gets_no_second_goodbye() {
    // It came behind the Close frame, where RFC 6455 §5.5.1 forbids any data.
    check(
        "a opens json
         a says no
         a says no
         a says no
         restart 0s
         restart 0s",
        "a: welcome 25000 @0
         a: error bad_request
         a: error bad_request
         a: error bad_request
         a: close 4500",
    );
}

#[test]
fn a_close_frame_that_is_not_answered_ends_by_time() {
    check(
        "a opens json
         restart 0s
         wait 4s
         b opens raw
         wait 1.5s",
        "a: welcome 25000 @0
         a: goodbye restarting 250
         a: close 1012
         a: gone",
    );
}

#[test]
fn a_client_that_closes_and_does_not_read_ends_by_time() {
    // It had no timer: with something in its outbox such a connection stayed for ever.
    check(
        "a opens raw x
         a stalls 3
         publish x hello
         a sends close 1000
         wait 4s
         b opens raw
         wait 1.5s
         a reads",
        "a: gone",
    );
}

#[test]
fn broken_rules_are_told_by_their_code() {
    let too_big = "x".repeat(101);
    for (says, code) in [
        ("sends close 1005".to_owned(), 1002),
        ("sends close 999".to_owned(), 1002),
        (format!("says {too_big}"), 1009),
    ] {
        let script = format!(
            "a opens json
             a {says}
             a sends ping hi
             wait 6s"
        );
        let limits = Limits { message_bytes_max: 100, ..Limits::default() };
        check_with(limits, &script, &format!("a: welcome 25000 @0\na: close {code}\na: gone"));
    }
}

#[test]
fn broken_rules_behind_our_close_frame_end_at_once() {
    // They were counted as the reason, and the connection then waited for a Close frame that could not come.
    let mut stage = Stage::new(Limits::default());
    for line in ["a opens json", "restart 0s", "a sends close 999"] {
        stage.play(line);
    }
    assert_eq!(
        stage.record,
        ["a: welcome 25000 @0", "a: goodbye restarting 250", "a: close 1012", "a: gone"]
    );
    assert_eq!(stage.world.hub.counts().closed_protocol, 0);
}

#[test]
fn messages_routed_before_the_end_come_before_the_close_frame() {
    // What waited for its visit was written behind the Close frame.
    check(
        "a opens raw x
         b opens json x
         route x hello
         restart 0s
         c opens raw x
         route x again
         c sends close 1000",
        "b: welcome 25000 @0
         a: text hello
         a: close 1012
         b: event x @1 hello
         b: goodbye restarting 250
         b: close 1012
         c: text again
         c: close 1000
         c: gone",
    );
}

#[test]
fn a_silent_end_takes_no_more_messages() {
    // Between its end and the end of its task messages were still routed to it; the second one broke the shard.
    let mut stage = Stage::new(Limits::default());
    for line in ["a opens raw x", "b opens raw x", "a is silent", "wait 25s"] {
        stage.play(line);
    }
    stage.world.reaps = false;
    for line in ["wait 36s", "route x one", "route x two", "publish x three", "publish x four"] {
        stage.play(line);
    }
    assert_eq!(stage.world.hub.counts().closed_silent, 1);
    assert_eq!(stage.world.n_events(0), 0);
    assert_eq!(stage.world.n_events(1), 4);
}

#[test]
fn a_broken_socket_takes_no_more_messages() {
    let mut stage = Stage::new(Limits::default());
    for line in ["a opens json x", "b opens raw x", "a stalls 5", "publish x one"] {
        stage.play(line);
    }
    let session = stage.world.clients[0].session.unwrap();
    stage.world.reaps = false;
    stage.world.append(b"x", b"two");
    stage.world.route();
    let broken = |_: &[std::io::IoSlice<'_>]| Err(std::io::ErrorKind::BrokenPipe.into());
    assert_eq!(stage.world.hub.visit(session, broken), crate::Visit::Ended);
    assert!(stage.world.hub.is_ended(session));
    for line in ["publish x three", "publish x four"] {
        stage.play(line);
    }
    assert_eq!(stage.world.n_events(1), 4);
    assert_eq!(stage.world.hub.close(session), None, "nothing was said");
}

#[test]
fn the_shell_learns_what_the_close_frame_said() {
    let mut stage = Stage::new(Limits::default());
    for line in ["a opens json", "b opens json", "c opens json", "c sends close 4999", "restart 0s"] {
        stage.play(line);
    }
    let sessions: Vec<_> = stage.world.clients.iter().map(|client| client.session).collect();
    assert_eq!(sessions[2], None, "it was answered and is gone");
    assert_eq!(stage.world.hub.close(sessions[0].unwrap()), Some(CloseCode::ServiceRestart));
    stage.world.hub.open(
        crate::Protocol::RustWebsocket,
        None,
        std::sync::Arc::new(crate::Grant::everything()),
        [],
    );
    assert_eq!(stage.world.hub.close(sessions[0].unwrap()), None, "it broke without one");
}
