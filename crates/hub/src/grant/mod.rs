//! What a client may do: the one place that decides.

mod prefixes;
mod verify;

use std::time::{Duration, Instant, SystemTime};

use trestle_messages::topic::is_reserved;

pub use prefixes::Prefixes;
pub use verify::{Unverified, Verifier};

use crate::ErrorCode;

/// No token is said to be good for longer: 100 years.
const LEFT_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a client may do, as its token says. Every path to it and from it asks [`may_subscribe`](Self::may_subscribe) or
/// [`may_publish`](Self::may_publish), and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is, the token's `sub`; none where no tokens are asked for.
    pub subject: Option<Box<str>>,
    /// What the topics that it may subscribe to begin with.
    pub subscribe: Prefixes,
    /// What the topics that it may publish begin with.
    pub publish: Prefixes,
    /// When it ends; without, it does not.
    pub expires_at: Option<Expiry>,
    /// So many connections of its subject may be open at once.
    pub max_connections: Option<u32>,
}

/// The end of a grant, on the clock that the hub goes by and as the client is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// When the connection is closed.
    pub at: Instant,
    /// What the token says, Unix seconds.
    pub unix_seconds: u64,
}

impl Expiry {
    /// What `unix_seconds` is on the hub's clock, which says `now` at the time `time`, and `leeway` later: clocks differ.
    pub fn new(unix_seconds: u64, leeway: Duration, now: Instant, time: SystemTime) -> Self {
        let time = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let left = Duration::from_secs(unix_seconds).saturating_add(leeway).saturating_sub(time);
        Self { at: now + left.min(LEFT_MAX), unix_seconds }
    }
}

/// Why a client may not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody may: [`ErrorCode::InvalidTopic`].
    #[error("topics that begin with \\0trestle are reserved")]
    Reserved,
    /// This client may not: [`ErrorCode::Forbidden`]. Names what it may.
    #[error("{}", outside("subscribing", "subscribe to", .0))]
    Subscribe(Prefixes),
    /// The same of a publication.
    #[error("{}", outside("publishing", "publish to", .0))]
    Publish(Prefixes),
}

/// `doing` where nothing is allowed, else `what` with the prefixes.
fn outside(doing: &str, what: &str, allowed: &Prefixes) -> String {
    match allowed.is_empty() {
        true => format!("{doing} is not allowed here"),
        false => format!("topics to {what} begin with {allowed}"),
    }
}

impl Denied {
    /// From the closed list.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Reserved => ErrorCode::InvalidTopic,
            Self::Subscribe(_) | Self::Publish(_) => ErrorCode::Forbidden,
        }
    }
}

impl Grant {
    /// All that there is, for as long as it is wanted: where no tokens are asked for.
    pub fn everything() -> Self {
        let (subscribe, publish) = (Prefixes::everything(), Prefixes::everything());
        Self { subject: None, subscribe, publish, expires_at: None, max_connections: None }
    }

    /// Nothing: of who has yet to show a token.
    pub fn nothing() -> Self {
        Self { subscribe: Prefixes::default(), publish: Prefixes::default(), ..Self::everything() }
    }

    /// Whether it covers all that a subscription to `topic` matches. As a prefix and exactly that is the same: whatever is
    /// allowed are prefixes, and what begins with one goes on to.
    ///
    /// # Errors
    /// Why not, for the client to read. A subscription wider than what is allowed is refused, not narrowed.
    pub fn may_subscribe(&self, topic: &[u8]) -> Result<(), Denied> {
        match is_reserved(topic) {
            true => Err(Denied::Reserved),
            false if self.subscribe.cover(topic) => Ok(()),
            false => Err(Denied::Subscribe(self.subscribe.clone())),
        }
    }

    /// The same of several topics.
    ///
    /// # Errors
    /// Why not, of the first that is refused.
    pub fn may_subscribe_to<T: AsRef<[u8]>>(&self, topics: &[T]) -> Result<(), Denied> {
        topics.iter().try_for_each(|topic| self.may_subscribe(topic.as_ref()))
    }

