//! A connection from its upgrade to its end.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use trestle_hub::{Protocol, SessionId};

use super::state::State;
use crate::door::Opening;
use crate::drain::Draining;

/// Opens a session for each accepted handshake. Its subscriptions stand before the 101 is sent. One that comes when
/// goodbye may have been said is refused: nobody would tell it.
pub(super) async fn open_all(
    state: Rc<RefCell<State>>,
    mut openings: mpsc::UnboundedReceiver<Opening>,
    draining: Draining,
    handshake_timeout: Duration,
) {
    while let Some(Opening { protocol, role, deflate, topics, guest, grant, upgrade, stands }) =
        openings.recv().await
    {
        if draining.order().is_some() {
            continue;
        }
        let id = state.borrow_mut().open(protocol, role, deflate, &topics, guest, grant);
        // The request was given up if nobody waits; then the upgrade fails too.
        let _ = stands.send(());
        tokio::task::spawn_local(upgraded(Rc::clone(&state), id, protocol, upgrade, handshake_timeout));
    }
}

async fn upgraded(
    state: Rc<RefCell<State>>,
    id: SessionId,
    protocol: Protocol,
    upgrade: OnUpgrade,
    handshake_timeout: Duration,
) {
    let stream = match tokio::time::timeout(handshake_timeout, upgrade).await {
        Ok(Ok(upgraded)) => upgraded.downcast::<TokioIo<TcpStream>>().ok(),
        // It hung up, or never took the 101.
        _ => None,
    };
    let Some(Parts { io, read_buf, .. }) = stream else {
        state.borrow_mut().detach(id);
        return;
    };
    state.borrow_mut().attach(id, protocol, io.into_inner(), &read_buf);
    tokio::task::spawn_local(Connection { state, id });
}

/// The task of an open connection: two words, because there are ten thousands of it.
struct Connection {
    state: Rc<RefCell<State>>,
    id: SessionId,
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.state.borrow_mut().poll_connection(self.id, context)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.state.borrow_mut().detach(self.id);
    }
}
