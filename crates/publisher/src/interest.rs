//! Which prefixes a peer has subscribed to.

use std::collections::HashSet;

use trestle_messages::topic::TOPIC_BYTES_MAX;

/// Prefixes remembered for one socket; beyond them everything counts as wanted, so that the memory is bounded and
/// nothing is held back by mistake. libzmq's own filter stays exact.
const PREFIXES_MAX: usize = 10_000;

/// The subscriptions of an XPUB socket, as its messages tell them (ZeroMQ RFC 29: `0x01 prefix`, `0x00 prefix`).
#[derive(Debug, Default)]
pub(crate) struct Interest {
    prefixes: HashSet<Vec<u8>>,
    overflowed: bool,
}

impl Interest {
    /// Takes one message that came up; returns the prefix where it subscribes. Others than subscriptions are ignored.
    pub(crate) fn take<'a>(&mut self, message: &'a [u8]) -> Option<&'a [u8]> {
        let (&kind, prefix) = message.split_first()?;
        match kind {
            // A longer one can cover no topic of ours.
            1 if prefix.len() > TOPIC_BYTES_MAX => None,
            1 => {
                if self.prefixes.len() < PREFIXES_MAX {
                    self.prefixes.insert(prefix.to_vec());
                } else if !self.prefixes.contains(prefix) {
                    self.overflowed = true;
                }
                Some(prefix)
            }
            0 => {
                self.prefixes.remove(prefix);
                None
            }
            _ => None,
        }
    }

    /// Whether a subscription covers `topic`. Costs a look-up per byte of the topic.
    pub(crate) fn covers(&self, topic: &[u8]) -> bool {
        self.overflowed || (0..=topic.len()).any(|n| self.prefixes.contains(&topic[..n]))
    }

    /// Whether there is any subscription at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && !self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The set agrees with the plain definition: some subscribed prefix begins the topic.
        #[test]
        fn covers_as_starts_with(
            operations in prop::collection::vec((any::<bool>(), "[ab]{0,4}"), 0..40),
            topic in "[ab]{0,6}",
        ) {
            let mut interest = Interest::default();
            let mut naive: Vec<&str> = Vec::new();
            for (subscribe, prefix) in &operations {
                let message = [&[u8::from(*subscribe)], prefix.as_bytes()].concat();
                prop_assert_eq!(interest.take(&message), subscribe.then_some(prefix.as_bytes()));
                naive.retain(|known| known != prefix);
                if *subscribe {
                    naive.push(prefix);
                }
            }
            prop_assert_eq!(interest.covers(topic.as_bytes()), naive.iter().any(|p| topic.starts_with(p)));
            prop_assert_eq!(interest.is_empty(), naive.is_empty());
        }
    }

    #[test]
    fn what_is_no_subscription_is_ignored() {
        let mut interest = Interest::default();
        assert_eq!(interest.take(b""), None);
        assert_eq!(interest.take(b"\x02x"), None);
        assert_eq!(interest.take(&[1; 300]), None);
        assert!(interest.is_empty());
    }

    #[test]
    fn too_many_prefixes_are_everything() {
        let mut interest = Interest::default();
        for n in 0..PREFIXES_MAX + 1 {
            assert!(!interest.covers(b"x"), "{n}");
            interest.take(format!("\x01{n}").as_bytes());
        }
        assert!(interest.covers(b"x"));
        assert_eq!(interest.prefixes.len(), PREFIXES_MAX);
    }
}
