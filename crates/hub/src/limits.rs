//! Every bound of a session in one table, each with its unit, its default and what happens at it.

use std::time::Duration;

use trestle_messages::topic::TOPIC_BYTES_MAX;

/// Bounds of each session. The edge has flags for those that an operator may want otherwise (docs/limits.md).
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
    /// A topic that a client names, at most 255. Default 255: longer ones have no last value. Beyond it: error `invalid_topic`.
    pub topic_bytes_max: usize,
    /// Commands, pings and what is neither that a client may say in a second, a subscription for each of its topics; 0: without
    /// end. Default 100: a page that is
    /// busy says ten. Beyond it: error `rate_limited`, and closed with 4029 if it goes on; of ZWS closed at once.
    pub commands_per_second: u32,
    /// So many at once after a quiet while. Default 2,000: a client that comes back subscribes to all that it had.
    pub commands_burst: u32,
    /// Publications of a client in a second, and at once; 0, the default: without end. Beyond it as of commands; of ZWS they are
    /// dropped.
    pub publications_per_second: u32,
    /// A `trestle.v1.*` client that holds no subscription and says nothing, pongs aside, for this long is closed with 1001;
    /// zero: never. Default 10 minutes.
    pub idle_timeout: Duration,
    /// What waits for all clients together outside of the log, each counted for itself. Default 256 MiB. Beyond it those
    /// for whom most waits are closed with 4008.
    pub outboxes_bytes_max: usize,
    /// A `trestle.v1.*` client hears its position this often, and one that said nothing for as long is pinged. Default
    /// 25 s: below the 30 s after which some mobile networks forget a connection.
    pub ping_interval: Duration,
    /// A client that said nothing, not even a pong, for this long is gone. Default 60 s.
    pub half_open_timeout: Duration,
    /// After a close frame the client has this long to answer. Default 5 s.
    pub close_timeout: Duration,
    /// Whoever came without a token has this long to show one. Default 10 s. Then: closed with 4501.
    pub authenticate_timeout: Duration,
    /// A client of `trestle.v1.*` hears so long before its token ends that it does, or at half of the time where there is
    /// less. Default 30 s: enough to fetch another one by a slow network, and to try again.
    pub expiry_warning: Duration,
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
            topic_bytes_max: TOPIC_BYTES_MAX,
            commands_per_second: 100,
            commands_burst: 2_000,
            publications_per_second: 0,
            idle_timeout: Duration::from_secs(600),
            outboxes_bytes_max: 256 << 20,
            ping_interval: Duration::from_secs(25),
            half_open_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            authenticate_timeout: Duration::from_secs(10),
            expiry_warning: Duration::from_secs(30),
        }
    }
}
