//! A publisher to connect to, as typed: `[ALIAS=]ENDPOINT[,curve=KEY]`.

use std::fmt;
use std::str::FromStr;

use crate::curve::ServerKey;

/// An endpoint that ØMQ can connect to: `tcp://HOST:PORT` or `ipc://PATH`, and perhaps whose key it must prove to have:
/// `,curve=KEY` or `,curve-file=FILE`. Shown without the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    address: String,
    server: Option<ServerKey>,
}

/// Why a text is no endpoint or source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Neither `tcp://` nor `ipc://` begins it.
    #[error("write tcp://HOST:PORT or ipc://PATH")]
    Scheme,
    /// The host is missing or `*`, or the port is missing, 0 or above 65535.
    #[error("write tcp://HOST:PORT with a port of 1 to 65535")]
    Address,
    /// Something stands before `=`, but it is empty or holds a NUL.
    #[error("an alias is a topic: not empty, and without a NUL byte")]
    Alias,
    /// No public key follows `,curve=`, or no path `,curve-file=`.
    #[error(
        "behind ,curve= write the server's public key, 40 characters of Z85, or behind ,curve-file= its file"
    )]
    ServerKey,
}

impl FromStr for Endpoint {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        // libzmq stops reading at a NUL.
        if text.contains('\0') {
            return Err(SourceError::Address);
        }
        let (text, server) = ServerKey::split(text).map_err(|_| SourceError::ServerKey)?;
        match text.split_once("://") {
            Some(("ipc", path)) if !path.is_empty() => {}
            Some(("tcp", address)) => {
                let (host, port) = address.rsplit_once(':').ok_or(SourceError::Address)?;
                let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
                if host.is_empty() || host == "*" || !is_port {
                    return Err(SourceError::Address);
                }
            }
            _ => return Err(SourceError::Scheme),
        }
        Ok(Self { address: text.to_owned(), server })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl Endpoint {
    /// As libzmq takes it.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// Whose key it must prove to have; `None` is plain ØMQ.
    pub fn server(&self) -> Option<&ServerKey> {
        self.server.as_ref()
    }
}

/// A publisher that binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The topic of everything it sends; without one its own first frames are topics. It holds no NUL, with which the
    /// topics reserved for Trestle begin.
    pub alias: Option<Vec<u8>>,
    /// Where it listens.
    pub endpoint: Endpoint,
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        // A path behind `ipc://` may have a `=` of its own.
        let scheme_end = text.find("://").ok_or(SourceError::Scheme)?;
        let Some(equals) = text[..scheme_end].rfind('=') else {
            return Ok(Self { alias: None, endpoint: text.parse()? });
        };
        let alias = &text.as_bytes()[..equals];
        if alias.is_empty() || alias.contains(&0) {
            return Err(SourceError::Alias);
        }
        Ok(Self { alias: Some(alias.to_vec()), endpoint: text[equals + 1..].parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        let source = |text: &str| {
            let source: Source = text.parse()?;
            Ok((source.alias.map(|alias| String::from_utf8(alias).unwrap()), source.endpoint.to_string()))
        };
        for (text, alias, endpoint) in [
            ("tcp://zmq-pub:5556", None, "tcp://zmq-pub:5556"),
            ("tcp://[::1]:5556", None, "tcp://[::1]:5556"),
            ("ipc:///tmp/a=b", None, "ipc:///tmp/a=b"),
            ("eddn=tcp://eddn.edcd.io:9500", Some("eddn"), "tcp://eddn.edcd.io:9500"),
            ("a=b=ipc:///x", Some("a=b"), "ipc:///x"),
            ("a=tcp://x:1,curve=rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", Some("a"), "tcp://x:1"),
            ("tcp://x:1,curve-file=x.key", None, "tcp://x:1"),
        ] {
            assert_eq!(source(text), Ok((alias.map(str::to_owned), endpoint.to_owned())), "{text}");
        }
        for (text, error) in [
            ("zmq-pub:5556", SourceError::Scheme),
            ("http://x:1", SourceError::Scheme),
            ("ipc://", SourceError::Scheme),
            ("tcp://x", SourceError::Address),
            ("tcp://x:0", SourceError::Address),
            ("tcp://*:1", SourceError::Address),
            ("tcp://x:99999", SourceError::Address),
            ("tcp://x\0:1", SourceError::Address),
            ("tcp://x:1,curve=short", SourceError::ServerKey),
            ("=tcp://x:1", SourceError::Alias),
            ("\0trestle=tcp://x:1", SourceError::Alias),
        ] {
            assert_eq!(source(text), Err(error), "{text}");
        }
    }
}
