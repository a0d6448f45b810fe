//! The accept loop, and HTTP on each connection until it upgrades.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use warp::http::Request;

use crate::http::{self, Door, Peer};

/// Bytes of a request's head; beyond them 431. Hyper takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long to wait when there are no more file descriptors: some connection will end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until its task is aborted.
pub(super) async fn accept_all(listener: TcpListener, door: Door, handshake_timeout: Duration) {
    let mut said_exhausted = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                said_exhausted = false;
                tokio::task::spawn_local(serve(stream, peer, door.clone(), handshake_timeout));
            }
            Err(error) if is_exhausted(&error) => {
                if !std::mem::replace(&mut said_exhausted, true) {
                    tracing::error!(%error, "accepting pauses until a connection ends");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The peer was gone before it was accepted.
            Err(_) => {}
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    // ENFILE, EMFILE, ENOMEM, ENOBUFS.
    matches!(error.raw_os_error(), Some(23 | 24 | 12 | 105))
}

async fn serve(stream: TcpStream, peer: SocketAddr, door: Door, handshake_timeout: Duration) {
    let routes = TowerToHyperService::new(warp::service(http::routes(door)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        // warp::addr::remote() knows only warp's own accept loop.
        request.extensions_mut().insert(Peer(peer));
        let answer = routes.call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
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
