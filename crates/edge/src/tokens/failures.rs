//! Tokens that did not count, counted.

use std::sync::Arc;

use trestle_auth::{Jwt, Refused};
use trestle_hub::{ErrorCode, Grant, Unverified, Verifier};

use super::NO_KEYS;
use super::keys::Known;
use crate::tally::Labelled;

/// By cause: those of [`Refused`], and that there was no token where one was needed.
#[derive(Debug)]
pub(crate) struct Failures(Labelled<10>);

impl Default for Failures {
    fn default() -> Self {
        Self(Labelled::new([
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
        ]))
    }
}

impl Failures {
    const MISSING: &str = "missing";

    pub(crate) fn missing(&self) {
        self.0.count(Self::MISSING);
    }

    /// Each cause and its count.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.each()
    }
}

/// Counts what it refuses, whichever way the token came.
#[derive(Debug)]
pub(super) struct Counted {
    jwt: Arc<Jwt>,
    failures: Arc<Failures>,
    known: Arc<Known>,
}

impl Counted {
    pub(super) fn new(jwt: Arc<Jwt>, failures: Arc<Failures>, known: Arc<Known>) -> Self {
        Self { jwt, failures, known }
    }
}

impl Verifier for Counted {
    fn verify(&self, token: &str) -> Result<Grant, Unverified> {
        self.jwt.verify(token).map_err(|refused| {
            self.failures.0.count(refused.label());
            if refused == Refused::UnknownKey {
                self.known.want();
                if !self.known.are_here() {
                    let (code, reason) = (ErrorCode::Unavailable, format!("not ready: {NO_KEYS}"));
                    return Unverified { code, reason };
                }
            }
            refused.into()
        })
    }
}
