//! Which server the clients connect to, and what they say there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use trestle_process::exit::Exit;

use crate::flags::{Clients, Format};
use crate::frames::client_frame;
use crate::pattern::{Pattern, unescape};

const WS_PORT: u16 = 80;
/// Clients that share a source address on loopback, so that each has its own port out of about 28,000.
const CLIENTS_PER_ADDRESS: u64 = 1_000;
/// The nonce of RFC 6455's own example and what it must be answered with (§1.3): one for all, nothing is cached here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server must answer that nonce with.
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A `ws://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
    /// With the query, at least `/`.
    path: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("ws", rest)) => rest,
            Some(("wss", _)) => {
                return Err(
                    "wss:// is not supported: TLS would be measured with it; put the load on the plain \
                            port behind the proxy"
                        .to_owned(),
                );
            }
            _ => return Err("write ws://HOST:PORT/PATH".to_owned()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if let Some(bad) = path.chars().find(|&char| !char.is_ascii_graphic() || char == '#') {
            return Err(format!("{bad:?} must not stand in its path"));
        }
        // The colon of a port stands behind an IPv6 address's bracket.
        let port_at =
            authority.rfind(':').filter(|&colon| authority.rfind(']').is_none_or(|end| end < colon));
        let (host, port) = match port_at {
            Some(colon) => {
                let port = authority[colon + 1..].parse().ok().filter(|&port| port != 0);
                (&authority[..colon], port.ok_or("its port must be 1 to 65535")?)
            }
            None => (authority, WS_PORT),
        };
        if host.is_empty()
            || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte))
        {
            return Err("write ws://HOST:PORT/PATH".to_owned());
        }
        Ok(Self { host: host.to_owned(), port, path })
    }
}

impl Url {
    /// Of a server of the run's own.
    pub fn local(address: SocketAddr, path: &str) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), path: path.to_owned() }
    }

    /// As it was typed, with the port.
    pub fn text(&self) -> String {
        format!("ws://{}:{}{}", self.host, self.port, self.path)
    }

    /// Looks the name up; an IPv4 address is preferred.
    ///
    /// # Errors
    /// An [`Exit`] with code 69.
    pub fn resolve(&self) -> Result<SocketAddr, Exit> {
        resolve(&self.host, self.port)
    }
}

/// The address of a name.
///
/// # Errors
/// An [`Exit`] with code 69 that names the host.
pub fn resolve(host: &str, port: u16) -> Result<SocketAddr, Exit> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found = (name, port).to_socket_addrs();
    let mut found: Vec<_> =
        found.map_err(|error| Exit::unavailable(format!("{host}:{port}: {error}")))?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| Exit::unavailable(format!("{host}:{port}: has no address")))
}

/// Where client `number` connects from, if that is to be chosen: on loopback the source addresses are spread over
/// 127.0.0.0/8, because one address has ports for fewer clients than a machine has memory for.
pub fn source_address(server: SocketAddr, number: u64) -> Option<SocketAddr> {
    let IpAddr::V4(ip) = server.ip() else { return None };
    ip.is_loopback().then(|| {
        let nth = u32::try_from(number / CLIENTS_PER_ADDRESS).expect("far fewer clients");
        // 127.1.0.1 and on: nobody else's.
        SocketAddr::new(Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + nth).into(), 0)
    })
}

/// What WebSocket clients say.
#[derive(Debug, Clone)]
pub struct Target {
    url: Url,
    path: Pattern,
    /// Each client's topic.
    pub topic: Pattern,
    subprotocol: Option<String>,
    headers: Vec<String>,
    /// Opcode and payload.
    sends: Vec<(u8, Pattern)>,
    /// A client is ready when this has come.
    pub wait_for: Option<Vec<u8>>,
}

impl Target {
    /// What the flags say about `url`, filled up with what `--format` implies.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag.
    pub fn new(url: Url, flags: &Clients, topic: Pattern) -> Result<Self, Exit> {
        let preset = Preset::of(flags.format);
        let path = match preset.query {
            Some(query) if !url.path.contains('?') => format!("{}{query}", url.path),
            _ => url.path.clone(),
        };
        let sends = match &flags.send[..] {
            [] => preset.send.iter().map(|&text| send(text)).collect(),
            sends => sends.iter().map(|text| send(text)).collect::<Result<_, _>>(),
        };
        let wait_for = flags.wait_for.as_deref().or(preset.wait_for).map(unescape).transpose();
        Ok(Self {
            path: Pattern::new(&path),
            url,
            topic,
            subprotocol: flags.subprotocol.clone().or(preset.subprotocol.map(str::to_owned)),
            headers: flags.header.clone(),
            sends: sends.map_err(|reason: String| Exit::usage(format!("--send: {reason}")))?,
            wait_for: wait_for.map_err(|reason| Exit::usage(format!("--wait-for: {reason}")))?,
        })
    }

    /// The same in format `trestle.v1.json`, but resuming behind `position`, as a server gave it.
    ///
    /// # Errors
    /// An [`Exit`] with code 69 if no server should give such a position.
    pub fn resuming(&self, position: &str) -> Result<Self, Exit> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:=+/".contains(&byte);
        if !position.bytes().all(is_plain) {
            return Err(Exit::unavailable(format!("a position that must be escaped: {position:?}")));
        }
        let text = format!(r#"{{"id":1,"subscribe":{{"topics":["{{t}}"],"since":"{position}"}}}}"#);
        Ok(Self { sends: vec![(1, Pattern::new(&text))], ..self.clone() })
    }

    /// The handshake's request (RFC 6455 §4.1) of one client.
    pub fn request(&self, number: u64) -> Vec<u8> {
        let Url { host, port, .. } = &self.url;
        let path = self.path.fill(number, &self.topic(number));
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
        );
        if let Some(name) = &self.subprotocol {
            request.push_str(&format!("Sec-WebSocket-Protocol: {name}\r\n"));
        }
        for header in &self.headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        request.into_bytes()
    }

    /// The frames that one client sends after the handshake.
    pub fn subscribe(&self, number: u64) -> Vec<u8> {
        let topic = self.topic(number);
        let frame = |(opcode, pattern): &(u8, Pattern)| {
            let payload = unescape(&pattern.fill(number, &topic)).expect("checked when it was read");
            client_frame(*opcode, &payload)
        };
        self.sends.iter().flat_map(frame).collect()
    }

    fn topic(&self, number: u64) -> String {
        self.topic.fill(number, "")
    }
}

/// What a format implies where no flag says otherwise.
struct Preset {
    query: Option<&'static str>,
    subprotocol: Option<&'static str>,
    send: &'static [&'static str],
    wait_for: Option<&'static str>,
}

impl Preset {
    fn of(format: Format) -> Self {
        let nothing = Self { query: None, subprotocol: None, send: &[], wait_for: None };
        match format {
            Format::Raw => nothing,
            Format::RustWebsocket | Format::Proto => {
                Self { query: Some("?topic={t}"), subprotocol: Some(format.name()), ..nothing }
            }
            Format::Json => Self {
                subprotocol: Some("trestle.v1.json"),
                send: &[r#"text:{"id":1,"subscribe":{"topics":["{t}"]}}"#],
                wait_for: Some(r#""subscribed""#),
                ..nothing
            },
        }
    }
}

fn send(text: &str) -> Result<(u8, Pattern), String> {
    let (opcode, data) = match text.split_once(':') {
        Some(("text", data)) => (1, data),
        Some(("binary" | "bin", data)) => (2, data),
        _ => return Err("write text:… or binary:…".to_owned()),
    };
    unescape(data)?;
    Ok((opcode, Pattern::new(data)))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        clients: Clients,
    }

    fn target(url: &str, flags: &[&str]) -> Result<Target, String> {
        let flags = Flags::parse_from([&["bench"], flags].concat());
        Target::new(url.parse()?, &flags.clients, Pattern::new("c{i:05}")).map_err(|exit| exit.reason)
    }

    #[test]
    fn urls() {
        let parse = |text: &str| text.parse::<Url>().map(|url| url.text());
        assert_eq!(parse("ws://127.0.0.1:8080/ws?a=b").unwrap(), "ws://127.0.0.1:8080/ws?a=b");
        assert_eq!(parse("ws://localhost").unwrap(), "ws://localhost:80/");
        assert_eq!(parse("ws://[::1]:9000?x").unwrap(), "ws://[::1]:9000/?x");
        assert_eq!(parse("ws://[::1]").unwrap(), "ws://[::1]:80/");
        assert!(parse("wss://a/").unwrap_err().contains("not supported"));
        for bad in [
            "http://a",
            "a:1",
            "ws://",
            "ws://a:0",
            "ws://a:b",
            "ws://a b/",
            "ws://a/ b",
            "ws://u@a/",
            "ws://a/#x",
        ] {
            parse(bad).unwrap_err();
        }
    }

    #[test]
    fn presets_and_what_replaces_them() {
        let text = |target: &Target| String::from_utf8(target.request(7)).unwrap();
        let raw = target("ws://h:1/x?i={i}", &["--format", "raw", "--header", "Origin: http://o"]).unwrap();
        assert!(
            text(&raw).starts_with("GET /x?i=7 HTTP/1.1\r\nHost: h:1\r\n")
                && text(&raw).contains("Origin: http://o\r\n")
        );
        assert!(!text(&raw).contains("Protocol") && raw.subscribe(7).is_empty() && raw.wait_for.is_none());

        let original = target("ws://h:1/ws", &["--format", "rust-websocket"]).unwrap();
        assert!(text(&original).starts_with("GET /ws?topic=c00007 HTTP"));
        let queried = target("ws://h:1/ws?topic=x", &["--format", "rust-websocket"]).unwrap();
        assert!(text(&queried).starts_with("GET /ws?topic=x HTTP"));

        let proto = target("ws://h:1/ws", &["--format", "trestle.v1.proto"]).unwrap();
        assert!(
            text(&proto).starts_with("GET /ws?topic=c00007 HTTP")
                && text(&proto).contains("trestle.v1.proto\r\n")
        );

        let json = target("ws://h:1/ws", &[]).unwrap();
        let command = br#"{"id":1,"subscribe":{"topics":["c00007"]}}"#;
        assert_eq!(json.subscribe(7), client_frame(1, command));
        let other = target(
            "ws://h:1/",
            &[
                "--subprotocol",
                "p",
                "--send",
                r"binary:SUB {t}\r\n",
                "--send",
                "text:x",
                "--wait-for",
                r"\x01",
            ],
        );
        let other = other.unwrap();
        assert_eq!(other.subscribe(7), [client_frame(2, b"SUB c00007\r\n"), client_frame(1, b"x")].concat());
        assert_eq!(other.wait_for.as_deref(), Some(&[1][..]));
        assert!(text(&other).contains("Sec-WebSocket-Protocol: p\r\n"));

        let resuming = json.resuming("AQ-1_2").unwrap();
        let command = br#"{"id":1,"subscribe":{"topics":["c00007"],"since":"AQ-1_2"}}"#;
        assert_eq!(resuming.subscribe(7), client_frame(1, command));
        assert!(json.resuming("\"").unwrap_err().reason.contains("escaped"));

        assert!(target("ws://h:1/", &["--send", "x"]).unwrap_err().starts_with("--send: "));
        assert!(target("ws://h:1/", &["--wait-for", r"\x1"]).unwrap_err().starts_with("--wait-for: "));
    }

    #[test]
    fn sources_on_loopback_are_spread() {
        let server: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let from = |number| source_address(server, number).unwrap().ip().to_string();
        assert_eq!(
            (from(0), from(999), from(1_000)),
            ("127.1.0.1".to_owned(), "127.1.0.1".to_owned(), "127.1.0.2".to_owned())
        );
        assert_eq!(from(CLIENTS_PER_ADDRESS * 255), "127.1.1.0");
        assert_eq!(source_address("192.0.2.1:80".parse().unwrap(), 0), None);
        assert_eq!(source_address("[::1]:80".parse().unwrap(), 0), None);
    }
}
