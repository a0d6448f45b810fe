//! What becomes of a socket's connections, as libzmq tells it.

use zmq::{Context, Error, Socket, SocketEvent};

/// One event of a monitored socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A peer speaks ZMTP.
    Connected,
    /// A connection ended.
    Disconnected,
    /// libzmq will connect again.
    Retrying,
    /// A peer speaks something else, or stopped half-way.
    HandshakeFailed,
}

const EVENTS: i32 = SocketEvent::HANDSHAKE_SUCCEEDED as i32
    | SocketEvent::DISCONNECTED as i32
    | SocketEvent::CONNECT_RETRIED as i32
    | SocketEvent::HANDSHAKE_FAILED_NO_DETAIL as i32
    | SocketEvent::HANDSHAKE_FAILED_PROTOCOL as i32
    | SocketEvent::HANDSHAKE_FAILED_AUTH as i32;

/// Reads the events of one socket.
pub(crate) struct Monitor(Socket);

impl Monitor {
    /// Watches `socket` from now on. `name` is unique in the context.
    ///
    /// # Errors
    /// What libzmq answers, in practice only that there are no more file descriptors.
    pub(crate) fn attach(context: &Context, socket: &Socket, name: &str) -> Result<Self, Error> {
        let endpoint = format!("inproc://monitor/{name}");
        socket.monitor(&endpoint, EVENTS)?;
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
            let event = self.0.recv_bytes(zmq::DONTWAIT).ok()?;
            // The second frame is the endpoint, which on a socket that binds is its own.
            self.0.recv_bytes(0).ok()?;
            let number = u16::from_ne_bytes([*event.first()?, *event.get(1)?]);
            match SocketEvent::from_raw(number) {
                SocketEvent::HANDSHAKE_SUCCEEDED => return Some(Event::Connected),
                SocketEvent::DISCONNECTED => return Some(Event::Disconnected),
                SocketEvent::CONNECT_RETRIED => return Some(Event::Retrying),
                SocketEvent::HANDSHAKE_FAILED_NO_DETAIL
                | SocketEvent::HANDSHAKE_FAILED_PROTOCOL
                | SocketEvent::HANDSHAKE_FAILED_AUTH => return Some(Event::HandshakeFailed),
                _ => {}
            }
        }
    }
}
