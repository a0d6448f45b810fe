//! What is asked of every request before its route has it: whether the edge takes any, and whose page it comes from.

use std::net::IpAddr;

use trestle_hub::{ErrorCode, Unpublished};
use warp::http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, UPGRADE};
use warp::http::{HeaderMap, Method, Request, StatusCode};
use warp::reply::Response;

use crate::door::{self, Door};
use crate::http;
use crate::metrics::Refusal;
use crate::origin::Origins;

/// What pages from elsewhere may ask for with fetch(), and how.
const SHARED: [(&str, &str); 2] = [("/events", "GET"), ("/publish", "POST")];

impl Door {
    /// Lets a request of the client at `address` pass, with headers for its answer; or answers it.
    pub(crate) fn gate<B>(&self, request: &Request<B>, address: IpAddr) -> Result<HeaderMap, Box<Response>> {
        let headers = request.headers();
        if let Some(refusal) = self.is_shut(headers) {
            return Err(refusal.into());
        }
        let path = request.uri().path();
        let shared = SHARED.into_iter().find(|(shared, _)| *shared == path);
        if shared.is_none() && !headers.contains_key(UPGRADE) {
            // The page and its files are anybody's.
            return Ok(HeaderMap::new());
        }
        let mut answered = HeaderMap::new();
        if let Err(foreign) = self.origins.check(headers) {
            let why = foreign.to_string();
            self.note(Refusal::Origin, &why, address);
            self.origins.say(&foreign);
            let mut response = match path {
                "/publish" if request.method() == Method::POST => {
                    http::published(&self.publications.refuse(Unpublished::new(ErrorCode::Forbidden, why)))
                }
                _ => door::text(StatusCode::FORBIDDEN, format!("{why}\n")),
            };
            self.origins.share(headers, response.headers_mut());
            return Err(response.into());
        }
        let Some((_, method)) = shared else { return Ok(answered) };
        self.origins.share(headers, &mut answered);
        let is_preflight = request.method() == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight {
            return Ok(answered);
        }
        Origins::grant(&mut answered, method);
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() = answered;
        Err(response.into())
    }
}
