//! Lets those pass who present the link token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::link_token::LinkToken;
use crate::seldom::Seldom;

/// Answers `UNAUTHENTICATED` to callers without the token; without a token it lets all pass. Clones count together.
#[derive(Debug, Clone)]
pub struct Guard {
    token: Option<LinkToken>,
    refused: Counter,
    /// Shared by the connections' clones; held for as long as a time is compared.
    said: Arc<Mutex<Seldom>>,
}

impl Guard {
    pub(super) fn new(token: Option<LinkToken>) -> Self {
        Self { token, refused: Counter::default(), said: Arc::default() }
    }

    /// Stands before a service. Health is left without: probes of orchestrators have no token, and it tells nothing else.
    pub fn before<S>(&self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self.clone())
    }

    /// Calls that were refused.
    pub fn refused(&self) -> &Counter {
        &self.refused
    }

    fn refuse(&self, request: &Request<()>) -> Status {
        self.refused.inc();
        // Whoever held it cannot have left it half changed.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = said.say(Instant::now()) {
            let from = request.remote_addr().map_or_else(String::new, |address| format!(" from {address}"));
            tracing::warn!(unsaid, "gRPC: refused a call{from}: the link token is missing or wrong");
        }
        Status::unauthenticated("the link token is missing or wrong: authorization: Bearer TOKEN")
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").map_or(&b""[..], |value| value.as_bytes());
        match &self.token {
            Some(token) if !token.is_presented(header) => Err(self.refuse(&request)),
            _ => Ok(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_token::tests::{SECRET, read};

    fn passes(guard: &mut Guard, header: Option<&str>) -> bool {
        let mut request = Request::new(());
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        guard.call(request).is_ok()
    }

    #[test]
    fn only_who_presents_the_token_passes_and_the_others_are_counted() {
        let guard = Guard::new(Some(read(SECRET.as_bytes()).unwrap()));
        let mut clone = guard.clone();
        assert!(passes(&mut clone, Some(&format!("Bearer {SECRET}"))));
        for header in [None, Some(""), Some(SECRET)] {
            assert!(!passes(&mut clone, header), "{header:?}");
        }
        assert_eq!(guard.refused().get(), 3);
        assert!(passes(&mut Guard::new(None), None), "where no token is configured");
    }
}
