//! One client: its protocol's state, its subscriptions, what waits for it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Grant;
use crate::backlog::{Backlog, Ended};
use crate::encode::Policy;
use crate::hub::{Buckets, Gathered};
use crate::pace::Pace;
use crate::protocol::{Protocol, Role};
use crate::trie::EntryId;
use crate::ws::{CloseCode, Deflate, Reader};

/// Something a client wants, keyed by its topic and whether only that very topic is meant.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) topic: Box<[u8]>,
    pub(crate) exact: bool,
    pub(crate) policy: Policy,
    /// In the trie.
    pub(crate) entry: EntryId,
    /// `max_hz`, as the least time between two messages of a topic; zero without.
    pub(crate) interval: Duration,
    /// The messages of the log from which on it was limited, or no more, while the session was behind; rising.
    pub(crate) flips: Box<[u64]>,
    /// The first message of the log that it is for.
    pub(crate) from: u64,
    /// It was made before this message was routed: what came earlier it gets out of the log alone.
    pub(crate) born: u64,
    /// From `from` up to here its client has what it matches. Beyond that what the log is read for is still to come.
    pub(crate) served: u64,
    /// Of this part of the log it gets the last values.
    pub(crate) snapshot: Range<u64>,
    /// Which of the session's replays it belongs to; 0 without.
    pub(crate) replay: u32,
}

impl Subscription {
    pub(crate) fn wants(&self, topic: &[u8]) -> bool {
        if self.exact { *self.topic == *topic } else { topic.starts_with(&self.topic) }
    }

    fn key(&self) -> (&[u8], bool) {
        (&self.topic, self.exact)
    }

    /// The log is read again from before message `next`, up to which it was read.
    pub(crate) fn note_served(&mut self, next: u64) {
        self.served = self.served.max(next);
        self.snapshot.start = self.snapshot.start.max(next).min(self.snapshot.end);
    }

    /// Limited from message `routed` on by `interval`, or not. A session that reads the log at `next` still needs to know how
    /// it was before: what was limited when it was routed was held then, and is not in the log for it.
    pub(crate) fn limit(&mut self, interval: Duration, routed: u64, next: Option<u64>) {
        let before = std::mem::replace(&mut self.interval, interval);
        let Some(next) = next.filter(|next| *next < routed) else {
            self.flips = Box::default();
            return;
        };
        if before.is_zero() != interval.is_zero() {
            let flips = self.flips.iter().copied().filter(|flip| *flip > next);
            self.flips = flips.chain([routed]).collect();
        }
    }

    /// Whether `max_hz` decided over message `seq` when it was routed.
    fn was_limited(&self, seq: u64) -> bool {
        let is_limited = !self.interval.is_zero();
        let flips = self.flips.iter().filter(|flip| **flip > seq).count();
        seq >= self.born && is_limited ^ (flips % 2 == 1)
    }

    /// The first message from `next` on that it does not have.
    pub(crate) fn next(&self, next: u64) -> u64 {
        self.from.max(self.served).max(next)
    }
}

/// What a message of the log is to a session that comes by it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Due<'a> {
    /// A message, over which this subscription decides.
    Event(&'a Subscription),
    /// The last value of its topic, if it is that.
    LastValue(&'a Subscription),
}

/// What message `seq` of the log is to a session that comes by it, if anything. It goes out if a subscription does not have
/// it: another one that asks for what it missed gets all of it, in order, so that its client may have something twice on a
/// connection, but no subscription has. What a limited one matched when it was routed was held then.
pub(crate) fn due<'a>(
    held: &'a [Subscription],
    ended: &'a [Ended],
    topic: &[u8],
    seq: u64,
) -> Option<Due<'a>> {
    let had = ended.iter().filter(|ended| ended.until > seq);
    let had = had.flat_map(|ended| matching(&ended.subscriptions, topic));
    let both = || matching(held, topic).chain(had.clone());
    let is_paced = both().any(|held| held.was_limited(seq));
    let wants = |held: &&Subscription| held.next(seq) == seq && !(is_paced && seq >= held.born);
    let decides = both().filter(wants).max_by_key(|held| (held.topic.len(), held.exact));
    let snapshot = || both().find(|held| held.snapshot.contains(&seq));
    decides.map(Due::Event).or_else(|| snapshot().map(Due::LastValue))
}

/// How far the connection has come towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages flow.
    Open,
    /// Our Close frame is queued or sent; the client's is awaited, for a while.
    Closing,
    /// Nothing more is to be said; once nothing waits the connection goes.
    Ending,
    /// The connection goes at once.
    Ended,
}

/// How far a client of ZWS has introduced itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// It has said nothing.
    Awaited,
    /// Of `ZWS2.0/PLAIN`: its HELLO was welcome.
    Welcomed,
    /// What comes now are its wishes, or its messages.
    Over,
}

