//! Tokens, made: for `trestle token`, and for tests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::claims::Claims;
use crate::key::{KeyError, SECRET_BYTES_MIN, is_private, without_line_end};

/// What makes tokens: a private key or a secret.
pub struct SigningKey {
    kid: Option<String>,
    signs: Signs,
}

enum Signs {
    By(Algorithm, EncodingKey),
    /// RS256 is signed by `ring`, which TLS needs anyway: the crate `rsa`, by which jsonwebtoken verifies, leaks private keys
    /// through time (RUSTSEC-2023-0071), and gets none to see here.
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// From the bytes of a file: a private key as PEM (PKCS #8, of RSA also PKCS #1), which signs by RS256, ES256 or EdDSA, or a secret, which signs by
    /// HS256.
    ///
    /// # Errors
    /// If it is neither, or weak.
    pub fn read(bytes: &[u8]) -> Result<Self, KeyError> {
        let pem = bytes.trim_ascii_start();
        let signs = if pem.starts_with(b"-----BEGIN") {
            of_pem(pem)?
        } else {
            let secret = without_line_end(bytes);
            if secret.len() < SECRET_BYTES_MIN {
                return Err(KeyError::Short(secret.len()));
            }
            Signs::By(Algorithm::HS256, EncodingKey::from_secret(secret))
        };
        Ok(Self { kid: None, signs })
    }

    /// Its tokens name it so.
    #[must_use]
    pub fn named(self, kid: &str) -> Self {
        Self { kid: Some(kid.to_owned()), ..self }
    }

    /// A token that says `claims`.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let header = Header { kid: self.kid.clone(), ..Header::new(self.algorithm()) };
        match &self.signs {
            Signs::By(_, key) => encode(&header, claims, key).map_err(KeyError::Signing),
            Signs::Rsa(key) => by_rsa(key, &header, claims),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self.signs {
            Signs::By(algorithm, _) => algorithm,
            Signs::Rsa(_) => Algorithm::RS256,
        }
    }
}

fn of_pem(pem: &[u8]) -> Result<Signs, KeyError> {
    // The library would take it, and sign with what is no private key.
    if !is_private(pem) {
        return Err(KeyError::Public);
    }
    let elliptic = EncodingKey::from_ec_pem(pem)
        .map(|key| (Algorithm::ES256, key))
        .or_else(|_| EncodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key)));
    if let Ok((algorithm, key)) = elliptic {
        return Ok(Signs::By(algorithm, key));
    }
    let rsa =
        match PrivateKeyDer::from_pem_slice(pem).map_err(|error| KeyError::PrivatePem(error.to_string()))? {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => {
                return Err(KeyError::PrivatePem(
                    "write it as PKCS #8: openssl pkcs8 -topk8 -nocrypt".to_owned(),
                ));
            }
        };
    rsa.map(|key| Signs::Rsa(Box::new(key))).map_err(|error| KeyError::PrivatePem(error.to_string()))
}

/// RFC 7515 §5.1.
fn by_rsa(key: &RsaKeyPair, header: &Header, claims: &Claims) -> Result<String, KeyError> {
    let part = |json: serde_json::Result<Vec<u8>>| {
        json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(KeyError::Json)
    };
    let said = format!("{}.{}", part(serde_json::to_vec(header))?, part(serde_json::to_vec(claims))?);
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature)
        .map_err(|_| KeyError::PrivatePem("it signs nothing".to_owned()))?;
    Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// The key itself is shown nowhere.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}
