//! Whose pages may connect: what a browser says of the page that asks (RFC 6454), and what it is told in turn (CORS).
//!
//! A WebSocket is not bound by the same-origin policy, so without this any page on the internet could open one with its
//! visitor's cookies, or from within its visitor's network. Programs that are no browsers may say what they like.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HOST, HeaderMap,
    HeaderName, HeaderValue, ORIGIN, VARY,
};
use trestle_process::seldom::Seldom;

/// Of a request for which a browser sends no `Origin`, as same-origin GETs are (Fetch Metadata). No page can set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What a page may send beside the headers that any may.
const REQUEST_HEADERS: &str = "authorization, content-type, idempotency-key, last-event-id";
/// What a page may read beside the headers that any may.
const RESPONSE_HEADERS: &str = "retry-after";
/// A browser asks again after this, in seconds.
const MAX_AGE: &str = "600";

/// Pages that may connect, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Of the host that the request names, whatever the port.
    SameHost,
    /// All.
    Any,
    /// Those that have no origin: files, sandboxed frames, some redirects.
    Null,
    /// Of a host, or of all below it.
    Site(Site),
}

/// A host's pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Any where it was not typed.
    scheme: Option<String>,
    /// In lower case.
    host: String,
    /// The hosts below it instead.
    is_below: bool,
    /// Without a scheme any; with one the scheme's own.
    port: Option<u16>,
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write same-host, https://example.org, example.org, *.example.org for what is below it, null or *"
                .to_owned()
        };
        match text {
            "same-host" => return Ok(Self::SameHost),
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Null),
            _ if !text.is_ascii() => {
                return Err(
                    "write the name as browsers send it, for example xn--bcher-kva.example".to_owned()
                );
            }
            _ => {}
        }
        let lower = text.to_ascii_lowercase();
        let (scheme, authority) = match lower.split_once("://") {
            Some((scheme, authority)) => (Some(scheme), authority),
            None => (None, &lower[..]),
        };
        let (is_below, authority) = match authority.strip_prefix("*.") {
            Some(authority) => (true, authority),
            None => (false, authority),
        };
        let (host, port) = host_and_port(authority).ok_or_else(wrong)?;
        if scheme.is_some_and(|scheme| !is_scheme(scheme)) {
            return Err(wrong());
        }
        let default = scheme.and_then(default_port);
        let scheme = scheme.map(str::to_owned);
        Ok(Self::Site(Site {
            scheme,
            host: host.to_owned(),
            is_below,
            port: port.filter(|_| port != default),
        }))
    }
}

impl Site {
    fn has_host(&self, host: &str) -> bool {
        match self.is_below {
            true => {
                host.strip_suffix(&self.host[..]).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
            }
            false => host == self.host,
        }
    }

    fn has(&self, origin: &Origin<'_>) -> bool {
        let is_port = match &self.scheme {
            Some(scheme) => origin.scheme == scheme && origin.port == self.port,
            None => self.port.is_none_or(|port| origin.port == Some(port)),
        };
        is_port && self.has_host(origin.host)
    }
}

/// What `Origin` says of a page with one, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// None where it is the scheme's own.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = host_and_port(authority)?;
        let port = port.filter(|port| default_port(scheme) != Some(*port));
        is_scheme(scheme).then_some(Self { scheme, host, port })
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(end);
    let port = match rest.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?),
        None if rest.is_empty() => None,
        None => return None,
    };
    let is_of_host = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-._".contains(&byte) || end > 2 && b"[]:".contains(&byte)
    };
    let is_host =
        !host.is_empty() && host.bytes().all(is_of_host) && host.starts_with('[') == host.ends_with(']');
    is_host.then_some((host, port))
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// It names no origin, and one is required.
    Missing,
    /// What it names is none.
    Malformed,
    /// Pages from there may not connect.
    NotAllowed(String),
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => {
                f.write_str("a request from here names its page's origin: the Origin header is missing")
            }
            Self::Malformed => f.write_str("the Origin header names no origin"),
            Self::NotAllowed(origin) => write!(f, "pages from {origin} may not connect here"),
        }
    }
}

/// Who may connect.
#[derive(Debug)]
pub(crate) struct Origins {
    allowed: Box<[AllowedOrigin]>,
    /// A request without one is refused as well.
    is_required: bool,
    /// Pages from elsewhere may send their cookies along.
    with_cookies: bool,
    said: Mutex<Seldom>,
}

impl Origins {
    pub(crate) fn new(allowed: &[AllowedOrigin], is_required: bool, with_cookies: bool) -> Self {
        Self { allowed: allowed.into(), is_required, with_cookies, said: Mutex::default() }
    }

