//! The link token: what private gRPC services ask of their callers, and what these present.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::{Interceptor, InterceptorLayer};
use tonic::{Request, Status};

use crate::exit::Exit;

/// A shorter token is a mistake or soon guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// The secret that the processes of an installation share. It never appears in logs.
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

    fn is_presented(&self, metadata: &MetadataMap) -> bool {
        let header = metadata.get("authorization").map_or(&b""[..], |value| value.as_bytes());
        // RFC 9110 §11.1: the scheme's case does not matter.
        header.split_at_checked(b"Bearer ".len()).is_some_and(|(scheme, token)| {
            // Compared in constant time: how long it takes tells nothing of where a guess goes wrong.
            scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(token.ct_eq(self.0.as_bytes()))
        })
    }
}

/// Answers `UNAUTHENTICATED` to callers without the token; without a token it lets all pass.
#[derive(Debug, Clone)]
pub struct Guard(Option<LinkToken>);

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match &self.0 {
            Some(token) if !token.is_presented(request.metadata()) => Err(Status::unauthenticated(
                "the link token is missing or wrong: authorization: Bearer TOKEN",
            )),
            _ => Ok(request),
        }
    }
}

/// A layer for `tonic::transport::Server`, so that it guards every service, health and reflection included.
pub fn guard(token: Option<LinkToken>) -> InterceptorLayer<Guard> {
    InterceptorLayer::new(Guard(token))
}

/// Presents the link token with each call.
#[derive(Clone)]
pub struct Presenter(Option<MetadataValue<Ascii>>);

impl Interceptor for Presenter {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// For a client whose server has a [`guard`]; without a token calls go as they are.
pub fn presenter(token: Option<&LinkToken>) -> Presenter {
    Presenter(token.map(|LinkToken(token)| {
        let mut header =
            MetadataValue::try_from(format!("Bearer {token}")).expect("a token is visible ASCII");
        header.set_sensitive(true);
        header
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn read(content: &[u8]) -> Result<LinkToken, Exit> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        LinkToken::read("--link-token-file", file.path())
    }

    fn passes(guard: &mut Guard, header: Option<&str>) -> bool {
        let mut request = Request::new(());
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        guard.call(request).is_ok()
    }

    #[test]
    fn only_who_presents_the_token_passes() {
        let mut guard = Guard(Some(read(format!("{SECRET}\n").as_bytes()).unwrap()));
        assert!(passes(&mut guard, Some(&format!("Bearer {SECRET}"))));
        assert!(passes(&mut guard, Some(&format!("bearer {SECRET}"))));
        let short = format!("Bearer {}", &SECRET[1..]);
        for header in [None, Some(""), Some("Bearer "), Some(SECRET), Some(&short[..]), Some("Basic x")] {
            assert!(!passes(&mut guard, header), "{header:?}");
        }
        assert!(passes(&mut Guard(None), None), "where no token is configured");
    }

    #[test]
    fn what_is_presented_passes() {
        let token = read(SECRET.as_bytes()).unwrap();
        let request = presenter(Some(&token)).call(Request::new(())).unwrap();
        assert!(guard_of(&token).call(request).is_ok());
        let request = presenter(None).call(Request::new(())).unwrap();
        assert!(guard_of(&token).call(request).is_err());
    }

    fn guard_of(token: &LinkToken) -> Guard {
        Guard(Some(token.clone()))
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
