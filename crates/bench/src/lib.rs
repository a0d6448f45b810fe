//! A load generator for bridges from ØMQ to browsers: many WebSocket clients, a publisher, and what came of it.
//!
//! It measures Trestle's edge and forwarder and, by the same means, other servers. [`run`](run()) does what the flags of
//! [`Bench`] say. To read first: [`marker`], by which messages are found; [`tally`], which counts them; [`swarm`], the
//! clients; [`publish::pace`], when messages go out; [`report`], the contract of `--json`.
//!
//! How it counts. Each message has a number, and each client's numbers are followed one by one, so that lost, duplicated
//! and disordered messages are exact counts. Latency is from the time of publishing to the return of the `read` that
//! brought the message; in an open loop the time of publishing is the one that the schedule had. All clients are one
//! thread: what its core cannot do is marked as `client-limited`, so that it is never taken for the server's limit.

#![forbid(unsafe_code)]

pub mod body;
pub mod clock;
pub mod flags;
pub mod frames;
pub mod host;
pub mod interrupt;
pub mod marker;
pub mod output;
pub mod pattern;
pub mod publish;
pub mod report;
mod run;
pub mod scout;
pub mod server;
pub mod swarm;
pub mod tally;
pub mod target;
pub mod verify;
pub mod zmtp;

pub use flags::Bench;
pub use run::{measure, run, verdict};
