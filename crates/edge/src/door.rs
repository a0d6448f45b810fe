//! What every way in asks before there is anything of a session: whether the edge takes anybody, who has room, and who is refused,
//! counted and logged.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::upgrade::OnUpgrade;
use tokio::sync::{mpsc, oneshot};
use trestle_hub::query::TopicBounds;
use trestle_hub::ws::Deflate;
use trestle_hub::{ErrorCode, Grant, Protocol, Role, Unpublished, Unverified};
use warp::http::header::{
    CONNECTION, CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use crate::admission::Admission;
use crate::drain::Draining;
use crate::ingest::Upstream;
use crate::limits::{Floods, Full, Guest, Place, Room};
use crate::metrics::{Label as _, Refusal, ShardMetrics};
use crate::origin::Origins;
use crate::publish::pace::Pace;
use crate::publish::{Outcome, Publications, post};
use crate::tokens::{NO_KEYS, Tokens};

/// How to ask with success (RFC 6750 §3).
pub(crate) const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"trestle\"");
/// A place becomes free when a client goes: nobody knows when.
const ROOM_AFTER_SECONDS: u32 = 5;

/// Who asks, put into each request by the accept loop: where it is, and the place of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) address: IpAddr,
    pub(crate) place: Arc<Place>,
}

/// An accepted handshake, on its way to the shard.
pub(crate) struct Opening {
    pub(crate) protocol: Protocol,
    pub(crate) role: Role,
    /// What the 101 agrees to.
    pub(crate) deflate: Option<Deflate>,
    /// The URL's `topic`s.
    pub(crate) topics: Vec<Vec<u8>>,
    pub(crate) guest: Guest,
    pub(crate) grant: Arc<Grant>,
    pub(crate) upgrade: OnUpgrade,
    /// Told when the subscriptions stand: then the 101 may go out.
    pub(crate) stands: oneshot::Sender<()>,
}

/// What the routes know of their shard: where accepted handshakes go, and what is asked and counted before.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) openings: mpsc::UnboundedSender<Opening>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) room: Arc<Room>,
    pub(crate) floods: Arc<Floods>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) draining: Draining,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) topics: TopicBounds,
    pub(crate) publications: Publications,
    pub(crate) post_pace: Arc<Pace>,
    pub(crate) post_bounds: post::Bounds,
}

impl Door {
    /// The answer to every request while the edge drains.
    pub(crate) fn is_shut(&self, headers: &HeaderMap) -> Option<Response> {
        let order = self.draining.order()?;
        if headers.contains_key(UPGRADE) {
            self.metrics.refusals.of(Refusal::Draining).add(1);
        }
        // By then this edge has gone, and the next one may be there.
        let after = order.closed.saturating_duration_since(Instant::now());
        let mut response = unavailable("this edge is draining", after);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        Some(response)
    }

    /// The place of a client that may stay; or the answer to one for whom it is too early, or who is one too many. That
    /// comes before there is anything of a session, so that a storm costs little more than reading its requests.
    pub(crate) fn admit(&self, visitor: &Visitor, grant: &Grant) -> Result<Guest, Box<Response>> {
        let why = match (self.upstream.is_ready(), self.tokens.known().are_here()) {
            (true, true) => None,
            (true, false) => Some(NO_KEYS),
            (false, _) => Some("nothing has come from upstream yet"),
        };
        if let Some(why) = why {
            let why = &*format!("not ready: {why}");
            self.note(Refusal::NotReady, why, visitor.address);
            return Err(unavailable(why, Duration::ZERO).into());
        }
        let guest = self.room.stay(&visitor.place, visitor.address);
        let guest = guest.and_then(|mut guest| self.room.know(&mut guest, grant).map(|()| guest));
        let guest = guest.map_err(|full| self.turn_away(full, visitor.address))?;
        self.admission.admit(Instant::now()).map(|()| guest).map_err(|after| {
            let why = "too many clients connect at the moment";
            self.note(Refusal::ConnectionRate, why, visitor.address);
            unavailable(why, after).into()
        })
    }

    /// The answer to a client for whom there is no room.
    pub(crate) fn turn_away(&self, full: Full, address: IpAddr) -> Response {
        let (refusal, status, why) = match full {
            Full::Edge => (
                Refusal::Connections,
                StatusCode::SERVICE_UNAVAILABLE,
                "as many connections are open here as may be",
            ),
            Full::Address => (
                Refusal::AddressConnections,
                StatusCode::TOO_MANY_REQUESTS,
                "as many connections are open from this address as may be",
            ),
            Full::Subject => (
                Refusal::SubjectConnections,
                StatusCode::TOO_MANY_REQUESTS,
                "as many connections are open of this token's subject as it says",
            ),
        };
        let mut response = self.refuse(refusal, status, why, address);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(ROOM_AFTER_SECONDS));
        response
    }

    /// Counts a refusal and logs it.
    pub(crate) fn note(&self, refusal: Refusal, why: &str, address: IpAddr) {
        self.metrics.refusals.of(refusal).add(1);
        // Quoted, since it may be the client's own words.
        let cause = refusal.text();
        tracing::debug!(%address, protocol = "http", cause, ?why, "refused");
        self.floods.note(&cause, address);
    }

    /// Counts and logs a publication that is not taken.
    pub(crate) fn refuse_publication(&self, code: ErrorCode, why: String, address: IpAddr) -> Outcome {
        self.metrics.refused.of(code).add(1);
        // Quoted, since it may be the client's own words.
        tracing::debug!(%address, protocol = "http", %code, ?why, "refused");
        self.floods.note(code.as_str(), address);
        self.publications.refuse(Unpublished::new(code, why))
    }

    /// Says that a token is needed, and why the one that came does not count (RFC 6750 §3).
    pub(crate) fn unauthorized(&self, unverified: &Unverified, address: IpAddr) -> Response {
        if unverified.code == ErrorCode::Unavailable {
            self.note(Refusal::NotReady, &unverified.reason, address);
            return unavailable(&unverified.reason, Duration::ZERO);
        }
        let mut response =
            self.refuse(Refusal::Unauthorized, StatusCode::UNAUTHORIZED, &unverified.reason, address);
        response.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
        response
    }

    pub(crate) fn refuse(
        &self,
        refusal: Refusal,
        status: StatusCode,
        why: &str,
        address: IpAddr,
    ) -> Response {
        self.note(refusal, why, address);
        text(status, format!("{why}\n"))
    }
}

/// 503, and when to ask again: in whole seconds (RFC 9110 §10.2.3), the next one where it would be less.
pub(crate) fn unavailable(why: &str, after: Duration) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs() + 1));
    response
}

pub(crate) fn text(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