/// How the token of a session stands.
#[derive(Debug, Default)]
pub(crate) struct TokenState {
    /// It has yet to show one.
    pub(crate) is_awaited: bool,
    /// Tokens in a row that did not count.
    pub(crate) unverified: u8,
    /// When its client is to hear that it ends; `None` once it did, or if it never will.
    pub(crate) warn_at: Option<Instant>,
    /// The earliest timer that is set for it. One that was set for an earlier token finds nothing to do.
    pub(crate) timer: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) protocol: Protocol,
    pub(crate) phase: Phase,
    /// What our Close frame said, once there is one.
    pub(crate) close_code: Option<CloseCode>,
    /// Whether messages may be compressed, and how.
    pub(crate) deflate: Option<Deflate>,
    /// Commands in a row that did not parse at all.
    pub(crate) unparsed: u8,
    /// What it may do.
    pub(crate) grant: Arc<Grant>,
    /// How its token stands, where tokens are asked for.
    pub(crate) token: Option<Box<TokenState>>,
    /// Of ZWS.
    pub(crate) greeting: Greeting,
    /// Of ZWS: a PUB or XPUB.
    pub(crate) is_publisher: bool,
    /// The frames of the message that it has begun.
    pub(crate) gathered: Option<Box<Gathered>>,
    /// Parts this session from an earlier one of the same number, for timers that were set for that one.
    pub(crate) generation: u32,
    /// The message that concerned it last, counted from 1: one that several subscriptions match counts once.
    pub(crate) last_seen: u64,
    /// When the client was last heard, within a tick.
    pub(crate) heard: Instant,
    /// When it last said something by itself, which a pong is not.
    pub(crate) said: Instant,
    /// In the order of their keys: a command may name thousands, and a search of each through all of them would keep
    /// the shard's other clients waiting.
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) backlog: Option<Box<Backlog>>,
    /// Where a subscription has `max_hz`.
    pub(crate) pace: Option<Box<Pace>>,
    /// Publications without an answer, and their bytes.
    pub(crate) unanswered: u32,
    pub(crate) unanswered_bytes: u32,
    /// Once it has said something.
    pub(crate) buckets: Option<Box<Buckets>>,
    pub(crate) reader: Reader,
}

impl Session {
    pub(crate) fn new(
        protocol: Protocol,
        deflate: Option<Deflate>,
        grant: Arc<Grant>,
        message_bytes_max: usize,
        generation: u32,
        now: Instant,
    ) -> Self {
        Self {
            protocol,
            phase: Phase::Open,
            close_code: None,
            deflate,
            unparsed: 0,
            grant,
            token: None,
            greeting: Greeting::Awaited,
            is_publisher: false,
            gathered: None,
            generation,
            last_seen: 0,
            heard: now,
            said: now,
            subscriptions: Vec::new(),
            backlog: None,
            pace: None,
            unanswered: 0,
            unanswered_bytes: 0,
            buckets: None,
            reader: Reader::new(message_bytes_max, deflate.is_some()),
        }
    }

    pub(crate) fn role(&self) -> Role {
        if self.is_publisher { Role::Publisher } else { Role::Subscriber }
    }

    /// Whether it has yet to show a token.
    pub(crate) fn awaits_token(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_awaited)
    }

    /// Where it holds this subscription, or else where it belongs.
    pub(crate) fn find(&self, topic: &[u8], exact: bool) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|held| held.key().cmp(&(topic, exact)))
    }

    /// What a subscription asks for when the client is slow. Whoever cannot be told loses the oldest.
    pub(crate) fn policy(&self, held: &Subscription) -> Policy {
        if self.protocol.is_told() { held.policy } else { Policy::DropOldest }
    }

    /// Whether a subscription has this policy, one that ended included while messages for it wait.
    pub(crate) fn has_policy(&self, policy: Policy) -> bool {
        let ended = self.backlog.iter().flat_map(|backlog| &backlog.ended);
        let ended = ended.flat_map(|ended| &ended.subscriptions);
        self.subscriptions.iter().chain(ended).any(|held| self.policy(held) == policy)
    }
}

/// The subscription that decides over a message: the longest that matches, an exact one before a prefix of the same length.
pub(crate) fn deciding<'a>(held: &'a [Subscription], topic: &[u8], seq: u64) -> Option<&'a Subscription> {
    matching(held, topic).find(|held| held.from <= seq)
}

/// The subscriptions that match, the longest first, of a list in the order of its keys. Each step is a search, and there
/// are about as many steps as prefixes of the topic that are held.
pub(crate) fn matching<'a>(
    held: &'a [Subscription],
    topic: &[u8],
) -> impl Iterator<Item = &'a Subscription> + Clone {
    let mut rest = held;
    let mut key = topic;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[..rest.partition_point(|held| *held.topic <= *key)];
            let (last, before) = rest.split_last()?;
            let common = last.topic.iter().zip(topic).take_while(|(a, b)| a == b).count();
            // Whatever else matches is a prefix of what they have in common.
            key = &topic[..common];
            if common == last.topic.len() {
                rest = before;
                if last.wants(topic) {
                    return Some(last);
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn matching_agrees_with_a_look_at_each(keys in proptest::collection::btree_set(("[ab]{0,4}", any::<bool>()), 0..20),
                                               topic in "[ab]{0,5}") {
            let entry = crate::trie::Trie::default().insert(b"", false, 0).0;
            let held: Vec<_> = keys.iter().map(|(held, exact)| Subscription {
                topic: held.as_bytes().into(),
                exact: *exact,
                policy: Policy::Disconnect,
                entry,
                interval: Duration::ZERO,
                flips: Box::default(),
                from: 0,
                born: 0,
                served: 0,
                snapshot: 0..0,
                replay: 0,
            }).collect();
            let found: Vec<_> = matching(&held, topic.as_bytes()).map(Subscription::key).collect();
            let mut expected: Vec<_> =
                held.iter().filter(|held| held.wants(topic.as_bytes())).map(Subscription::key).collect();
            expected.reverse();
            prop_assert_eq!(found, expected);
        }
    }
}
