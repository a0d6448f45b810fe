//! Why a token does not count.

use jsonwebtoken::errors::ErrorKind;

/// Why a token does not count. Says nothing that the token holds, so that it can be logged and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// It is no JSON Web Token, or longer than one should be.
    #[error("it is no JSON Web Token")]
    Malformed,
    /// Its `kid` names no key that is here, or it has none where there are several.
    #[error("it names no key that is known here")]
    UnknownKey,
    /// It was not signed as its key asks for; `none` is not signed at all.
    #[error("its algorithm is not that of its key")]
    WrongAlgorithm,
    /// Somebody else signed it, or it was changed.
    #[error("its signature is not right")]
    BadSignature,
    /// It was good until its `exp`.
    #[error("it has expired")]
    Expired,
    /// It is good from its `nbf` on.
    #[error("it is not yet valid")]
    NotYetValid,
    /// Its `iss` is not one that is asked for.
    #[error("its issuer is not accepted here")]
    WrongIssuer,
    /// Its `aud` is not this service, or is there and none is expected.
    #[error("it is for another audience")]
    WrongAudience,
    /// A claim is missing or is not what it should be.
    #[error("its claims are not what they should be: {0}")]
    BadClaims(&'static str),
}

impl Refused {
    /// For a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::BadClaims(_) => "bad_claims",
        }
    }

    pub(crate) fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature => Self::BadSignature,
            ErrorKind::InvalidAlgorithm
            | ErrorKind::InvalidAlgorithmName
            | ErrorKind::UnsupportedAlgorithm => Self::WrongAlgorithm,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidIssuer => Self::WrongIssuer,
            ErrorKind::InvalidAudience => Self::WrongAudience,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
                Self::of_claim(claim)
            }
            _ => Self::Malformed,
        }
    }

    fn of_claim(claim: &str) -> Self {
        match claim {
            "iss" => Self::WrongIssuer,
            "aud" => Self::WrongAudience,
            "exp" => Self::BadClaims("`exp` is missing or no time"),
            "nbf" => Self::BadClaims("`nbf` is no time"),
            _ => Self::BadClaims("one is missing"),
        }
    }
}
