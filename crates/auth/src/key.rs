//! Keys that verify tokens, each with the algorithms that it is for.

use jsonwebtoken::jwk::{Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use crate::Refused;

/// Bytes of a secret: as many as HS256 hashes to (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// The DER of a public key on P-256, without its header: the point.
const P256_POINT_BYTES: usize = 65;

/// Why something is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The edge has no use for it, and whoever has it can make tokens.
    #[error("it is a private key, and the public one is wanted here")]
    Private,
    /// It signs nothing.
    #[error("it is a public key, and the private one is wanted here")]
    Public,
    /// Not what its beginning says.
    #[error("it begins like a PEM file, and is no key for that: {0}")]
    Pem(#[source] jsonwebtoken::errors::Error),
    /// Of another kind than the table of algorithms has.
    #[error("{0} is not supported: RS256, ES256, EdDSA and HS256, HS384, HS512 are")]
    Unsupported(String),
    /// Begins like JSON, and is neither a JWK nor a set of them.
    #[error("it begins like JSON, and is no JWK and no JWKS: {0}")]
    Json(#[source] serde_json::Error),
    /// A set without a key that verifies.
    #[error("no key of the set verifies signatures")]
    Empty,
    /// Two keys with one name.
    #[error("two keys have the `kid` `{0}`")]
    Twice(String),
    /// It cannot sign.
    #[error("it cannot sign: {0}")]
    Signing(#[source] jsonwebtoken::errors::Error),
    /// A secret that can be guessed.
    #[error("a secret of {0} bytes can be guessed: {SECRET_BYTES_MIN} are the least")]
    Short(usize),
}

/// What verifies.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Named by a token's header.
    kid: Option<String>,
    /// The key's, not the token's word: who holds a public key must not get on by signing with it as a secret.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) decoding: DecodingKey,
}

/// The keys of which one must have signed a token.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    keys: Vec<Key>,
}

impl Keys {
    /// From the bytes of a file: a public key or a certificate's key as PEM, a JWK or a JWKS (RFC 7517), or else a secret, whose last
    /// line end does not count.
    ///
    /// # Errors
    /// If it is none of these, or weak.
    pub fn read(bytes: &[u8]) -> Result<Self, KeyError> {
        let begin = bytes.trim_ascii_start();
        let keys = match begin.first() {
            Some(b'{') => Self::of_json(begin)?,
            _ if begin.starts_with(b"-----BEGIN") => vec![Key::of_pem(begin)?],
            _ => vec![Key::of_secret(without_line_end(bytes))?],
        };
        Ok(Self { keys })
    }

    fn of_json(json: &[u8]) -> Result<Vec<Key>, KeyError> {
        let value: serde_json::Value = serde_json::from_slice(json).map_err(KeyError::Json)?;
        if value.get("keys").is_none() {
            return Ok(vec![Key::of_jwk(&serde_json::from_value(value).map_err(KeyError::Json)?)?]);
        }
        let set: JwkSet = serde_json::from_value(value).map_err(KeyError::Json)?;
        // Those for encryption, and of a kind that is not known, are for others.
        let keys: Vec<_> = set.keys.iter().filter(|jwk| verifies(jwk)).flat_map(Key::of_jwk).collect();
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(keys) }
    }

    /// These and those.
    ///
    /// # Errors
    /// If two have the same `kid`.
    pub fn and(mut self, others: Self) -> Result<Self, KeyError> {
        self.keys.extend(others.keys);
        let mut named: Vec<_> = self.keys.iter().filter_map(|key| key.kid.as_deref()).collect();
        named.sort_unstable();
        match named.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(KeyError::Twice(pair[0].to_owned())),
            None => Ok(self),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Those that may have signed a token with this `kid` and algorithm.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn of(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Vec<&Key>, Refused> {
        let is_named = |key: &&Key| key.kid.is_none() || kid.is_none() || key.kid.as_deref() == kid;
        let named: Vec<_> = self.keys.iter().filter(is_named).collect();
        if named.is_empty() {
            return Err(Refused::UnknownKey);
        }
        let fitting: Vec<_> = named.into_iter().filter(|key| key.algorithms.contains(&algorithm)).collect();
        if fitting.is_empty() { Err(Refused::WrongAlgorithm) } else { Ok(fitting) }
    }
}

impl Key {
    fn of_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::Short(secret.len()));
        }
        let algorithms = AlgorithmFamily::Hmac.algorithms().to_vec();
        Ok(Self { kid: None, algorithms, decoding: DecodingKey::from_secret(secret) })
    }

    fn of_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if is_private(pem) {
            return Err(KeyError::Private);
        }
        let of_any = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem));
        Self::of_decoding(of_any.map_err(KeyError::Pem)?)
    }

    fn of_decoding(decoding: DecodingKey) -> Result<Self, KeyError> {
        let algorithm = match decoding.family() {
            AlgorithmFamily::Rsa => Algorithm::RS256,
            AlgorithmFamily::Ed => Algorithm::EdDSA,
            AlgorithmFamily::Ec
                if decoding.try_get_as_bytes().is_ok_and(|point| point.len() == P256_POINT_BYTES) =>
            {
                Algorithm::ES256
            }
            AlgorithmFamily::Ec => return Err(KeyError::Unsupported("a curve other than P-256".to_owned())),
            AlgorithmFamily::Hmac => return Err(KeyError::Unsupported("a secret in PEM".to_owned())),
        };
        Ok(Self { kid: None, algorithms: vec![algorithm], decoding })
    }

    fn of_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        let decoding =
            DecodingKey::from_jwk(jwk).map_err(|error| KeyError::Unsupported(format!("a JWK: {error}")))?;
        let mut key = match decoding.family() {
            AlgorithmFamily::Hmac => Self::of_secret(decoding.try_get_as_bytes().unwrap_or_default())?,
            _ => Self::of_decoding(decoding)?,
        };
        // What it says itself is narrower.
        if let Some(named) = jwk.common.key_algorithm {
            let algorithm = named.to_string().parse().ok().filter(|named| key.algorithms.contains(named));
            let algorithm = algorithm.ok_or_else(|| KeyError::Unsupported(named.to_string()))?;
            key.algorithms = vec![algorithm];
        }
        key.kid.clone_from(&jwk.common.key_id);
        Ok(key)
    }
}

/// Whether it is there to verify signatures, as far as it says.
fn verifies(jwk: &Jwk) -> bool {
    let is_for_signatures =
        jwk.common.public_key_use.as_ref().is_none_or(|is| *is == PublicKeyUse::Signature);
    let operations = jwk.common.key_operations.as_ref();
    is_for_signatures && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

/// As its first line says.
pub(crate) fn is_private(pem: &[u8]) -> bool {
    let label = pem.split(|byte| *byte == b'\n').next().unwrap_or_default();
    label.windows(b"PRIVATE".len()).any(|part| part == b"PRIVATE")
}

pub(crate) fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}
