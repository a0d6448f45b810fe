//! Peers that CURVE turned away: counted, and told seldom.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::seldom::Seldom;

/// Why a peer was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its key is not in the allow-list.
    KeyNotAllowed,
    /// It believes that this process has another public key, or what it says is damaged.
    WrongServerKey,
    /// It speaks plain ØMQ, or another mechanism.
    NotCurve,
    /// It ended the connection, or fell silent, before it had said who it is: as plain libzmq does where it has read first
    /// that CURVE is spoken here.
    HungUp,
}

const CAUSES: [Cause; 4] = [Cause::KeyNotAllowed, Cause::WrongServerKey, Cause::NotCurve, Cause::HungUp];

/// libzmq's number for a peer whose HELLO or INITIATE cannot be opened.
const ZMTP_CRYPTOGRAPHIC: u64 = 0x1100_0001;
/// libzmq's number for a peer whose greeting names another mechanism.
const ZMTP_MECHANISM_MISMATCH: u64 = 0x1100_0002;

impl Cause {
    /// Of the value of libzmq's event `HANDSHAKE_FAILED_PROTOCOL`, where it is one of CURVE.
    pub fn of_protocol_error(value: u64) -> Option<Self> {
        match value {
            ZMTP_CRYPTOGRAPHIC => Some(Self::WrongServerKey),
            ZMTP_MECHANISM_MISMATCH => Some(Self::NotCurve),
            _ => None,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::KeyNotAllowed => "key_not_allowed",
            Self::WrongServerKey => "wrong_server_key",
            Self::NotCurve => "not_curve",
            Self::HungUp => "hung_up",
        }
    }

    fn is_because(self) -> &'static str {
        match self {
            Self::KeyNotAllowed => "its key is not in --curve-allow",
            Self::WrongServerKey => "it connects with the public key of another server",
            Self::NotCurve => "it speaks no CURVE",
            Self::HungUp => "it ended the connection before it spoke CURVE",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    port: String,
    cause: &'static str,
}

/// Counts refusals by port and cause; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Refused {
    counts: Family<Label, Counter>,
    /// By cause, so that scanners do not hide a key that is missing; held for as long as a time is compared.
    said: Arc<Mutex<[Seldom; CAUSES.len()]>>,
}

impl Refused {
    /// Shows the counts, at zero for each of `ports`.
    pub fn register(&self, registry: &mut Registry, ports: &[&str]) {
        let help = "Connections refused by CURVE, by port and cause";
        registry.register("curve_refused", help, self.counts.clone());
        for (port, cause) in ports.iter().flat_map(|port| CAUSES.map(|cause| (port, cause))) {
            drop(self.of(port, cause));
        }
    }

    /// A peer was refused; `who` is its address and, where known, its key.
    pub fn count(&self, port: &str, cause: Cause, who: &str) {
        self.of(port, cause).inc();
        // Whoever held it cannot have left it half changed.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = said[cause as usize].say(Instant::now()) {
            tracing::warn!(unsaid, "{port}: refused {who}: {}", cause.is_because());
        }
    }

    fn of(&self, port: &str, cause: Cause) -> Counter {
        self.counts.get_or_create_owned(&Label { port: port.to_owned(), cause: cause.label() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_port_and_cause() {
        let (refused, mut registry) = (Refused::default(), Registry::default());
        refused.register(&mut registry, &["link"]);
        refused.count("link", Cause::NotCurve, "10.0.0.9");
        refused.count("link", Cause::NotCurve, "10.0.0.9");
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        for line in [
            r#"curve_refused_total{port="link",cause="not_curve"} 2"#,
            r#"curve_refused_total{port="link",cause="key_not_allowed"} 0"#,
            r#"curve_refused_total{port="link",cause="wrong_server_key"} 0"#,
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn of_libzmqs_numbers_only_curves_own_count() {
        assert_eq!(Cause::of_protocol_error(0x1100_0001), Some(Cause::WrongServerKey));
        assert_eq!(Cause::of_protocol_error(0x1100_0002), Some(Cause::NotCurve));
        assert_eq!(Cause::of_protocol_error(0x1000_0000), None);
    }
}
