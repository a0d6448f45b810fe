//! What an ingest connects to, as typed on the command line.

use std::fmt;
use std::str::FromStr;

/// An endpoint that ØMQ can connect to: `tcp://HOST:PORT` or `ipc://PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither `tcp://` nor `ipc://` begins it.
    #[error("write tcp://HOST:PORT or ipc://PATH")]
    Scheme,
    /// The port is missing, 0 or above 65535, or the host is missing.
    #[error("write tcp://HOST:PORT with a port of 1 to 65535")]
    Address,
    /// Something stands before `=`, but it is empty or reserved.
    #[error("an alias is a topic: not empty, and not beginning with \\0trestle")]
    Alias,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        // libzmq stops reading at a NUL.
        if text.contains('\0') {
            return Err(EndpointError::Address);
        }
        match text.split_once("://") {
            Some(("ipc", path)) if !path.is_empty() => {}
            Some(("tcp", address)) => {
                let (host, port) = address.rsplit_once(':').ok_or(EndpointError::Address)?;
                let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
                if host.is_empty() || host == "*" || !is_port {
                    return Err(EndpointError::Address);
                }
            }
            _ => return Err(EndpointError::Scheme),
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Endpoint {
    /// As libzmq takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A publisher to connect to, `[ALIAS=]ENDPOINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The topic of everything it sends, put in front; without one its own first frames are topics.
    pub alias: Option<Vec<u8>>,
    /// Where it listens.
    pub endpoint: Endpoint,
}

impl FromStr for Source {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        // A path behind `ipc://` may have a `=` of its own.
        let scheme_end = text.find("://").ok_or(EndpointError::Scheme)?;
        let Some(equals) = text[..scheme_end].rfind('=') else {
            return Ok(Self { alias: None, endpoint: text.parse()? });
        };
        let alias = text[..equals].as_bytes();
        if alias.is_empty() || trestle_messages::topic::is_reserved(alias) {
            return Err(EndpointError::Alias);
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
        let plain = |endpoint: &str| Ok((None, endpoint.to_owned()));
        let aliased = |alias: &str, endpoint: &str| Ok((Some(alias.to_owned()), endpoint.to_owned()));
        assert_eq!(source("tcp://zmq-pub:5556"), plain("tcp://zmq-pub:5556"));
        assert_eq!(source("tcp://[::1]:5556"), plain("tcp://[::1]:5556"));
        assert_eq!(source("ipc:///tmp/a=b"), plain("ipc:///tmp/a=b"));
        assert_eq!(source("eddn=tcp://eddn.edcd.io:9500"), aliased("eddn", "tcp://eddn.edcd.io:9500"));
        assert_eq!(source("a=b=ipc:///x"), aliased("a=b", "ipc:///x"));
        for (text, error) in [
            ("zmq-pub:5556", EndpointError::Scheme),
            ("http://x:1", EndpointError::Scheme),
            ("ipc://", EndpointError::Scheme),
            ("tcp://x", EndpointError::Address),
            ("tcp://x:0", EndpointError::Address),
            ("tcp://*:1", EndpointError::Address),
            ("tcp://x:99999", EndpointError::Address),
            ("tcp://x\0:1", EndpointError::Address),
            ("=tcp://x:1", EndpointError::Alias),
            ("\0trestle=tcp://x:1", EndpointError::Alias),
        ] {
            assert_eq!(source(text), Err(error), "{text}");
        }
    }
}
