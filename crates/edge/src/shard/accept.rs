//! The accept loop, and HTTP on each connection until it upgrades.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use warp::http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL};
use warp::http::{HeaderMap, HeaderValue, Request, StatusCode};
use warp::reply::Response;

use super::events::{Answer, Events};
use super::files;
use super::state::State;
use crate::door::{Door, Visitor};
use crate::events::Granted;
use crate::http;
use crate::limits::Place;
use crate::metrics::{Refusal, ShardMetrics};

/// So many of those for whom there is no room are told so at a time; who comes meanwhile is cut.
const REFUSED_MAX: usize = 64;
/// They have this long to ask.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(2);
/// Between looks whether a connection can be accepted again.
const PAUSE: Duration = Duration::from_millis(100);
/// At its limit an edge accepts one for each that goes. That pauses are needed is said again only after so long without.
const SAID_FOR: Duration = Duration::from_secs(60);

/// The bounds of a request's head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    /// It has come within this.
    pub(super) timeout: Duration,
    pub(super) bytes_max: usize,
}

/// Accepts until its task is aborted. When open files become scarce it pauses: who comes then waits in the kernel.
pub(super) async fn accept_all(
    listener: TcpListener,
    door: Door,
    state: Rc<RefCell<State>>,
    heads: Heads,
    metrics: Arc<ShardMetrics>,
) {
    let mut paused: Option<Instant> = None;
    let refused = Rc::new(());
    loop {
        let failed = match listener.accept().await {
            Ok((stream, peer)) => {
                let is_last = files::are_scarce(&stream);
                match door.room.enter(peer.ip()) {
                    Ok(place) => {
                        let serving = serve(stream, peer, place, door.clone(), Rc::clone(&state), heads);
                        tokio::task::spawn_local(serving);
                    }
                    Err(full) => {
                        let response = door.turn_away(full, peer.ip().to_canonical());
                        if Rc::strong_count(&refused) <= REFUSED_MAX {
                            tokio::task::spawn_local(turn_away(stream, response, heads, Rc::clone(&refused)));
                        }
                    }
                }
                if !is_last {
                    continue;
                }
                None
            }
            Err(error) if is_of_the_peer(&error) => continue,
            Err(error) => Some(error),
        };
        metrics.accept_pauses.add(1);
        if paused.is_none_or(|at| at.elapsed() >= SAID_FOR) {
            say_pause(failed);
        }
        loop {
            tokio::time::sleep(PAUSE).await;
            if !files::are_still_scarce(&listener) {
                break;
            }
        }
        paused = Some(Instant::now());
    }
}

/// It was gone before it was accepted, or its network failed (accept(2)); the next one may be well.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    let kinds = [ConnectionAborted, ConnectionReset, ConnectionRefused, Interrupted];
    let network = [HostUnreachable, NetworkUnreachable, NetworkDown];
    // EPROTO.
    kinds.contains(&error.kind()) || network.contains(&error.kind()) || error.raw_os_error() == Some(71)
}

fn say_pause(failed: Option<io::Error>) {
    match failed {
        // Not EMFILE, so it is no limit of this process.
        Some(error) if error.raw_os_error() != Some(24) => tracing::error!(
            %error,
            "accepting pauses until the system has room again: clients wait, those connected are served on"
        ),
        _ => tracing::error!(
            limit = files::limit(),
            "accepting pauses until connections end: nearly all files that this process may open are in use, clients \
             wait, those connected are served on; raise the limit (ulimit -n, LimitNOFILE=) or run more replicas"
        ),
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    door: Door,
    state: Rc<RefCell<State>>,
    heads: Heads,
) {
    let place = Arc::new(place);
    // Where no whole request came, and where the one that came last was.
    let asked = Rc::new(Cell::new(None));
    let routes = TowerToHyperService::new(warp::service(http::routes(door.clone())));
    let (serving_door, asks) = (door.clone(), Rc::clone(&asked));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let door = &serving_door;
        let address = door.room.proxies().client(peer.ip(), request.headers());
        asks.set(Some(address));
        // warp::addr::remote() knows only warp's own accept loop.
        request.extensions_mut().insert(Visitor { address, place: Arc::clone(&place) });
        let gives_up = gives_up(request.headers());
        let answer = door.gate(&request, address).map(|headers| (headers, routes.call(request)));
        let state = Rc::clone(&state);
        async move {
            let mut response = match answer {
                Ok((headers, answer)) => {
                    let mut answer = answer.await.unwrap_or_else(|never| match never {});
                    answer.headers_mut().extend(headers);
                    answer
                }
                Err(refusal) => *refusal,
            };
            if gives_up && is_for_now(response.status()) {
                return Err(hang_up());
            }
            Ok(match response.extensions_mut().remove::<Granted>() {
                Some(Granted { wanted, guest, grant }) => {
                    response.map(|_| Answer::Events(Events::open(state, &wanted, guest, grant)))
                }
                None => response.map(Answer::Whole),
            })
        }
    });
    let connection = http(heads).serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        let address = asked.get().unwrap_or_else(|| peer.ip().to_canonical());
        if error.is_parse_too_large() {
            door.note(Refusal::Head, "the head of the request is too large", address);
        } else if error.is_timeout() && asked.get().is_none() {
            door.note(Refusal::HandshakeTimeout, "no whole request came in time", address);
        } else if error.is_parse() {
            door.note(Refusal::Malformed, "what came is no request of HTTP/1.1", address);
        } else {
            tracing::debug!(%address, %error, "a connection ended before it was a WebSocket");
        }
    }
}

/// Answers whatever is asked with `response`, once.
async fn turn_away(stream: TcpStream, response: Response, heads: Heads, _refused: Rc<()>) {
    let response = Cell::new(Some(response));
    let service = service_fn(|request: Request<Incoming>| {
        let mut response = response.take().unwrap_or_default();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let is_heard = !(gives_up(request.headers()) && is_for_now(response.status()));
        async move { is_heard.then_some(response).ok_or_else(hang_up) }
    });
    let heads = Heads { timeout: heads.timeout.min(REFUSED_TIMEOUT), ..heads };
    // However it ends, it has ended.
    let _ = http(heads).serve_connection(TokioIo::new(stream), service).await;
}

/// Ends the connection without an answer.
fn hang_up() -> io::Error {
    io::Error::other("not now, and libzmq comes again only where there is no answer")
}

/// Whether it is libzmq that asks, whose socket takes any answer but a 101 for the last word, and where there is none comes
/// again. It alone offers ZWS with a mechanism.
fn gives_up(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|names| names.split(',')).any(|name| name.trim().starts_with("ZWS2.0/"))
}

/// Whether the same request may succeed later.
fn is_for_now(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

fn http(heads: Heads) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(heads.timeout).max_buf_size(heads.bytes_max);
    http
}
