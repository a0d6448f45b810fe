//! Every bound of a session in one table, each with its unit, its default and what happens at it.

use std::time::Duration;

/// Bounds of each session. The edge has a flag for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that wait for a client that does not read, in the log and outside, behind the frame that it is given. Default
    /// 4 MiB: some seconds of a busy feed. Beyond it the policy of its subscriptions decides, to within an eighth: what newer
    /// messages replace goes (`conflate`), then the oldest (`drop_oldest`, and `rust-websocket`, which cannot choose); what
    /// is left beyond it closes the connection with 4008.
    pub outbox_bytes_max: usize,
    /// While more than this waits in replies, no more commands are read from that client. Default 64 KiB.
    pub replies_bytes_max: usize,
    /// While so many publications of a client have no answer, no more commands are read from it. Default 256: more than
    /// are on the way where the forwarder answers within milliseconds.
    pub publications_max: u32,
    /// The same in bytes. Default 256 KiB: four publications of the greatest size.
    pub publication_bytes_max: u32,
    /// A WebSocket message from a client. Default 64 KiB. Beyond it: closed with 1009.
    pub message_bytes_max: usize,
    /// Subscriptions of one client. Default 1,000. Beyond it: error `too_many_subscriptions`.
    pub subscriptions_max: usize,
    /// A `trestle.v1.*` client hears its position this often, and one that said nothing for as long is pinged. Default
    /// 25 s: below the 30 s after which some mobile networks forget a connection.
    pub ping_interval: Duration,
    /// A client that said nothing, not even a pong, for this long is gone. Default 60 s.
    pub half_open_timeout: Duration,
    /// After a close frame the client has this long to answer. Default 5 s.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbox_bytes_max: 4 << 20,
            replies_bytes_max: 64 << 10,
            publications_max: 256,
            publication_bytes_max: 256 << 10,
            message_bytes_max: 64 << 10,
            subscriptions_max: 1_000,
            ping_interval: Duration::from_secs(25),
            half_open_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
        }
    }
}
