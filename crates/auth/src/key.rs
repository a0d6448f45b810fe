//! Keys that verify tokens, each with the algorithms that it is for.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use serde_json::Value;

use crate::Refused;

/// Bytes of a secret: as many as HS256 hashes to (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Of a public key on P-256: the point, not compressed.
const P256_POINT_BYTES: usize = 65;
/// A coordinate of it in a JWK: 32 bytes in base64url.
const P256_COORDINATE_CHARS: usize = 43;
/// Of a public key on Ed25519.
const ED25519_BYTES: usize = 32;
/// Of the modulus of a key of RSA (RFC 7518 §3.3), and of all of it in DER.
const RSA_BYTES_MIN: usize = 256;
/// What DER adds to the modulus: the exponent, and tags and lengths.
const RSA_DER_BYTES: usize = 14;
/// Each may be tried for a token that names none.
const KEYS_MAX: usize = 32;

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
    /// Not what its beginning says, or too short.
    #[error("it is no private key that signs RS256, ES256 or EdDSA: {0}")]
    PrivatePem(String),
    /// Of another kind than the table of algorithms has.
    #[error("{0} is not supported: RS256, ES256, EdDSA and HS256, HS384, HS512 are")]
    Unsupported(String),
    /// Begins like JSON, and is neither a JWK nor a set of them.
    #[error("it begins like JSON, and is no JWK and no JWKS: {0}")]
    Json(#[source] serde_json::Error),
    /// A URL's answer that is something else.
    #[error("it is JSON, but no JWKS: it has no list `keys`")]
    NoSet,
    /// Anybody could make tokens with it.
    #[error("it publishes a secret: whoever can read it could make tokens")]
    PublishedSecret,
    /// A set without a key that verifies.
    #[error("no key of the set verifies signatures")]
    Empty,
    /// Two keys with one name.
    #[error("two keys have the `kid` `{0}`")]
    Twice(String),
    /// It cannot sign.
    #[error("it cannot sign: {0}")]
    Signing(#[source] jsonwebtoken::errors::Error),
    /// Shorter than is safe, or not as long as keys of its kind are.
    #[error("it has not the length of a key of {0}")]
    Length(&'static str),
    /// More than are tried for one token.
    #[error("there are more than {KEYS_MAX} keys")]
    TooMany,
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

    /// A JWKS that a server has published (RFC 7517 §5), as text that anybody may have read.
    ///
    /// # Errors
    /// If it is none, or holds what should be nobody else's: then the URL is wrong, or all of it is worth nothing.
    pub fn published(bytes: &[u8]) -> Result<Self, KeyError> {
        let value: Value = serde_json::from_slice(bytes).map_err(KeyError::Json)?;
        let keys = value.get("keys").and_then(Value::as_array).ok_or(KeyError::NoSet)?;
        let is_secret =
            |key: &Value| key.get("kty").is_some_and(|kind| kind == "oct") || key.get("k").is_some();
        if keys.iter().any(is_secret) {
            return Err(KeyError::PublishedSecret);
        }
        // Twice the same name would leave it open which of them counts.
        Self::default().and(Self { keys: Self::of_json(bytes)? })
    }

    fn of_json(json: &[u8]) -> Result<Vec<Key>, KeyError> {
        let value: Value = serde_json::from_slice(json).map_err(KeyError::Json)?;
        if is_private_jwk(&value) {
            return Err(KeyError::Private);
        }
        if value.get("keys").is_none() {
            return Ok(vec![Key::of_jwk(&serde_json::from_value(value).map_err(KeyError::Json)?)?]);
        }
        let set: JwkSet = serde_json::from_value(value).map_err(KeyError::Json)?;
        // Those for encryption, and of a kind that is not known, are for others.
        let keys: Vec<_> = set.keys.iter().filter(|jwk| verifies(jwk)).flat_map(Key::of_jwk).collect();
        match keys.len() {
            0 => Err(KeyError::Empty),
            1..=KEYS_MAX => Ok(keys),
            _ => Err(KeyError::TooMany),
        }
    }

    /// These and those.
    ///
    /// # Errors
    /// If two have the same `kid`, or there are too many.
    pub fn and(mut self, others: Self) -> Result<Self, KeyError> {
        self.keys.extend(others.keys);
        if self.keys.len() > KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let mut named: Vec<_> = self.keys.iter().filter_map(|key| key.kid.as_deref()).collect();
        named.sort_unstable();
        match named.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(KeyError::Twice(pair[0].to_owned())),
            None => Ok(self),
        }
    }

    /// The name of each, if it has one, and the algorithms that it is for, as a token's header writes them.
    pub fn each(&self) -> impl Iterator<Item = (Option<&str>, Vec<String>)> {
        let named = |algorithm: &Algorithm| format!("{algorithm:?}");
        self.keys.iter().map(move |key| (key.kid.as_deref(), key.algorithms.iter().map(named).collect()))
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
            AlgorithmFamily::Rsa if rsa_bytes(&decoding) < RSA_BYTES_MIN => {
                return Err(KeyError::Length("RSA, 2,048 bits"));
            }
            AlgorithmFamily::Rsa => Algorithm::RS256,
            // The library would cut the first bytes out of it, and end the thread where there are none.
            AlgorithmFamily::Ed
                if decoding.try_get_as_bytes().is_ok_and(|key| key.len() != ED25519_BYTES) =>
            {
                return Err(KeyError::Length("Ed25519, 32 bytes"));
            }
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
        if let AlgorithmParameters::EllipticCurve(point) = &jwk.algorithm
            && [&point.x, &point.y].iter().any(|coordinate| coordinate.len() != P256_COORDINATE_CHARS)
        {
            return Err(KeyError::Unsupported("a curve other than P-256".to_owned()));
        }
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

/// Of the modulus; in DER there are some bytes more.
fn rsa_bytes(decoding: &DecodingKey) -> usize {
    match decoding.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => n.len(),
        DecodingKeyKind::SecretOrDer(der) => der.len().saturating_sub(RSA_DER_BYTES),
    }
}

/// A JWK, or a set with one, that holds what should stay with who signs (RFC 7518 §6.2.2, §6.3.2).
fn is_private_jwk(value: &Value) -> bool {
    let keys = value.get("keys").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    keys.iter().chain([value]).any(|key| key.get("d").is_some())
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
