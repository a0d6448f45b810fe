//! The private HTTP port of every process: `/healthz`, `/readyz`, `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::exit::Exit;

/// What `/readyz` answers: ready with a note such as `stale`, or why not. Both as one line of text.
pub type Readiness = Result<String, String>;

/// What the port shows; the closures and gauges are read at each request.
pub struct Private {
    /// The process's metrics.
    pub registry: Registry,
    /// Whether the process takes traffic now.
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
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
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely; a scrape can wait.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            continue;
        };
        let private = Arc::clone(&private);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = private.answer(request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new());
            // A scraper that hangs up is no event.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Private {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
        }
        match path {
            "/healthz" => text(StatusCode::OK, "alive\n".to_owned()),
            "/readyz" => match (self.readiness)() {
                Ok(note) => text(StatusCode::OK, format!("{note}\n")),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            },
            "/metrics" => self.metrics(),
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

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let private = |ready: Readiness| Private {
            registry: Registry::default(),
            readiness: Box::new(move || ready.clone()),
        };
        let status = |private: &Private, path| private.answer(&Method::GET, path).status().as_u16();
        let ready = private(Ok("ready".into()));
        let waiting = private(Err("no beat yet".into()));
        assert_eq!(["/healthz", "/readyz", "/metrics", "/"].map(|p| status(&ready, p)), [200, 200, 200, 404]);
        assert_eq!(["/healthz", "/readyz"].map(|p| status(&waiting, p)), [200, 503]);
        assert_eq!(ready.answer(&Method::POST, "/healthz").status(), 405);
    }
}
