//! The private HTTP port of every process: `/healthz`, `/readyz`, `/metrics`.
//!
//! Health and readiness are one line and for everybody, because probes have no secrets. Metrics tell addresses and loads: from
//! another machine they are for who presents the link token.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::exit::Exit;
use crate::link_token::LinkToken;

/// What `/readyz` answers: ready with a note such as `stale`, or why not. Both as one line of text.
pub type Readiness = Result<String, String>;

/// What the port shows; the closures and gauges are read at each request.
pub struct Private {
    /// The process's metrics.
    pub registry: Registry,
    /// Whether the process takes traffic now.
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// What `/metrics` asks of who comes from another machine; `None` asks for nothing.
    pub token: Option<LinkToken>,
}

/// Whether only this machine reaches `ip`, or comes from it.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Refuses to show metrics to every machine that asks.
///
/// # Errors
/// An [`Exit`] with code 64 that names `flag` and what would help.
pub fn check(flag: &str, address: SocketAddr, token: Option<&LinkToken>) -> Result<(), Exit> {
    if is_loopback(address.ip()) || token.is_some() {
        return Ok(());
    }
    Err(Exit::usage(format!(
        "{flag} {address} is reached from other machines, to which /metrics would be open: give --link-token-file FILE, \
         or listen on 127.0.0.1"
    )))
}

/// Listens on `address`; `flag` is named in the error.
///
/// # Errors
/// An [`Exit`] with code 71.
pub async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Exit> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Exit::os(format!("{flag}: cannot listen on {address}: {error}")))
}

/// Serves until its task is dropped or aborted.
pub async fn serve(listener: TcpListener, private: Private) {
    let private = Arc::new(private);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of file descriptors, most likely; a scrape can wait.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            continue;
        };
        let private = Arc::clone(&private);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let caller = Caller { ip: peer.ip(), headers: request.headers() };
                let response = private.answer(request.method(), request.uri().path(), &caller);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new());
            // A scraper that hangs up is no event.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Who asks.
struct Caller<'a> {
    ip: IpAddr,
    headers: &'a HeaderMap,
}

impl Caller<'_> {
    fn may_see_metrics(&self, token: Option<&LinkToken>) -> bool {
        let header = self.headers.get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        is_loopback(self.ip) || token.is_none_or(|token| token.is_presented(header))
    }
}

impl Private {
    fn answer(&self, method: &Method, path: &str, caller: &Caller<'_>) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
        }
        match path {
            "/healthz" => text(StatusCode::OK, "alive\n".to_owned()),
            "/readyz" => match (self.readiness)() {
                Ok(note) => text(StatusCode::OK, format!("{note}\n")),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            "/metrics" if caller.may_see_metrics(self.token.as_ref()) => self.metrics(),
            "/metrics" => unauthorized(),
            _ => text(StatusCode::NOT_FOUND, "try /healthz, /readyz or /metrics\n".to_owned()),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut body = String::new();
        if prometheus_client::encoding::text::encode(&mut body, &self.registry).is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded\n".to_owned());
        }
        let mut response = text(StatusCode::OK, body);
        let open_metrics =
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, open_metrics);
        response
    }
}

fn unauthorized() -> Response<Full<Bytes>> {
    let why = "the link token is missing or wrong: Authorization: Bearer TOKEN\n";
    let mut response = text(StatusCode::UNAUTHORIZED, why.to_owned());
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_token::tests::{SECRET, read};

    fn private(ready: Readiness, token: Option<LinkToken>) -> Private {
        Private { registry: Registry::default(), readiness: Box::new(move || ready.clone()), token }
    }

    fn status(private: &Private, path: &str, ip: &str, authorization: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        headers.extend(authorization.map(|value| (AUTHORIZATION, value.parse().unwrap())));
        let caller = Caller { ip: ip.parse().unwrap(), headers: &headers };
        private.answer(&Method::GET, path, &caller).status().as_u16()
    }

    #[test]
    fn answers() {
        let ready = private(Ok("ready".into()), None);
        let waiting = private(Err("no beat yet".into()), None);
        let local = |private, path| status(private, path, "127.0.0.1", None);
        assert_eq!(["/healthz", "/readyz", "/metrics", "/"].map(|p| local(&ready, p)), [200, 200, 200, 404]);
        assert_eq!(["/healthz", "/readyz"].map(|p| local(&waiting, p)), [200, 503]);
        let caller = Caller { ip: "127.0.0.1".parse().unwrap(), headers: &HeaderMap::new() };
        assert_eq!(ready.answer(&Method::POST, "/healthz", &caller).status(), 405);
    }

    #[test]
    fn from_elsewhere_metrics_take_the_token_and_health_none() {
        let guarded = private(Ok("ready".into()), Some(read(SECRET.as_bytes()).unwrap()));
        let bearer = format!("Bearer {SECRET}");
        for (path, ip, authorization, expected) in [
            ("/metrics", "10.0.0.7", None, 401),
            ("/metrics", "10.0.0.7", Some("Bearer wrong"), 401),
            ("/metrics", "2001:db8::1", None, 401),
            ("/metrics", "10.0.0.7", Some(&bearer[..]), 200),
            ("/metrics", "127.0.0.1", None, 200),
            ("/metrics", "::ffff:127.0.0.1", None, 200),
            ("/healthz", "10.0.0.7", None, 200),
            ("/readyz", "10.0.0.7", None, 200),
        ] {
            assert_eq!(status(&guarded, path, ip, authorization), expected, "{path} {ip} {authorization:?}");
        }
    }

    #[test]
    fn beyond_loopback_a_token_is_needed() {
        let address = |text: &str| text.parse().unwrap();
        let token = read(SECRET.as_bytes()).unwrap();
        check("--metrics", address("127.0.0.1:9100"), None).unwrap();
        check("--metrics", address("0.0.0.0:9100"), Some(&token)).unwrap();
        let refused = check("--metrics", address("0.0.0.0:9100"), None).unwrap_err();
        assert!(refused.reason.starts_with("--metrics 0.0.0.0:9100 "), "{refused}");
        assert_eq!(refused.code, crate::exit::USAGE);
    }
}
