//! Where in a request a token may be.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;
use warp::http::HeaderMap;
use warp::http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};

/// Begins the subprotocol that a browser's WebSocket, which sends no header of the page's, carries a token in. It is never
/// chosen, so never echoed.
const SUBPROTOCOL: &str = "bearer.";
/// RFC 6750 §2.3.
const PARAMETER: &str = "access_token";

/// Those that are looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Carriers {
    cookie: Option<String>,
    in_query: bool,
}

impl Carriers {
    pub(crate) fn new(cookie: Option<String>, in_query: bool) -> Self {
        Self { cookie, in_query }
    }

    /// Parts a query from the token that it carries, if that is switched on: else it stays in, and is an unknown parameter.
    pub(crate) fn part<'q>(&self, query: &'q str) -> (Cow<'q, str>, Option<String>) {
        if !self.in_query {
            return (Cow::Borrowed(query), None);
        }
        let name = |pair: &&str| pair.split_once('=').map_or(*pair, |(name, _)| name) == PARAMETER;
        let (carriers, others): (Vec<_>, Vec<_>) = query.split('&').partition(name);
        let token = carriers.first().and_then(|pair| pair.split_once('='));
        let token = token.map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned());
        (Cow::Owned(others.join("&")), token)
    }

    /// The token of a request. What was put into it for this request alone goes before the cookie, which a browser adds by
    /// itself.
    pub(crate) fn token(&self, headers: &HeaderMap, in_query: Option<&str>) -> Option<String> {
        let shown = of_authorization(headers).or_else(|| of_subprotocol(headers)).or(in_query);
        shown.or_else(|| of_cookie(headers, self.cookie.as_deref()?)).map(str::to_owned)
    }
}

/// How it may be shown, for people.
impl fmt::Display for Carriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "by the header `Authorization: Bearer …`, or as the subprotocol `bearer.…` of a WebSocket",
        )?;
        if let Some(cookie) = &self.cookie {
            write!(f, ", or by the cookie `{cookie}`")?;
        }
        if self.in_query { write!(f, ", or as the parameter `{PARAMETER}`") } else { Ok(()) }
    }
}

/// Other schemes are a proxy's own.
fn of_authorization(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    values.find_map(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    })
}

fn of_subprotocol(headers: &HeaderMap) -> Option<&str> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|names| names.split(',')).find_map(|name| name.trim().strip_prefix(SUBPROTOCOL))
}

/// RFC 6265 §4.2.
fn of_cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == wanted).then(|| value.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    #[test]
    fn a_table_of_carriers() {
        let (plain, all) = (Carriers::default(), Carriers::new(Some("session".into()), true));
        for (lines, query, by_plain, by_all) in [
            (&[][..], "", None, None),
            (&[("authorization", "Bearer a.b.c")], "", Some("a.b.c"), Some("a.b.c")),
            (&[("authorization", "bearer  a.b.c ")], "", Some("a.b.c"), Some("a.b.c")),
            (&[("authorization", "Basic Zm9v"), ("authorization", "Bearer t")], "", Some("t"), Some("t")),
            (&[("authorization", "Basic Zm9v")], "", None, None),
            (&[("authorization", "Bearer")], "", None, None),
            (
                &[("sec-websocket-protocol", "trestle.v1.json, bearer.a.b.c")],
                "",
                Some("a.b.c"),
                Some("a.b.c"),
            ),
            (
                &[("sec-websocket-protocol", "trestle.v1.json"), ("sec-websocket-protocol", "bearer.t")],
                "",
                Some("t"),
                Some("t"),
            ),
            (&[("cookie", "a=b; session=t; c=d")], "", None, Some("t")),
            (&[("cookie", "session2=no; session=\"t\"")], "", None, Some("t")),
            (&[("cookie", "xsession=no")], "", None, None),
            (&[], "topic=a&access_token=a%2Eb", None, Some("a.b")),
            (&[("cookie", "session=ambient"), ("authorization", "Bearer t")], "", Some("t"), Some("t")),
            (&[("cookie", "session=ambient")], "access_token=t", None, Some("t")),
        ] {
            let headers = headers(lines);
            for (carriers, expected) in [(&plain, by_plain), (&all, by_all)] {
                let (_, in_query) = carriers.part(query);
                assert_eq!(
                    carriers.token(&headers, in_query.as_deref()).as_deref(),
                    expected,
                    "{lines:?} {query}"
                );
            }
        }
    }

    #[test]
    fn the_rest_of_a_query_is_as_it_was() {
        let all = Carriers::new(None, true);
        let part = |query: &str| all.part(query).0.into_owned();
        assert_eq!(part("topic=a&access_token=t&exact=true"), "topic=a&exact=true");
        assert_eq!(part("access_token=t"), "");
        assert_eq!(part("topic=access_token%3D&access_tokens=x"), "topic=access_token%3D&access_tokens=x");
        assert_eq!(Carriers::default().part("access_token=t"), ("access_token=t".into(), None));
    }
}
