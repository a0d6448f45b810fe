//! The public port's HTTP: the handshakes of WebSockets, the page and its files. The only room that knows warp, beside
//! the accept loop that serves it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;
use trestle_hub::ws::{Handshake, HandshakeError, HeaderLines};
use trestle_hub::{ErrorCode, Grant, Protocol, Role, Unpublished, Unverified, query};
use warp::Filter;
use warp::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    ETAG, HOST, IF_NONE_MATCH, REFERRER_POLICY, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;

use crate::assets::{self, Asset};
use crate::door::{BEARER, Door, Opening, Visitor, text, unavailable};
use crate::events::Granted;
use crate::metrics::Refusal;
use crate::publish::{Outcome, post};

/// What the page may do: nothing that does not come from here.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                           require-trusted-types-for 'script'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where a browser comes back from (HTML Living Standard §9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// HTML Living Standard §7.1.3.
const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// What makes a repeat known (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Known to nginx.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// All routes of the public port.
pub(crate) fn routes(door: Door) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    let (stream_door, post_door) = (door.clone(), door.clone());
    let websocket = warp::path::end()
        .and(warp::header::value("upgrade").map(drop::<HeaderValue>).untuple_one())
        .or(warp::path("ws").and(warp::path::end()))
        .unify()
        .map(|| Role::Subscriber)
        .or(warp::path("pub").and(warp::path::end()).map(|| Role::Publisher))
        .unify()
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and(raw_query())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(visitor())
        .then(move |role, headers, query: String, upgrade, visitor| {
            handshake(door.clone(), role, headers, query, upgrade, visitor)
        });
    let stream = warp::path("events")
        .and(warp::path::end())
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .and(raw_query())
        .and(visitor())
        .map(move |headers, query: String, visitor| event_stream(&stream_door, &headers, &query, &visitor));
    let publish = warp::path("publish")
        .and(warp::path::end())
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(raw_query())
        .and(visitor())
        .and(warp::body::stream())
        .then(move |headers: HeaderMap, query: String, visitor: Visitor, body| {
            let door = post_door.clone();
            async move {
                if let Err(why) = door.post_pace.take(visitor.address, Instant::now()) {
                    return published(&door.refuse_publication(ErrorCode::RateLimited, why, visitor.address));
                }
                let (query, token) = door.tokens.part(&query);
                let grant = match door.tokens.need(&headers, token.as_deref()) {
                    Ok(grant) => grant,
                    Err(Unverified { code, reason }) => {
                        let mut response = published(&door.refuse_publication(code, reason, visitor.address));
                        response.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
                        return response;
                    }
                };
                let key = headers.get(IDEMPOTENCY_KEY).map(HeaderValue::as_bytes);
                let asked = post::read_request(&grant, door.post_bounds, &query, key, body).await;
                published(&match asked {
                    Ok(publish) => post::publish(&door.publications, publish).await,
                    Err(Unpublished { code, reason }) => {
                        door.refuse_publication(code, reason, visitor.address)
                    }
                })
            }
        });
    let file = warp::get()
        .or(warp::head())
        .unify()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .map(|path: FullPath, headers: HeaderMap| file(path.as_str(), &headers));
    let post_only = warp::path("publish").and(warp::path::end()).map(|| not_allowed("POST"));
    let read_only = warp::any().map(|| not_allowed("GET, HEAD"));
    websocket
        .or(stream)
        .unify()
        .or(publish.or(post_only).unify())
        .unify()
        .or(file)
        .unify()
        .or(read_only)
        .unify()
}

