//! A token, verified.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::Value;
use trestle_hub::{ErrorCode, Grant, Unverified};

use crate::{Claims, Keys, Refused};

/// Bytes of a token: as long as a header line may be, and no work before that is known.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// What a token must say beside being signed.
#[derive(Debug, Clone)]
pub struct Rules {
    /// One of these must have made it, if there are any.
    pub issuers: Vec<String>,
    /// It must be for one of these; without any, only tokens that name no audience count (RFC 7519 §4.1.3).
    pub audiences: Vec<String>,
    /// By so much clocks may differ.
    pub leeway: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self { issuers: Vec::new(), audiences: Vec::new(), leeway: Duration::from_secs(5) }
    }
}

/// Verifies JSON Web Tokens.
#[derive(Debug)]
pub struct Jwt {
    /// Held for as long as it takes to count one reference: who verifies goes on with the keys that it began with.
    keys: RwLock<Arc<Keys>>,
    validation: Validation,
    leeway: Duration,
}

impl Jwt {
    /// By `keys` and `rules`.
    pub fn new(keys: Keys, rules: Rules) -> Self {
        let Rules { issuers, audiences, leeway } = rules;
        // The algorithms are the key's, and are set with it.
        let mut validation =
            Validation { leeway: leeway.as_secs(), validate_nbf: true, ..Validation::default() };
        let mut required = vec!["exp", "sub"];
        if !issuers.is_empty() {
            validation.set_issuer(&issuers);
            required.push("iss");
        }
        if !audiences.is_empty() {
            validation.set_audience(&audiences);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Self { keys: RwLock::new(Arc::new(keys)), validation, leeway }
    }

    /// From now on these keys count, and no others.
    pub fn replace_keys(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// How many keys count.
    pub fn n_keys(&self) -> usize {
        self.keys().len()
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `token` grants.
    ///
    /// # Errors
    /// Why it grants nothing.
    pub fn verify(&self, token: &str) -> Result<Grant, Refused> {
        self.claims(token)?.grant(self.leeway)
    }

    /// What `token` says, if it counts.
    ///
    /// # Errors
    /// Why it does not.
    pub fn claims(&self, token: &str) -> Result<Claims, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let header = decode_header(token).map_err(|error| refused_header(token, &error))?;
        // Whoever says so wants more understood than is here (RFC 7515 §4.1.11).
        if header.crit.is_some() {
            return Err(Refused::Malformed);
        }
        let mut refused = Refused::BadSignature;
        let keys = self.keys();
        for key in keys.of(header.kid.as_deref(), header.alg)? {
            let validation = Validation { algorithms: key.algorithms.clone(), ..self.validation.clone() };
            match decode::<Claims>(token, &key.decoding, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => refused = refused_claims(&error),
            }
            // Another key may have signed it, unless this one has.
            if refused != Refused::BadSignature {
                break;
            }
        }
        Err(refused)
    }
}

impl From<Refused> for Unverified {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::Expired => ErrorCode::TokenExpired,
            _ => ErrorCode::Unauthorized,
        };
        Self { code, reason: format!("the token does not count: {refused}") }
    }
}

/// What the header and the claims of a token say, whoever signed it: for people to look at, for nothing else.
///
/// # Errors
/// If it is none.
pub fn unverified(token: &str) -> Result<(Value, Value), Refused> {
    let mut parts = token.split('.');
    let mut part = || {
        let json = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
        serde_json::from_slice(&json).ok().filter(Value::is_object)
    };
    let said = part().zip(part());
    said.filter(|_| parts.next().is_some() && parts.next().is_none()).ok_or(Refused::Malformed)
}

/// `none`, and whatever else no key is for, is not known to the library at all: its header cannot be read.
fn refused_header(token: &str, error: &Error) -> Refused {
    let algorithm = || {
        let json = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
        let header: Value = serde_json::from_slice(&json).ok()?;
        header.get("alg")?.as_str().map(str::to_owned)
    };
    let is_of_three_parts = token.split('.').count() == 3;
    match algorithm().filter(|_| is_of_three_parts) {
        Some(_) => Refused::WrongAlgorithm,
        None => Refused::of(error.kind()),
    }
}

/// The signature is looked at first: what cannot be read behind it was signed.
fn refused_claims(error: &Error) -> Refused {
    match error.kind() {
        ErrorKind::Json(_) => Refused::BadClaims("they cannot be read"),
        kind => Refused::of(kind),
    }
}
