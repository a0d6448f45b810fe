//! A set of keys, asked for by HTTP; the only room that is an HTTP client.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::{ACCEPT, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use trestle_process::exit::Exit;

/// From the name's look-up to the last byte.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// Where a set of keys is: `https://`, or `http://` to this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl(Uri);

impl FromStr for JwksUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write https://login.example.org/jwks.json";
        let uri: Uri = text.parse().map_err(|error| format!("{error}; {form}"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        match uri.scheme_str() {
            _ if host.is_empty() || has_user => Err(form.to_owned()),
            Some("https") => Ok(Self(uri)),
            // Whoever is on the way would say which keys count.
            Some("http") if is_this_machine(host) => Ok(Self(uri)),
            Some("http") => Err(format!("keys by http:// come from this machine alone; {form}")),
            _ => Err(form.to_owned()),
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Asks one URL.
#[derive(Debug)]
pub(crate) struct Fetcher {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Fetcher {
    /// The system's certificates are trusted; `SSL_CERT_FILE` names others.
    ///
    /// # Errors
    /// An [`Exit`] with code 71 if it has none.
    pub(crate) fn new(JwksUrl(url): &JwksUrl) -> Result<Self, Exit> {
        let provider = rustls::crypto::ring::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let builder = match url.scheme_str() {
            Some("https") => builder.with_provider_and_native_roots(provider).map_err(|error| {
                Exit::os(format!(
                    "--auth-jwks {url}: this system trusts no certificates: {error}; install ca-certificates"
                ))
            })?,
            _ => {
                let config = rustls::ClientConfig::builder_with_provider(provider.into())
                    .with_safe_default_protocol_versions()
                    .expect("ring has them");
                builder.with_tls_config(
                    config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(),
                )
            }
        };
        let connector = match url.scheme_str() {
            Some("https") => builder.https_only().enable_http1().build(),
            _ => builder.https_or_http().enable_http1().build(),
        };
        // Minutes are between two requests: no connection is kept for the next.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { url: url.clone(), client })
    }

    pub(crate) fn url(&self) -> &Uri {
        &self.url
    }

    /// The answer's body. No redirect is followed: the URL alone says whose keys count.
    pub(crate) async fn fetch(&self, bytes_max: usize) -> anyhow::Result<Bytes> {
        let answer = tokio::time::timeout(FETCH_MAX, self.body(bytes_max)).await;
        answer.with_context(|| format!("no whole answer within {} s", FETCH_MAX.as_secs()))?
    }

    async fn body(&self, bytes_max: usize) -> anyhow::Result<Bytes> {
        let mut request = Request::new(Empty::new());
        request.uri_mut().clone_from(&self.url);
        let agent = concat!("trestle-edge/", env!("CARGO_PKG_VERSION"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(agent));
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        let answer = self.client.request(request).await.context("cannot be reached")?;
        if answer.status() != StatusCode::OK {
            bail!("it answers {}", answer.status());
        }
        match Limited::new(answer.into_body(), bytes_max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                bail!("its answer has more than {bytes_max} bytes")
            }
            Err(error) => bail!("its answer broke off: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for url in [
            "https://login.example.org/jwks.json",
            "https://[2001:db8::1]:8443/keys?a=b",
            "http://127.0.0.1:80/",
            "http://localhost/jwks.json",
            "http://[::1]:1/",
        ] {
            assert_eq!(url.parse::<JwksUrl>().map(|url| url.0.to_string()), Ok(url.to_owned()));
        }
        for url in [
            "http://login.example.org/jwks.json",
            "http://127.0.0.1.example.org/",
            "http://10.0.0.1/",
            "https://ann:secret@example.org/",
            "ftp://example.org/",
            "file:///etc/keys",
            "/etc/keys",
            "login.example.org",
            "",
        ] {
            assert!(url.parse::<JwksUrl>().is_err(), "{url}");
        }
    }
}
