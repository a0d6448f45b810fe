//! One client: its protocol's state, its subscriptions, what waits for it.

use std::time::Instant;

use crate::outbox::Outbox;
use crate::protocol::Protocol;
use crate::trie::EntryId;
use crate::turn::Staged;
use crate::ws::{CloseCode, Reader};

/// Something a client wants, keyed by its topic and whether only that very topic is meant.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) topic: Box<[u8]>,
    pub(crate) exact: bool,
    pub(crate) entry: EntryId,
}

/// How far the connection has come towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages flow.
    Open,
    /// Our Close frame is queued or sent; the client's is awaited, for a while.
    Closing,
    /// Nothing more is to be said; once the outbox is empty the connection goes.
    Ending,
    /// The connection goes at once.
    Ended,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) protocol: Protocol,
    pub(crate) phase: Phase,
    /// What our Close frame said, once there is one.
    pub(crate) close_code: Option<CloseCode>,
    /// Commands in a row that were no JSON at all.
    pub(crate) unparsed: u8,
    /// Whether it is on the list of those to be visited.
    pub(crate) is_dirty: bool,
    /// Parts this session from an earlier one of the same number, for timers that were set for that one.
    pub(crate) generation: u32,
    pub(crate) staged: Staged,
    /// The message that was staged last, counted from 1: one that several subscriptions match arrives once.
    pub(crate) last_staged: u64,
    /// When the client was last heard, within a tick.
    pub(crate) heard: Instant,
    /// In the order of their keys: a command may name thousands, and a search of each through all of them would keep
    /// the shard's other clients waiting.
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) outbox: Outbox,
    pub(crate) reader: Reader,
}

impl Session {
    pub(crate) fn new(protocol: Protocol, message_bytes_max: usize, generation: u32, now: Instant) -> Self {
        Self {
            protocol,
            phase: Phase::Open,
            close_code: None,
            unparsed: 0,
            is_dirty: false,
            generation,
            staged: Staged::default(),
            last_staged: 0,
            heard: now,
            subscriptions: Vec::new(),
            outbox: Outbox::default(),
            reader: Reader::new(message_bytes_max, false),
        }
    }

    /// Where it holds this subscription, or else where it belongs.
    pub(crate) fn find(&self, topic: &[u8], exact: bool) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|held| (&*held.topic, held.exact).cmp(&(topic, exact)))
    }
}
