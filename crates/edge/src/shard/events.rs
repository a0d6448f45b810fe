//! The body of a response of server-sent events: what its session has, as much as the connection takes.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use trestle_hub::encode::Subscribe;
use trestle_hub::{Grant, SessionId};

use super::state::State;
use crate::limits::Guest;

/// Nothing of it waits here: hyper asks when the socket takes more, and is given what the session's place in the log has.
pub(super) struct Events {
    state: Rc<RefCell<State>>,
    id: SessionId,
}

impl Events {
    pub(super) fn open(
        state: Rc<RefCell<State>>,
        wanted: &Subscribe,
        guest: Guest,
        grant: Arc<Grant>,
    ) -> Self {
        let id = state.borrow_mut().open_events(wanted, guest, grant);
        Self { state, id }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.state.borrow_mut().detach(self.id);
    }
}

/// The body of any response of the public port.
pub(super) enum Answer<B> {
    /// Warp's, whose type has no name outside of it.
    Whole(B),
    Events(Events),
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Events(events) => {
                let chunk = events.state.borrow_mut().poll_events(events.id, context);
                chunk.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events(_) => hyper::body::SizeHint::default(),
        }
    }
}
