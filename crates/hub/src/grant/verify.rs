//! From a token to what it grants.

use std::fmt;

use super::Grant;
use crate::ErrorCode;

/// Why a token counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Unverified {
    /// [`ErrorCode::Unauthorized`], or [`ErrorCode::TokenExpired`] where another one of the same kind would count, or
    /// [`ErrorCode::Unavailable`] where nobody knows at the moment.
    pub code: ErrorCode,
    /// For people, without any part of the token.
    pub reason: String,
}

/// Who reads tokens. It answers at once, on the thread that asks: what it needs is at hand.
pub trait Verifier: fmt::Debug + Send + Sync {
    /// What `token` grants. The grant has a subject.
    ///
    /// # Errors
    /// Why it grants nothing.
    fn verify(&self, token: &str) -> Result<Grant, Unverified>;
}
