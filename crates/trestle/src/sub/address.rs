//! Where an edge is, as a URL that people type.

use std::str::FromStr;

use tokio_tungstenite::tungstenite::http::Uri;

/// Where the edge speaks WebSocket if nobody says another path.
const PATH: &str = "/ws";

/// A WebSocket's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// As `ws://` or `wss://`.
    pub(super) uri: Uri,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write ws://HOST:PORT, wss://HOST:PORT, http://… or https://…";
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("no URL; {FORM}, and prefixes of topics behind it"));
        };
        let (scheme, is_tls) = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => ("ws", false),
            "wss" | "https" => ("wss", true),
            "tcp" | "ipc" => {
                return Err(format!("a ØMQ endpoint: this client speaks to an edge's WebSocket; {FORM}"));
            }
            other => return Err(format!("unknown scheme {other}://; {FORM}")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = match path.strip_prefix('/').unwrap_or(path) {
            query if query.is_empty() || query.starts_with('?') => format!("{PATH}{query}"),
            _ => path.to_owned(),
        };
        if authority.contains('@') {
            return Err("user and password in a URL are not supported".to_owned());
        }
        let uri: Uri =
            format!("{scheme}://{authority}{path}").parse().map_err(|error| format!("{error}; {FORM}"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let port = match uri.port_u16() {
            Some(0) => None,
            None if has_port => None,
            None => Some(if is_tls { 443 } else { 80 }),
            port => port,
        };
        if host.is_empty() {
            return Err(format!("names no host; {FORM}"));
        }
        let port = port.ok_or_else(|| "its port must be 1 to 65535".to_owned())?;
        Ok(Self { uri, host, port, is_tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        for (text, uri, host, port) in [
            ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080/ws", "127.0.0.1", 8080),
            ("http://localhost:8080/", "ws://localhost:8080/ws", "localhost", 8080),
            ("https://example.org", "wss://example.org/ws", "example.org", 443),
            ("WSS://example.org/feed/live", "wss://example.org/feed/live", "example.org", 443),
            ("ws://[::1]:9/ws", "ws://[::1]:9/ws", "::1", 9),
            ("ws://[::1]", "ws://[::1]/ws", "::1", 80),
            ("http://a?topic=x#part", "ws://a/ws?topic=x", "a", 80),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.uri.to_string().as_str(), &*address.host, address.port),
                (uri, host, port),
                "{text}"
            );
            assert_eq!(address.is_tls, uri.starts_with("wss"));
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, why) in [
            ("jobs/", "no URL; write ws://HOST:PORT"),
            ("localhost:8080", "no URL"),
            ("ftp://a", "unknown scheme ftp://"),
            ("tcp://a:5556", "a ØMQ endpoint"),
            ("ws://", "ws://HOST:PORT"),
            ("ws:///ws", "ws://HOST:PORT"),
            ("ws://a:0", "port"),
            ("ws://a:99999", "port"),
            ("ws://a:x", "port"),
            ("ws://a:", "port"),
            ("ws://me:secret@a", "user and password"),
            ("ws://a b", "ws://HOST:PORT"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
