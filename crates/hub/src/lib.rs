//! The edge's pure core: who wants what, what each session says and hears, in bytes.
//!
//! No socket, no runtime, no clock: [`Hub`] takes messages from the log, bytes from clients and `now`, and gives back
//! bytes to write. Read [`Hub`] first, then [`Trie`] (who matches) and [`encode`] (what a message looks like).
//! The edge owns one hub for each of its shards.

#![forbid(unsafe_code)]

mod backlog;
mod catch_up;
pub mod decode;
pub mod encode;
mod error_code;
mod grant;
mod hub;
mod limits;
mod pace;
mod protocol;
pub mod query;
mod session;
mod trie;
mod turn;
pub mod wheel;
pub mod ws;

pub use error_code::ErrorCode;
pub use grant::{Denied, Expiry, Grant, Prefixes, Unverified, Verifier};
pub use hub::{Counts, Fault, Hub, InterestChange, SessionId, Ticket, Unpublished, Visit};
pub use limits::Limits;
pub use protocol::{Protocol, Role};
pub use trie::{EntryId, Seat, Subscriber, Trie};
