//! Tokens, made: for `trestle token`, and for tests.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use crate::claims::Claims;
use crate::key::{KeyError, SECRET_BYTES_MIN, is_private, without_line_end};

/// What makes tokens: a private key or a secret.
pub struct SigningKey {
    kid: Option<String>,
    algorithm: Algorithm,
    encoding: EncodingKey,
}

impl SigningKey {
    /// From the bytes of a file: a private key as PEM (PKCS #8, of RSA also PKCS #1), which signs by RS256, ES256 or EdDSA, or a secret, which signs by
    /// HS256.
    ///
    /// # Errors
    /// If it is neither, or weak.
    pub fn read(bytes: &[u8]) -> Result<Self, KeyError> {
        let pem = bytes.trim_ascii_start();
        let (algorithm, encoding) = if pem.starts_with(b"-----BEGIN") {
            of_pem(pem)?
        } else {
            let secret = without_line_end(bytes);
            if secret.len() < SECRET_BYTES_MIN {
                return Err(KeyError::Short(secret.len()));
            }
            (Algorithm::HS256, EncodingKey::from_secret(secret))
        };
        Ok(Self { kid: None, algorithm, encoding })
    }

    /// Its tokens name it so.
    #[must_use]
    pub fn named(self, kid: &str) -> Self {
        Self { kid: Some(kid.to_owned()), ..self }
    }

    /// A token that says `claims`.
    ///
    /// # Errors
    /// If the key cannot sign, as one of RSA that is too short.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let header = Header { kid: self.kid.clone(), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.encoding).map_err(KeyError::Signing)
    }
}

fn of_pem(pem: &[u8]) -> Result<(Algorithm, EncodingKey), KeyError> {
    // The library would take it, and sign with what is no private key.
    if !is_private(pem) {
        return Err(KeyError::Public);
    }
    let rsa = EncodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
    let of_any = rsa
        .or_else(|_| EncodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key)))
        .or_else(|_| EncodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key)));
    of_any.map_err(KeyError::Pem)
}

/// The key itself is shown nowhere.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
