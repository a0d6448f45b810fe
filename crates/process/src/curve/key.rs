//! CURVE keys: 32 bytes, written as 40 characters of Z85 (ZeroMQ RFC 32).

use std::ffi::{c_char, c_int};
use std::fmt;
use std::str::FromStr;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Characters of a key in Z85.
const Z85_CHARS: usize = KEY_BYTES / 4 * 5;

const ALPHABET: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

#[expect(unsafe_code, reason = "a function of libzmq, which the zmq crate does not know")]
unsafe extern "C" {
    fn zmq_curve_public(public: *mut c_char, secret: *const c_char) -> c_int;
}

/// Who somebody is; not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_BYTES]);

/// What proves it. It never appears in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; KEY_BYTES]);

/// A text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a CURVE key: 40 characters of Z85")]
pub struct KeyError;

impl PublicKey {
    /// As libzmq takes it.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl From<[u8; KEY_BYTES]> for PublicKey {
    fn from(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

impl SecretKey {
    /// A new one.
    ///
    /// # Errors
    /// If libzmq was built without CURVE.
    pub fn generate() -> Result<Self, zmq::Error> {
        zmq::CurveKeyPair::new().map(|pair| Self(pair.secret_key))
    }

    /// The public key that belongs to it.
    ///
    /// # Errors
    /// If libzmq was built without CURVE.
    #[expect(unsafe_code, reason = "zmq_curve_public is libzmq's C interface")]
    pub fn public(&self) -> Result<PublicKey, zmq::Error> {
        let mut secret = [0; Z85_CHARS + 1];
        secret[..Z85_CHARS].copy_from_slice(self.to_z85().as_bytes());
        let mut public = [0_u8; Z85_CHARS + 1];
        // SAFETY: libzmq reads 40 characters and their NUL, and writes as many; both buffers have room for 41.
        let answer = unsafe {
            zmq_curve_public(public.as_mut_ptr().cast::<c_char>(), secret.as_ptr().cast::<c_char>())
        };
        if answer != 0 {
            // SAFETY: `zmq_errno` has no preconditions.
            return Err(zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() }));
        }
        let text = std::str::from_utf8(&public[..Z85_CHARS]).map_err(|_| zmq::Error::EINVAL)?;
        text.parse().map_err(|_| zmq::Error::EINVAL)
    }

    /// As libzmq takes it.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// For a file that nobody else reads.
    pub fn to_z85(&self) -> String {
        encode(&self.0)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

fn encode(bytes: &[u8; KEY_BYTES]) -> String {
    let mut text = String::with_capacity(Z85_CHARS);
    for chunk in bytes.as_chunks::<4>().0 {
        let number = u32::from_be_bytes(*chunk);
        let digit = |power: u32| ALPHABET[(number / 85_u32.pow(power) % 85) as usize];
        text.extend((0..5).rev().map(|power| char::from(digit(power))));
    }
    text
}

fn decode(text: &str) -> Result<[u8; KEY_BYTES], KeyError> {
    if text.len() != Z85_CHARS {
        return Err(KeyError);
    }
    let mut bytes = [0; KEY_BYTES];
    for (chunk, chars) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(text.as_bytes().as_chunks::<5>().0) {
        let number = chars.iter().try_fold(0_u32, |number, char| {
            let digit = ALPHABET.iter().position(|known| known == char)?;
            number.checked_mul(85)?.checked_add(u32::try_from(digit).ok()?)
        });
        *chunk = number.ok_or(KeyError)?.to_be_bytes();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's pair of libzmq's own manual, zmq_curve(7).
    const PUBLIC: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
    const SECRET: &str = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";

    #[test]
    fn the_public_key_belongs_to_the_secret_one() {
        let secret: SecretKey = SECRET.parse().unwrap();
        assert_eq!(secret.public().unwrap().to_string(), PUBLIC);
        assert_eq!(secret.to_z85(), SECRET);
        assert!(!format!("{secret:?}").contains(&SECRET[..5]));
        let (one, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        assert_ne!(one.public().unwrap(), other.public().unwrap());
    }

    #[test]
    fn z85_is_libzmqs() {
        for n in 0..=255_u8 {
            let mut bytes = [n; KEY_BYTES];
            bytes[usize::from(n) % KEY_BYTES] = n.wrapping_mul(31);
            let text = encode(&bytes);
            assert_eq!(text, zmq::z85_encode(&bytes).unwrap());
            assert_eq!(decode(&text), Ok(bytes));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = format!("{PUBLIC}x");
        let beyond_u32 = format!("#####{}", &PUBLIC[5..]);
        let umlaut = format!("ä{}", &PUBLIC[2..]);
        for text in ["", &PUBLIC[1..], &long, &beyond_u32, &umlaut, &PUBLIC.replace('r', " ")] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError), "{text}");
        }
    }
}
