//! Heartbeats, pings, and the end of those who are silent.

use super::client::{Client, Seen};
use super::script::{Stage, check, check_with};
use crate::limits::Limits;
use crate::ws::server_frame;

#[test]
fn a_silent_upstream_is_told_at_once_and_its_end_too() {
    check(
        "a opens json x
         b opens raw x
         publish x one
         upstream silent
         upstream silent
         c opens json x
         a subscribes 1 since @0 x
         upstream speaks
         publish x two",
        "a: welcome 25000 @0
         a: event x @1 one
         b: text one
         a: heartbeat @1 true
         c: welcome 25000 @1 true
         a: subscribed 1 x @0 all recovered
         a: event x @1 one
         a: caught_up 1 @1 1
         a: heartbeat @1
         c: heartbeat @1
         a: event x @2 two
         b: text two
         c: event x @2 two",
    );
}

#[test]
fn a_heartbeat_says_how_far_everything_was_sent() {
    // The first comes after half an interval and a spread; each next one 25 s later.
    check(
        "a opens json x
         wait 12s
         publish x one
         publish y nobody
         wait 1s
         publish y nobody
         wait 24.5s
         publish x two
         wait 0.25s
         wait 22s",
        "a: welcome 25000 @0
         a: event x @1 one
         a: heartbeat @2
         a: event x @4 two
         a: ping
         a: heartbeat @4",
    );
}

#[test]
fn a_heartbeat_says_no_more_than_what_a_slow_client_has() {
    // It has the first message, half of the second and nothing of the third; the heartbeat comes before that.
    check_with(
        Limits::default(),
        "a opens json x
         publish x one
         a stalls 60
         publish x two
         publish x three
         wait 13s
         a reads
         publish x four",
        "a: welcome 25000 @0
         a: event x @1 one
         a: event x @2 two
         a: heartbeat @2
         a: event x @3 three
         a: event x @4 four",
    );
}

#[test]
fn whoever_talks_is_not_pinged() {
    check(
        "a opens raw x
         wait 13s
         a sends pong
         wait 24s
         a sends pong
         wait 24s",
        "",
    );
}

#[test]
fn a_silent_peer_is_pinged_and_then_ended() {
    // Heard at 0 s; beats at 12.75, 37.75 and, because 60 s is nearer than the next interval, 60 s.
    check(
        "a opens raw
         a is silent
         wait 59.75s
         b opens raw
         wait 0.5s",
        "a: ping
         a: gone",
    );
}

#[test]
fn a_pong_keeps_it_alive() {
    let mut stage = Stage::new(Limits::default());
    stage.play("a opens raw");
    stage.play("wait 3600s");
    assert!(stage.world.clients[0].session.is_some());
    let n_pings = stage.record.iter().filter(|line| *line == "a: ping").count();
    assert!((3600 / 60..=3600 / 25).contains(&n_pings), "{n_pings}");
}

#[test]
fn clients_that_came_together_do_not_beat_together() {
    let mut stage = Stage::new(Limits::default());
    for _ in 0..640 {
        stage.world.open(crate::Protocol::Json, []);
    }
    stage.world.settle();
    let is_text = |seen: &&Seen| matches!(seen, Seen::Text(_));
    let n_texts = |client: &Client| client.seen.iter().filter(is_text).count();
    let n_seen = |stage: &Stage| stage.world.clients.iter().map(n_texts).sum::<usize>();
    let (mut before, mut most) = (n_seen(&stage), 0);
    for _ in 0..25 {
        stage.world.wait(std::time::Duration::from_secs(1));
        let now = n_seen(&stage);
        most = most.max(now - before);
        before = now;
    }
    assert_eq!(before, 2 * 640, "a welcome and a heartbeat each");
    assert!(most <= 640 / 10, "{most} in one second");
}

#[test]
fn a_number_used_again_does_not_inherit_timers() {
    let mut stage = Stage::new(Limits::default());
    for line in ["a opens json", "restart 0s", "a leaves", "wait 4s", "b opens raw x"] {
        stage.play(line);
    }
    let numbers: Vec<_> = stage.world.clients.iter().map(|client| client.session).collect();
    assert_eq!(numbers, [None, Some(0)], "the first client's number");
    for line in ["wait 2s", "publish x hello", "wait 10s"] {
        stage.play(line);
    }
    assert_eq!(stage.record.last().unwrap(), "b: text hello", "no end, no early ping");
}

#[test]
fn heartbeats_of_a_tick_are_one_frame() {
    let mut stage = Stage::new(Limits::default());
    stage.world.open(crate::Protocol::Json, []);
    for _ in 0..63 {
        stage.world.open(crate::Protocol::Json, []);
    }
    // The 65th has the first one's spread.
    stage.world.open(crate::Protocol::Json, []);
    stage.world.settle();
    let sessions = [0, 64].map(|client| stage.world.clients[client].session.unwrap());
    let mut at = stage.world.now;
    let mut pointers = Vec::new();
    while pointers.is_empty() {
        at += crate::wheel::TICK;
        stage.world.hub.tick(at);
        let dirty = stage.world.hub.take_dirty();
        for session in &dirty {
            stage.world.hub.visit(*session, |slices| {
                let heartbeat = br#"{"heartbeat":"#;
                assert_eq!(slices.len(), 1);
                assert!(slices[0][2..].starts_with(heartbeat));
                assert_eq!(slices[0][..2], server_frame(crate::ws::Opcode::Text, &slices[0][2..])[..2]);
                if sessions.contains(session) {
                    pointers.push(slices[0].as_ptr());
                }
                Ok(slices[0].len())
            });
        }
        stage.world.hub.end_turn(dirty);
    }
    assert_eq!(pointers.len(), 2);
    assert_eq!(pointers[0], pointers[1]);
}