    /// Whether the page that asks may.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Foreign> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(origin), other) = (origins.next(), origins.next()) else {
            return self.check_unnamed(headers);
        };
        if other.is_some() {
            return Err(Foreign::Malformed);
        }
        let text = origin.to_str().map_err(|_| Foreign::Malformed)?.to_ascii_lowercase();
        let refused = || Foreign::NotAllowed(text.clone());
        // Of a file, Chromium says its scheme.
        if text == "null" || text == "file://" {
            let may = self
                .allowed
                .iter()
                .any(|allowed| matches!(allowed, AllowedOrigin::Null | AllowedOrigin::Any));
            return may.then_some(()).ok_or_else(refused);
        }
        let origin = Origin::parse(&text).ok_or(Foreign::Malformed)?;
        let host = host_of(headers);
        let may = self.allowed.iter().any(|allowed| match allowed {
            AllowedOrigin::Any => true,
            AllowedOrigin::Null => false,
            AllowedOrigin::SameHost => host.as_deref() == Some(origin.host),
            AllowedOrigin::Site(site) => site.has(&origin),
        });
        may.then_some(()).ok_or_else(refused)
    }

    /// Tells the operator whose pages are refused: their visitors' browsers do not say why a WebSocket fails.
    pub(crate) fn say(&self, foreign: &Foreign) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Foreign::NotAllowed(origin) = foreign
            && let Some(unsaid) = said.say(Instant::now())
        {
            tracing::warn!(origin, unsaid, "pages from there are refused; --allow-origin would let them in");
        }
    }

    /// A browser that leaves `Origin` out may still say that the page is of the very host that it asks.
    fn check_unnamed(&self, headers: &HeaderMap) -> Result<(), Foreign> {
        let is_same = headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "same-origin");
        let Some(host) = host_of(headers).filter(|_| is_same) else {
            return if self.is_required { Err(Foreign::Missing) } else { Ok(()) };
        };
        let may = self.allowed.iter().any(|allowed| match allowed {
            AllowedOrigin::Any | AllowedOrigin::SameHost => true,
            AllowedOrigin::Null => false,
            AllowedOrigin::Site(site) => site.has_host(&host),
        });
        may.then_some(()).ok_or(Foreign::NotAllowed(host))
    }

    /// Lets the page that asked read the response, if it may; a cache keeps responses to different pages apart.
    pub(crate) fn share(&self, request: &HeaderMap, response: &mut HeaderMap) {
        response.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = request.get(ORIGIN).filter(|_| self.check(request).is_ok()) else { return };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
        if self.with_cookies {
            response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// What a page is told that asks before it sends what not any page may (a preflight), beside [`share`](Self::share).
    pub(crate) fn grant(response: &mut HeaderMap, method: &'static str) {
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(method));
        response.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
        response.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    }
}

