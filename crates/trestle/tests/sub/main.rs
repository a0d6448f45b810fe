//! `trestle sub` as a program: against a scripted server, and against edges.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod cuts;
mod edge;
mod fake;
mod prints;
mod program;
mod reconnects;
mod refusals;
mod tokens;
mod trust;
