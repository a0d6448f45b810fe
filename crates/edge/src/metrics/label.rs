//! What numbers are told apart by: closed sets of label values.

use trestle_hub::encode::LostCause;
use trestle_hub::ws::CloseCode;
use trestle_hub::{ErrorCode, Protocol};

use crate::tally::Tally;

/// Why a connection, or a request for a WebSocket or an event stream, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No subprotocol that we speak was offered.
    Subprotocol,
    /// A `Sec-WebSocket-Version` other than 13.
    Version,
    /// Another header of the handshake is missing or wrong.
    Malformed,
    /// A topic in the URL that nobody may subscribe to.
    Topic,
    /// Nothing has come from upstream yet.
    NotReady,
    /// The edge drains.
    Draining,
    /// More clients connect than `--connection-rate` admits.
    ConnectionRate,
    /// As many connections are open as `--connections-max` allows.
    Connections,
    /// The client's address has as many as `--address-connections-max` allows.
    AddressConnections,
    /// The token's subject has as many as its `max_connections` says.
    SubjectConnections,
    /// No token came where one is needed, or it does not count.
    Unauthorized,
    /// A socket that publishes asks where nothing, or nothing of its, may be published.
    Publishing,
    /// A page from elsewhere asks, or nobody says whose page it is.
    Origin,
    /// No whole request came within `--handshake-timeout`.
    HandshakeTimeout,
    /// A request's head has more than `--head-bytes-max`, or more than 100 headers.
    Head,
}

/// Why messages that a session wanted were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropCause {
    /// The client did not read fast enough and its bound was hit.
    SlowConsumer,
    /// The shard fell off the log.
    ShardOverrun,
}

/// A closed set of label values, one number each.
pub trait Label: Copy + PartialEq + 'static {
    /// Every value.
    const ALL: &'static [Self];
    /// As the label shows it.
    fn text(self) -> String;
}

impl Label for Refusal {
    const ALL: &'static [Self] = &[
        Self::Subprotocol,
        Self::Version,
        Self::Malformed,
        Self::Topic,
        Self::NotReady,
        Self::Draining,
        Self::ConnectionRate,
        Self::Connections,
        Self::AddressConnections,
        Self::SubjectConnections,
        Self::Unauthorized,
        Self::Publishing,
        Self::Origin,
        Self::HandshakeTimeout,
        Self::Head,
    ];

    fn text(self) -> String {
        match self {
            Self::Subprotocol => "subprotocol",
            Self::Version => "version",
            Self::Malformed => "malformed",
            Self::Topic => "topic",
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
            Self::ConnectionRate => "connection_rate",
            Self::Connections => "connections",
            Self::AddressConnections => "address_connections",
            Self::SubjectConnections => "subject_connections",
            Self::Unauthorized => "unauthorized",
            Self::Publishing => "publishing",
            Self::Origin => "origin",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Head => "head",
        }
        .to_owned()
    }
}

impl Label for DropCause {
    const ALL: &'static [Self] = &[Self::SlowConsumer, Self::ShardOverrun];

    fn text(self) -> String {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::ShardOverrun => "shard_overrun",
        }
        .to_owned()
    }
}

impl Label for LostCause {
    const ALL: &'static [Self] = &LostCause::ALL;

    fn text(self) -> String {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::LinkHole => "link_hole",
            Self::EpochChanged => "epoch_changed",
            Self::ShardOverrun => "shard_overrun",
        }
        .to_owned()
    }
}

impl Label for ErrorCode {
    const ALL: &'static [Self] = &ErrorCode::ALL;

    fn text(self) -> String {
        self.as_str().to_owned()
    }
}

impl Label for Protocol {
    const ALL: &'static [Self] = &Protocol::ALL;

    fn text(self) -> String {
        self.name().to_owned()
    }
}

/// `None`: the connection broke without a close frame, which RFC 6455 §7.1.5 calls 1006.
impl Label for Option<CloseCode> {
    const ALL: &'static [Self] = &close_codes();

    fn text(self) -> String {
        self.map_or(1006, CloseCode::value).to_string()
    }
}

const fn close_codes() -> [Option<CloseCode>; CloseCode::ALL.len() + 1] {
    let mut codes = [None; CloseCode::ALL.len() + 1];
    let mut i = 0;
    while i < CloseCode::ALL.len() {
        codes[i + 1] = Some(CloseCode::ALL[i]);
        i += 1;
    }
    codes
}

/// A number for each value of a label.
#[derive(Debug)]
pub struct Tallies<L: Label> {
    tallies: Box<[(L, Tally)]>,
}

impl<L: Label> Default for Tallies<L> {
    fn default() -> Self {
        Self { tallies: L::ALL.iter().map(|label| (*label, Tally::default())).collect() }
    }
}

impl<L: Label> Tallies<L> {
    /// The number of `label`.
    pub fn of(&self, label: L) -> &Tally {
        let found = self.tallies.iter().find(|(other, _)| *other == label);
        &found.expect("ALL lists every value").1
    }

    /// All numbers together.
    pub fn sum(&self) -> u64 {
        self.tallies.iter().map(|(_, tally)| tally.value()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_a_number_of_its_own() {
        fn check<L: Label>() {
            let tallies = Tallies::<L>::default();
            for (n, label) in (1..).zip(L::ALL) {
                tallies.of(*label).add(n);
            }
            let n = L::ALL.len() as u64;
            assert_eq!(tallies.sum(), n * (n + 1) / 2);
            let texts: std::collections::HashSet<_> = L::ALL.iter().map(|label| label.text()).collect();
            assert_eq!(texts.len(), L::ALL.len());
        }
        check::<Refusal>();
        check::<DropCause>();
        check::<LostCause>();
        check::<ErrorCode>();
        check::<Protocol>();
        check::<Option<CloseCode>>();
    }
}
