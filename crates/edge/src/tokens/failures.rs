//! Tokens that did not count, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trestle_auth::{Jwt, Refused};
use trestle_hub::{Grant, Unverified, Verifier};

/// By cause, in the order of the labels.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    counts: [AtomicU64; Self::LABELS.len()],
}

impl Failures {
    const MISSING: &'static str = "missing";
    /// The causes. Those of [`Refused`], and that there was no token where one was needed.
    pub(crate) const LABELS: [&'static str; 10] = [
        Self::MISSING,
        Refused::Malformed.label(),
        Refused::UnknownKey.label(),
        Refused::WrongAlgorithm.label(),
        Refused::BadSignature.label(),
        Refused::Expired.label(),
        Refused::NotYetValid.label(),
        Refused::WrongIssuer.label(),
        Refused::WrongAudience.label(),
        Refused::BadClaims("").label(),
    ];

    /// Each label and its count.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Self::LABELS.into_iter().zip(counts)
    }

    pub(crate) fn missing(&self) {
        self.count(Self::MISSING);
    }

    fn count(&self, label: &str) {
        let at = Self::LABELS.iter().position(|known| *known == label).expect("each has a label");
        self.counts[at].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts what it refuses, whichever way the token came.
#[derive(Debug)]
pub(super) struct Counted {
    jwt: Jwt,
    failures: Arc<Failures>,
}

impl Counted {
    pub(super) fn new(jwt: Jwt, failures: Arc<Failures>) -> Self {
        Self { jwt, failures }
    }
}

impl Verifier for Counted {
    fn verify(&self, token: &str) -> Result<Grant, Unverified> {
        self.jwt.verify(token).map_err(|refused| {
            self.failures.count(refused.label());
            refused.into()
        })
    }
}
