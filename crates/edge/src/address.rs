//! Whose request it is where proxies stand between: the address that limits count and logs name.
//!
//! `X-Forwarded-For` is read from trusted proxies alone. `Forwarded` (RFC 7239) is not read at all: nginx does not write it,
//! so what stands there is what the client wrote, and of two headers that disagree one would be believed wrongly.

use std::net::{IpAddr, Ipv6Addr};

use hyper::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// So much of an IPv6 address is one subscriber's (RFC 6177); with the rest it may do as it likes.
const SITE_BITS: u32 = 64;

/// The networks whose word about a client's address is taken (`--trusted-proxy`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies(Box<[IpNet]>);

impl Proxies {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether it is a proxy's, behind which there are many clients.
    pub(crate) fn trust(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }

    /// The client of a request that came from `peer`: the nearest address that is no trusted proxy's. Each proxy has written
    /// at the right whom it had the request from; left of the first who is not trusted anybody may have written anything.
    /// Where an entry is no address it is the proxy that passed it on.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
                if !self.trust(client) {
                    return client;
                }
                let Some(address) = str::from_utf8(entry).ok().and_then(address_of) else { return client };
                client = address.to_canonical();
            }
        }
        client
    }
}

/// An address as proxies write it: with a port or without, IPv6 in brackets or not, perhaps in quotes.
fn address_of(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim_ascii();
    let entry = entry.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(entry);
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    if let Some(bracketed) = entry.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        let is_end = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| is_end).map(IpAddr::V6);
    }
    entry.parse().ok().or_else(|| {
        let (address, port) = entry.split_once(':')?;
        address.parse().ok().filter(|address: &IpAddr| address.is_ipv4() && is_port(port))
    })
}

/// Where a client is, as limits count it: an IPv4 address, or a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Site(IpAddr);

impl From<IpAddr> for Site {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> (128 - SITE_BITS) << (128 - SITE_BITS);
                Self(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
            address => Self(address),
        }
    }
}

/// A network as typed: 10.0.0.0/8, or one address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
    let network = text.parse::<IpNet>().ok().or_else(one);
    network
        .map(|network| network.trunc())
        .ok_or_else(|| "write 10.0.0.0/8, fd00::/8 or an address".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(networks: &[&str]) -> Proxies {
        let networks: Vec<_> = networks.iter().map(|text| network(text).unwrap()).collect();
        Proxies::new(&networks)
    }

    fn client(proxies: &Proxies, peer: &str, lines: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, hyper::header::HeaderValue::from_bytes(line).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_table_of_peers_and_headers() {
        let none = proxies(&[]);
        let inside = proxies(&["10.0.0.0/8", "fd00::/8", "127.0.0.1"]);
        for (proxies, peer, lines, expected) in [
            (&none, "10.0.0.1", &[&b"203.0.113.9"[..]][..], "10.0.0.1"),
            (&inside, "203.0.113.1", &[b"203.0.113.9"], "203.0.113.1"),
            (&inside, "10.0.0.1", &[], "10.0.0.1"),
            (&inside, "10.0.0.1", &[b"203.0.113.9"], "203.0.113.9"),
            // What the client wrote stands left of what the proxy did.
            (&inside, "10.0.0.1", &[b"198.51.100.7, 203.0.113.9"], "203.0.113.9"),
            (&inside, "10.0.0.1", &[b"198.51.100.7", b"203.0.113.9"], "203.0.113.9"),
            (&inside, "10.0.0.1", &[b"203.0.113.9", b"10.0.0.2, 10.0.0.3"], "203.0.113.9"),
            (&inside, "10.0.0.1", &[b"203.0.113.9,10.0.0.2 , 127.0.0.1"], "203.0.113.9"),
            // All of them are proxies: the farthest.
            (&inside, "10.0.0.1", &[b"10.0.0.9, 10.0.0.2"], "10.0.0.9"),
            // Garbage is nobody: the proxy that passed it on is.
            (&inside, "10.0.0.1", &[b"203.0.113.9, unknown"], "10.0.0.1"),
            (&inside, "10.0.0.1", &[b"203.0.113.9, , 10.0.0.2"], "10.0.0.2"),
            (&inside, "10.0.0.1", &[b""], "10.0.0.1"),
            (&inside, "10.0.0.1", &[b"\xff\xfe"], "10.0.0.1"),
            (&inside, "10.0.0.1", &[b"203.0.113.9:x"], "10.0.0.1"),
            (&inside, "10.0.0.1", &[b"203.0.113.9:99999"], "10.0.0.1"),
            (&inside, "10.0.0.1", &[b"203.0.113.9:4711"], "203.0.113.9"),
            (&inside, "fd00::1", &[b"[2001:db8::7]:4711"], "2001:db8::7"),
            (&inside, "fd00::1", &[b"[2001:db8::7]"], "2001:db8::7"),
            (&inside, "fd00::1", &[b"\"[2001:db8::7]:80\""], "2001:db8::7"),
            (&inside, "fd00::1", &[b"2001:db8::7"], "2001:db8::7"),
            (&inside, "fd00::1", &[b"[2001:db8::7"], "fd00::1"),
            (&inside, "fd00::1", &[b"[2001:db8::7]x"], "fd00::1"),
            (&inside, "fd00::1", &[b"[203.0.113.9]"], "fd00::1"),
            (&inside, "fd00::1", &[b"fe80::1%eth0"], "fd00::1"),
            // IPv4 on a socket of both kinds.
            (&inside, "::ffff:10.0.0.1", &[b"::ffff:203.0.113.9"], "203.0.113.9"),
            (&inside, "::ffff:203.0.113.1", &[b"203.0.113.9"], "203.0.113.1"),
        ] {
            assert_eq!(client(proxies, peer, lines), expected, "{peer} {lines:?}");
        }
    }

    proptest! {
        /// Whatever a client writes, what the proxy appends is whom it had the request from.
        #[test]
        fn a_client_cannot_be_somebody_else(claims in proptest::collection::vec("[ -~]{0,40}", 0..4), address: u32) {
            let address = IpAddr::from(address.to_be_bytes());
            let proxies = proxies(&["fd00::/8"]);
            let appended = format!("{}, {address}", claims.last().map_or("", String::as_str));
            let mut lines: Vec<_> = claims.iter().map(|claim| claim.as_bytes()).collect();
            lines.pop();
            lines.push(appended.as_bytes());
            prop_assert_eq!(client(&proxies, "fd00::1", &lines), address.to_string());
        }
    }

    #[test]
    fn a_site_is_an_address_or_a_64() {
        let site = |text: &str| Site::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(site("2001:db8:0:1::1"), site("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(site("2001:db8:0:1::1"), site("2001:db8:0:2::1"));
        assert_eq!(site("::ffff:203.0.113.9"), site("203.0.113.9"));
        assert_ne!(site("::ffff:203.0.113.9"), site("::ffff:203.0.113.8"));
    }

    #[test]
    fn a_network_is_typed_with_or_without_its_length() {
        for (text, expected) in
            [("10.1.2.3/8", "10.0.0.0/8"), ("::1", "::1/128"), ("127.0.0.1", "127.0.0.1/32")]
        {
            assert_eq!(network(text).unwrap().to_string(), expected);
        }
        for text in ["", "nginx", "10.0.0.0/33", "10.0.0.0/"] {
            assert!(network(text).unwrap_err().contains("10.0.0.0/8"), "{text}");
        }
    }
}