/// `allow`: the methods that there are (RFC 9110 §10.2.1).
fn not_allowed(allow: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("{allow} alone\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// Who asks. The accept loop has put it into every request.
fn visitor() -> impl Filter<Extract = (Visitor,), Error = Infallible> + Clone {
    warp::ext::optional().map(|visitor: Option<Visitor>| visitor.expect("the accept loop says who asks"))
}

/// The query as it came, since topics need not be UTF-8.
fn raw_query() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

async fn handshake(
    door: Door,
    role: Role,
    headers: HeaderMap,
    query: String,
    upgrade: Option<OnUpgrade>,
    visitor: Visitor,
) -> Response {
    let lines = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let handshake = match Handshake::parse(lines) {
        Ok(handshake) => handshake,
        Err(error) => return malformed(&door, error, visitor.address),
    };
    if headers.get_all(HOST).iter().count() != 1 {
        // RFC 9112 §3.2; hyper lets it pass.
        let why = "a request has exactly one Host header";
        return door.refuse(Refusal::Malformed, StatusCode::BAD_REQUEST, why, visitor.address);
    }
    if has_body(&headers) {
        // Hyper hands the bytes behind the head to the WebSocket, where a proxy on the way may see a body.
        return door.refuse(
            Refusal::Malformed,
            StatusCode::BAD_REQUEST,
            "a handshake has no body",
            visitor.address,
        );
    }
    let Some(protocol) = Protocol::choose(role, handshake.protocols.iter().copied()) else {
        let names: Vec<_> = Protocol::of(role).map(Protocol::name).collect();
        let names = names.join(", ");
        let why = format!("offer a WebSocket subprotocol that is spoken here: {names}");
        return door.refuse(Refusal::Subprotocol, StatusCode::BAD_REQUEST, &why, visitor.address);
    };
    let (asked, token) = door.tokens.part(&query);
    let topics = match query::topics(&asked, role, protocol, door.topics) {
        Ok(topics) => topics,
        Err(why) => return door.refuse(Refusal::Topic, StatusCode::BAD_REQUEST, &why, visitor.address),
    };
    let granted = match door.tokens.grant(&headers, token.as_deref()) {
        Ok(Some(grant)) => Some(grant),
        // It has ten seconds to show one.
        Ok(None) if protocol.may_authenticate() && topics.is_empty() => None,
        Ok(None) => return door.unauthorized(&door.tokens.missing(), visitor.address),
        Err(unverified) => return door.unauthorized(&unverified, visitor.address),
    };
    if role == Role::Publisher
        && let Err(why) = door.publications.may_take(granted.as_deref())
    {
        return door.refuse(Refusal::Publishing, StatusCode::FORBIDDEN, why, visitor.address);
    }
    let grant = granted.unwrap_or_else(|| Arc::new(Grant::nothing()));
    let guest = match door.admit(&visitor, &grant) {
        Ok(guest) => guest,
        Err(refusal) => return *refusal,
    };
    let Some(upgrade) = upgrade else {
        let why = "this connection cannot be upgraded; HTTP/1.1 is needed";
        return door.refuse(Refusal::Malformed, StatusCode::BAD_REQUEST, why, visitor.address);
    };
    let (stands, standing) = oneshot::channel();
    let deflate = handshake.deflate.map(|(deflate, _)| deflate).filter(|_| protocol.may_compress());
    let _ = door.openings.send(Opening { protocol, role, deflate, topics, guest, grant, upgrade, stands });
    if standing.await.is_err() {
        // It began to drain meanwhile.
        door.metrics.refusals.of(Refusal::Draining).add(1);
        return unavailable("this edge is draining", Duration::ZERO);
    }
    switching_protocols(&handshake, protocol)
}

/// Grants a stream of server-sent events, of which the shard makes the body.
fn event_stream(door: &Door, headers: &HeaderMap, query: &str, visitor: &Visitor) -> Response {
    let last_event_id = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let (asked, token) = door.tokens.part(query);
    let wanted = match query::subscription(&asked, last_event_id, door.topics) {
        Ok(wanted) => wanted,
        Err(why) => return door.refuse(Refusal::Topic, StatusCode::BAD_REQUEST, &why, visitor.address),
    };
    let grant = match door.tokens.need(headers, token.as_deref()) {
        Ok(grant) => grant,
        Err(unverified) => return door.unauthorized(&unverified, visitor.address),
    };
    if let Err(denied) = grant.may_subscribe_to(&wanted.topics) {
        return door.refuse(Refusal::Topic, StatusCode::FORBIDDEN, &denied.to_string(), visitor.address);
    }
    let guest = match door.admit(visitor, &grant) {
        Ok(guest) => guest,
        Err(refusal) => return *refusal,
    };
    let mut response = Response::default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that gathers a response before it passes it on would never be done.
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response.extensions_mut().insert(Granted { wanted, guest, grant });
    response
}

/// The answer to `POST /publish`.
pub(crate) fn published(outcome: &Outcome) -> Response {
    let (status, json) = post::answer(outcome);
    let mut response = Response::new(json.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == 503 || status == 429 {
        headers.insert(RETRY_AFTER, HeaderValue::from(1));
    }
    response
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

fn malformed(door: &Door, error: HandshakeError, address: IpAddr) -> Response {
    let refusal = if error == HandshakeError::WrongVersion { Refusal::Version } else { Refusal::Malformed };
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = door.refuse(refusal, status, &error.to_string(), address);
    insert(&mut response, &error.headers());
    response
}

fn switching_protocols(handshake: &Handshake<'_>, protocol: Protocol) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    insert(&mut response, &handshake.headers(Some(protocol.name()), protocol.may_compress()));
    response
}

fn insert(response: &mut Response, lines: &HeaderLines<'_>) {
    for (name, value) in lines {
        let value = HeaderValue::from_str(value).expect("base64, tokens and punctuation");
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

fn file(path: &str, request: &HeaderMap) -> Response {
    let Some(Asset { bytes, content_type, etag }) = assets::asset(path) else {
        return text(StatusCode::NOT_FOUND, "not found\n".to_owned());
    };
    let is_known = request.get_all(IF_NONE_MATCH).iter().any(|known| is_match(known.as_bytes(), etag));
    let mut response =
        if is_known { Response::default() } else { Response::new(bytes::Bytes::from_static(bytes).into()) };
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ETAG, HeaderValue::from_static(etag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Where it leads, nobody learns from where; and what it opens, or was opened by, has no hold on it.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin"));
    // Of browsers that do not know `frame-ancestors`.
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // A page of another origin, or one that was opened as a file, imports the client module from here (Fetch Standard
    // §3.2); the files are the same for everybody.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Whether a list of entity tags has `etag`; a cache on the way may have made it weak (RFC 9110 §13.1.2).
fn is_match(known: &[u8], etag: &str) -> bool {
    let mut tags = known.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}
