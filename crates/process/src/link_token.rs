//! The link token: a secret that the processes of an installation share and private ports ask for.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use crate::exit::Exit;

/// A shorter token is a mistake or soon guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// The secret. It never appears in logs.
#[derive(Clone)]
pub struct LinkToken(Arc<str>);

impl fmt::Debug for LinkToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkToken(…)")
    }
}

impl LinkToken {
    /// Reads the token from a file: one line of at least 16 visible ASCII characters; white space around it is ignored.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names `flag` and the file.
    pub fn read(flag: &str, path: &Path) -> Result<Self, Exit> {
        let refuse = |reason: &dyn fmt::Display| Exit::usage(format!("{flag} {}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refuse(&error))?;
        let token = text.trim();
        if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refuse(&format_args!(
                "no token; write one line of at least {TOKEN_BYTES_MIN} visible ASCII characters"
            )));
        }
        Ok(Self(token.into()))
    }

    /// Whether the value of an `authorization` header is `Bearer` and this token.
    pub fn is_presented(&self, header: &[u8]) -> bool {
        // RFC 9110 §11.1: the scheme's case does not matter.
        header.split_at_checked(b"Bearer ".len()).is_some_and(|(scheme, token)| {
            // Compared in constant time: how long it takes tells nothing of where a guess goes wrong.
            scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(token.ct_eq(self.0.as_bytes()))
        })
    }

    /// The value of an `authorization` header that presents it: visible ASCII and a space.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use super::*;

    pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

    pub(crate) fn read(content: &[u8]) -> Result<LinkToken, Exit> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        LinkToken::read("--link-token-file", file.path())
    }

    #[test]
    fn only_the_token_is_taken() {
        let token = read(format!("{SECRET}\n").as_bytes()).unwrap();
        assert!(token.is_presented(token.header().as_bytes()));
        assert!(token.is_presented(format!("bearer {SECRET}").as_bytes()));
        let short = format!("Bearer {}", &SECRET[1..]);
        for header in ["", "Bearer ", SECRET, &short, "Basic x"] {
            assert!(!token.is_presented(header.as_bytes()), "{header:?}");
        }
    }

    #[test]
    fn a_file_without_a_token_is_refused_by_name() {
        for content in [&b""[..], b"\n", b"short", b"two words in one line", b"\xff\xff"] {
            let error = read(content).unwrap_err();
            assert!(error.reason.starts_with("--link-token-file /"), "{error}");
            assert_eq!(error.code, crate::exit::USAGE);
        }
        assert!(LinkToken::read("--link-token-file", Path::new("/none")).is_err());
        assert!(!format!("{:?}", read(SECRET.as_bytes()).unwrap()).contains(SECRET));
    }
}