    /// Whether a message of `topic` may come from the client.
    ///
    /// # Errors
    /// Why not, for the client to read.
    pub fn may_publish(&self, topic: &[u8]) -> Result<(), Denied> {
        match is_reserved(topic) {
            true => Err(Denied::Reserved),
            false if self.publish.cover(topic) => Ok(()),
            false => Err(Denied::Publish(self.publish.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant(subscribe: &[&str], publish: &[&str]) -> Grant {
        let prefixes = |list: &[&str]| list.iter().map(|prefix| prefix.as_bytes()).collect();
        Grant { subscribe: prefixes(subscribe), publish: prefixes(publish), ..Grant::everything() }
    }

    #[test]
    fn a_table_of_grants_and_topics() {
        let of = |who: &Grant, topic: &[u8]| {
            let code = |asked: Result<(), Denied>| asked.map_err(|denied| denied.code());
            (code(who.may_subscribe(topic)), code(who.may_publish(topic)))
        };
        let (yes, no, never) = (Ok(()), Err(ErrorCode::Forbidden), Err(ErrorCode::InvalidTopic));
        let (all, none) = (Grant::everything(), Grant::nothing());
        let some = grant(&["jobs/", "chat/7"], &["chat/"]);
        for (who, topic, subscribe, publish) in [
            (&all, &b""[..], yes, yes),
            (&all, b"jobs/42", yes, yes),
            (&all, b"\xff\0", yes, yes),
            (&all, b"\0trestl", yes, yes),
            (&all, b"\0trestle", never, never),
            (&all, b"\0trestle/x", never, never),
            (&none, b"", no, no),
            (&none, b"jobs/42", no, no),
            (&none, b"\0trestle", never, never),
            (&some, b"", no, no),
            (&some, b"jobs", no, no),
            (&some, b"jobs/", yes, no),
            (&some, b"jobs/42", yes, no),
            (&some, b"jobs0", no, no),
            (&some, b"chat/", no, yes),
            (&some, b"chat/7", yes, yes),
            (&some, b"chat/71", yes, yes),
            (&some, b"chat/8", no, yes),
            (&some, b"\0trestle", never, never),
        ] {
            assert_eq!(of(who, topic), (subscribe, publish), "{} of {who:?}", topic.escape_ascii());
        }
    }

    #[test]
    fn who_is_refused_hears_what_is_allowed() {
        let some = grant(&["jobs/", "chat/7"], &[]);
        let denied = some.may_subscribe(b"jobs").unwrap_err().to_string();
        assert_eq!(denied, "topics to subscribe to begin with `chat/7` or `jobs/`");
        let denied = some.may_publish(b"jobs/").unwrap_err().to_string();
        assert_eq!(denied, "publishing is not allowed here");
    }

    #[test]
    fn an_expiry_is_as_far_off_as_the_time_says() {
        let now = Instant::now();
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let left = |unix_seconds, leeway| Expiry::new(unix_seconds, leeway, now, time).at - now;
        assert_eq!(left(3, Duration::ZERO), Duration::from_millis(1_500));
        assert_eq!(left(3, Duration::from_secs(2)), Duration::from_millis(3_500));
        assert_eq!(left(1, Duration::ZERO), Duration::ZERO);
        assert_eq!(left(u64::MAX, Duration::MAX), LEFT_MAX);
    }

    fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(b'a'..b'c', 0..length)
    }

    /// All topics of two letters up to a length.
    fn topics(letters: usize) -> Vec<Vec<u8>> {
        let mut topics = vec![Vec::new()];
        for from in 0.. {
            let Some(topic) = topics.get(from).filter(|topic: &&Vec<u8>| topic.len() < letters) else {
                break;
            };
            let longer = [b'a', b'b'].map(|letter| [&topic[..], &[letter]].concat());
            topics.extend(longer);
        }
        topics
    }

    proptest! {
        /// A subscription is allowed if and only if each topic that it matches is covered, and a message of such a topic is
        /// allowed to who may publish the same.
        #[test]
        fn what_is_allowed_is_what_is_covered(prefixes in proptest::collection::vec(bytes(4), 0..4), wanted in bytes(5)) {
            let covered = |topic: &[u8]| prefixes.iter().any(|prefix| topic.starts_with(prefix));
            let set: Prefixes = prefixes.iter().map(|prefix| &prefix[..]).collect();
            let grant = Grant { subscribe: set.clone(), publish: set, ..Grant::everything() };
            // Longer than any prefix: of these none is the same as all that it may go on to.
            let all = topics(5);
            let mut matched = all.iter().filter(|topic| topic.starts_with(&wanted));
            prop_assert_eq!(grant.may_subscribe(&wanted).is_ok(), matched.all(|topic| covered(topic)));
            for topic in &all {
                prop_assert_eq!(grant.may_subscribe(topic).is_ok(), covered(topic), "exactly");
                prop_assert_eq!(grant.may_publish(topic).is_ok(), covered(topic));
            }
        }
    }
}
