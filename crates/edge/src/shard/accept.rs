//! The accept loop, and HTTP on each connection until it upgrades.

use std::cell::RefCell;
use std::convert::Infallible;
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
use warp::http::Request;

use super::events::{Answer, Events};
use super::files;
use super::state::State;
use crate::events::Granted;
use crate::http::{self, Door, Peer};
use crate::metrics::ShardMetrics;

/// Bytes of a request's head; beyond them 431. Hyper takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Between looks whether a connection can be accepted again.
const PAUSE: Duration = Duration::from_millis(100);
/// At its limit an edge accepts one for each that goes. That pauses are needed is said again only after so long without.
const SAID_FOR: Duration = Duration::from_secs(60);

/// Accepts until its task is aborted. When open files become scarce it pauses: who comes then waits in the kernel.
pub(super) async fn accept_all(
    listener: TcpListener,
    door: Door,
    state: Rc<RefCell<State>>,
    handshake_timeout: Duration,
    metrics: Arc<ShardMetrics>,
) {
    let mut paused: Option<Instant> = None;
    loop {
        let failed = match listener.accept().await {
            Ok((stream, peer)) => {
                let is_last = files::are_scarce(&stream);
                tokio::task::spawn_local(serve(
                    stream,
                    peer,
                    door.clone(),
                    Rc::clone(&state),
                    handshake_timeout,
                ));
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
    door: Door,
    state: Rc<RefCell<State>>,
    handshake_timeout: Duration,
) {
    let routes = TowerToHyperService::new(warp::service(http::routes(door.clone())));
    let service = service_fn(move |mut request: Request<Incoming>| {
        // warp::addr::remote() knows only warp's own accept loop.
        request.extensions_mut().insert(Peer(peer));
        let answer = match door.is_shut(request.headers()) {
            Some(refusal) => Err(refusal),
            None => Ok(routes.call(request)),
        };
        let state = Rc::clone(&state);
        async move {
            let mut response = match answer {
                Ok(answer) => answer.await.unwrap_or_else(|never| match never {}),
                Err(refusal) => refusal,
            };
            Ok::<_, Infallible>(match response.extensions_mut().remove::<Granted>() {
                Some(Granted(wanted)) => response.map(|_| Answer::Events(Events::open(state, &wanted))),
                None => response.map(Answer::Whole),
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(handshake_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%peer, %error, "a connection ended before it was a WebSocket");
    }
}