/// The host that a request names, without its port, in lower case.
fn host_of(headers: &HeaderMap) -> Option<String> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, other) = (hosts.next()?, hosts.next());
    let host = host.to_str().ok().filter(|_| other.is_none())?.to_ascii_lowercase();
    host_and_port(&host).map(|(host, _)| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(allowed: &[&str], is_required: bool) -> Origins {
        let allowed: Vec<_> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Origins::new(&allowed, is_required, false)
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn check(allowed: &[&str], host: &str, origin: &str) -> Result<(), Foreign> {
        origins(allowed, false).check(&headers(&[("host", host), ("origin", origin)]))
    }

    #[test]
    fn a_table_of_what_is_allowed_and_who_asks() {
        const SAME: &[&str] = &["same-host"];
        for (allowed, host, origin, may) in [
            (SAME, "edge.example", "https://edge.example", true),
            (SAME, "edge.example:8080", "http://EDGE.example:3000", true),
            (SAME, "Edge.Example", "https://edge.example", true),
            (SAME, "[::1]:8080", "http://[::1]:3000", true),
            (SAME, "xn--bcher-kva.example", "https://XN--bcher-kva.example", true),
            (SAME, "edge.example", "https://other.example", false),
            (SAME, "edge.example", "https://edge.example.evil.example", false),
            (SAME, "edge.example", "https://evil-edge.example", false),
            (SAME, "edge.example", "null", false),
            (&["https://a.example"], "edge.example", "https://a.example", true),
            (&["https://A.Example:443"], "edge.example", "https://a.example", true),
            (&["https://a.example"], "edge.example", "http://a.example", false),
            (&["https://a.example"], "edge.example", "https://a.example:8443", false),
            (&["https://a.example:8443"], "edge.example", "https://a.example:8443", true),
            (&["https://a.example"], "edge.example", "https://edge.example", false),
            (&["https://a.example", "same-host"], "edge.example", "https://edge.example", true),
            (&["a.example"], "edge.example", "http://a.example:3000", true),
            (&["a.example:3000"], "edge.example", "http://a.example:3000", true),
            (&["a.example:3000"], "edge.example", "http://a.example", false),
            (&["*.example.org"], "edge.example", "https://a.example.org", true),
            (&["*.example.org"], "edge.example", "https://a.b.example.org:9", true),
            (&["*.example.org"], "edge.example", "https://example.org", false),
            (&["*.example.org"], "edge.example", "https://.example.org", false),
            (&["*.example.org"], "edge.example", "https://evilexample.org", false),
            (&["https://*.example.org"], "edge.example", "https://a.example.org", true),
            (&["https://*.example.org"], "edge.example", "http://a.example.org", false),
            (&["null"], "edge.example", "null", true),
            (&["null"], "edge.example", "file://", true),
            (SAME, "edge.example", "file://", false),
            (&["null"], "edge.example", "https://edge.example", false),
            (&["*"], "edge.example", "https://other.example", true),
            (&["*"], "edge.example", "NULL", true),
            (&["chrome-extension://abcdef"], "edge.example", "chrome-extension://abcdef", true),
        ] {
            assert_eq!(check(allowed, host, origin).is_ok(), may, "{allowed:?} {host} {origin}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_whatever_is_allowed() {
        for origin in [
            "",
            "edge.example",
            "https://",
            "https://a b",
            "https://a/",
            "https://a@b",
            "https://a:",
            "https://a:+1",
            "https://a:99999",
            "https://[::1",
            "https://a https://b",
            "://a",
            "https://a]",
        ] {
            assert_eq!(check(&["*"], "edge.example", origin), Err(Foreign::Malformed), "{origin:?}");
        }
        let two = headers(&[("host", "a"), ("origin", "http://a"), ("origin", "http://a")]);
        assert_eq!(origins(&["*"], false).check(&two), Err(Foreign::Malformed));
    }

    /// A browser sends none with a GET to the page's own origin, as an EventSource's is.
    #[test]
    fn without_an_origin_the_browser_may_say_that_it_is_the_same() {
        let same = |host| headers(&[("host", host), ("sec-fetch-site", "same-origin")]);
        let cross = headers(&[("host", "a.example"), ("sec-fetch-site", "cross-site")]);
        let none = headers(&[("host", "a.example")]);
        for (allowed, is_required, headers, expected) in [
            ("same-host", false, &none, Ok(())),
            ("same-host", true, &none, Err(Foreign::Missing)),
            ("same-host", true, &cross, Err(Foreign::Missing)),
            ("same-host", true, &same("a.example"), Ok(())),
            ("https://a.example", true, &same("a.example:443"), Ok(())),
            // Somebody's name that leads here.
            (
                "https://a.example",
                false,
                &same("evil.example"),
                Err(Foreign::NotAllowed("evil.example".into())),
            ),
        ] {
            assert_eq!(origins(&[allowed], is_required).check(headers), expected, "{allowed} {headers:?}");
        }
    }

    #[test]
    fn a_page_that_may_is_let_read_the_answer() {
        let shared = |origins: &Origins, request: &HeaderMap| {
            let mut response = HeaderMap::new();
            origins.share(request, &mut response);
            assert_eq!(response[VARY], "origin");
            let value = |name| response.get(name).map(|value| value.to_str().unwrap().to_owned());
            (value(ACCESS_CONTROL_ALLOW_ORIGIN), value(ACCESS_CONTROL_ALLOW_CREDENTIALS))
        };
        let request = headers(&[("host", "edge.example"), ("origin", "https://A.example")]);
        let allowed = Some("https://A.example".to_owned());
        assert_eq!(shared(&origins(&["https://a.example"], false), &request), (allowed.clone(), None));
        let with_cookies = Origins::new(&["https://a.example".parse().unwrap()], false, true);
        assert_eq!(shared(&with_cookies, &request), (allowed, Some("true".to_owned())));
        assert_eq!(shared(&origins(&["same-host"], false), &request), (None, None));
        assert_eq!(shared(&origins(&["*"], false), &headers(&[("host", "edge.example")])), (None, None));
    }

    #[test]
    fn what_is_typed_wrongly_is_said() {
        for text in
            ["", "*.", "https://", "https://a/b", "a b", "*.*.example.org", "https://a:0x1", "ht tp://a"]
        {
            assert!(text.parse::<AllowedOrigin>().unwrap_err().contains("same-host"), "{text}");
        }
        assert!("https://bücher.example".parse::<AllowedOrigin>().unwrap_err().contains("xn--"));
    }
}
