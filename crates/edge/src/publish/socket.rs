//! Publications sent to a ØMQ endpoint where there is no forwarder; beside `ingest` the only file that knows ØMQ.
//!
//! The socket is an XPUB: on the wire a PUB that hears who subscribes, and so knows when nobody does.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::Context as _;
use trestle_hub::encode::Publish;
use trestle_hub::{ErrorCode, Unpublished};
use trestle_process::curve::Identity;
use trestle_process::exit::Exit;
use trestle_process::source::Endpoint;
use trestle_process::zmq::{Bounds, socket};
use trestle_recorder::{Keys, Known};
use zmq::{Context, Socket};

use super::{Job, Jobs, Outcome};

/// A socket that connects to `endpoint`, which need not be there yet.
///
/// # Errors
/// An [`Exit`] with code 64 that names the flag.
pub(super) fn connect(endpoint: &Endpoint, bounds: Bounds, identity: &Identity) -> anyhow::Result<Socket> {
    let socket = socket(&Context::new(), zmq::XPUB, bounds).context("cannot open a ØMQ socket")?;
    identity.dial(&socket, "--publish-to", endpoint.server())?;
    let connected = socket.connect(endpoint.as_str());
    connected.map_err(|error| Exit::usage(format!("--publish-to: cannot connect to {endpoint}: {error}")))?;
    Ok(socket)
}

/// Sends until the other end of `jobs` is gone. An XPUB never waits.
pub(super) async fn serve(socket: Socket, endpoint: Endpoint, mut jobs: Jobs) {
    let mut sender = Sender { socket, endpoint, subscribed: HashSet::new(), keys: Keys::default() };
    while let Some(Job { publish, answer }) = jobs.recv().await {
        answer.give(sender.send(publish, Instant::now()));
    }
}

struct Sender {
    socket: Socket,
    endpoint: Endpoint,
    /// The prefixes that somebody there wants.
    subscribed: HashSet<Vec<u8>>,
    keys: Keys,
}

impl Sender {
    fn send(&mut self, publish: Publish, now: Instant) -> Outcome {
        self.listen();
        // What nobody wants does not leave, as ever in ØMQ; but where nobody wants anything, nobody is there.
        if self.subscribed.is_empty() {
            let reason = format!("nobody subscribes at {}", self.endpoint);
            return Err(Unpublished::new(ErrorCode::Unavailable, reason));
        }
        let frames: Vec<_> = std::iter::once(publish.topic).chain(publish.body).collect();
        let known = publish.key.map(|key| self.keys.enter(self.keys.fingerprint(&key, &frames), now));
        match known {
            Some(Known::Repeat(_)) => return Ok(None),
            Some(Known::Full) => {
                let reason = "more keys in two minutes than can be remembered";
                return Err(Unpublished::new(ErrorCode::RateLimited, reason));
            }
            Some(Known::New) | None => {}
        }
        let sent = self.socket.send_multipart(frames, zmq::DONTWAIT);
        sent.map(|()| None).map_err(|error| Unpublished::new(ErrorCode::Internal, error.to_string()))
    }

    /// Takes what has come up: subscriptions and their ends.
    fn listen(&mut self) {
        while let Ok(frame) = self.socket.recv_bytes(zmq::DONTWAIT) {
            match frame.split_first() {
                Some((1, prefix)) => _ = self.subscribed.insert(prefix.to_vec()),
                Some((0, prefix)) => _ = self.subscribed.remove(prefix),
                // Something else from a peer that is no SUB.
                _ => {}
            }
        }
    }
}
