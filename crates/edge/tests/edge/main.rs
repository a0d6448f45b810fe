//! The running edge over loopback, on free ports.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod admission;
mod broken_replay;
mod churn;
mod client;
mod compression;
mod crowd;
mod decoders;
mod drain;
mod events;
mod exhaustion;
mod files;
mod fixture;
mod formats;
mod handshake;
mod http;
mod interest;
mod json;
mod limits;
mod link;
mod open;
mod origin;
mod pace;
mod process;
mod program;
mod proto;
mod publish;
mod rates;
mod room;
mod shards;
mod shutdown;
mod silence;
mod slow;
mod source;
mod tokens;
mod zws;
