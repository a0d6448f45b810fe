//! Clients that read too slowly.

use super::script::{check, check_with};
use crate::limits::Limits;

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
