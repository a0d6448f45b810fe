//! Clients that read too slowly.

use super::script::{check, check_with};
use crate::limits::Limits;

fn outbox(bytes: usize) -> Limits {
    Limits { outbox_bytes_max: bytes, ..Limits::default() }
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
