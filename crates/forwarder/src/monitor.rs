//! What becomes of a socket's connections, as libzmq tells it.

use std::ffi::CString;

use trestle_process::curve::Cause;
use trestle_process::zmq::raw;
use zmq::{Context, Error, Socket, SocketEvent};

/// One event of a monitored socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A peer speaks ZMTP.
    Connected,
    /// A connection ended.
    Disconnected,
    /// libzmq will connect again.
    Retrying,
    /// A peer speaks something else, or its key is not in the allow-list, of which the gate tells.
    HandshakeFailed,
    /// The peer with this address stopped half-way.
    HungUp(String),
    /// CURVE does not let the peer with this address in.
    Refused(Cause, String),
}

const EVENTS: [SocketEvent; 6] = [
    SocketEvent::HANDSHAKE_SUCCEEDED,
    SocketEvent::DISCONNECTED,
    SocketEvent::CONNECT_RETRIED,
    SocketEvent::HANDSHAKE_FAILED_NO_DETAIL,
    SocketEvent::HANDSHAKE_FAILED_PROTOCOL,
    SocketEvent::HANDSHAKE_FAILED_AUTH,
];

/// Reads the events of one socket.
pub(crate) struct Monitor(Socket);

impl Monitor {
    /// Watches `socket` from now on. `number` is unique in the context.
    ///
    /// # Errors
    /// What libzmq answers, in practice only that there are no more file descriptors.
    pub(crate) fn attach(context: &Context, socket: &mut Socket, number: usize) -> Result<Self, Error> {
        let endpoint = format!("inproc://monitor/{number}");
        let address = CString::new(&*endpoint).expect("a number has no NUL");
        raw::monitor(
            socket,
            &address,
            EVENTS.iter().fold(0, |mask, event| mask | u64::from(event.to_raw())),
        )?;
        let pair = context.socket(zmq::PAIR)?;
        // No bound: libzmq's I/O thread would wait for us, and all connections with it. We read every second.
        pair.set_rcvhwm(0)?;
        pair.set_linger(0)?;
        pair.connect(&endpoint)?;
        Ok(Self(pair))
    }

    /// The next event that has come.
    pub(crate) fn next(&self) -> Option<Event> {
        loop {
            // The event, how many values follow, the values, the local endpoint, the remote one.
            let frames = self.0.recv_multipart(zmq::DONTWAIT).ok()?;
            let number = |n: usize| frames.get(n)?[..].try_into().ok().map(u64::from_ne_bytes);
            let remote = frames.last().map(|remote| String::from_utf8_lossy(remote).into_owned());
            let event = EVENTS.into_iter().find(|event| number(0) == Some(u64::from(event.to_raw())));
            if let Some(event) = event {
                return Some(of(event, number(2), remote.unwrap_or_default()));
            }
        }
    }
}

fn of(event: SocketEvent, value: Option<u64>, remote: String) -> Event {
    match event {
        SocketEvent::HANDSHAKE_SUCCEEDED => Event::Connected,
        SocketEvent::DISCONNECTED => Event::Disconnected,
        SocketEvent::CONNECT_RETRIED => Event::Retrying,
        SocketEvent::HANDSHAKE_FAILED_PROTOCOL => match value.and_then(Cause::of_protocol_error) {
            Some(cause) => Event::Refused(cause, remote),
            None => Event::HandshakeFailed,
        },
        SocketEvent::HANDSHAKE_FAILED_NO_DETAIL => Event::HungUp(remote),
        _ => Event::HandshakeFailed,
    }
}
