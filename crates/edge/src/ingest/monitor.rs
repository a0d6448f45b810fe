//! Reads libzmq's own events of a socket's connection.

use trestle_process::curve::Cause;
use zmq::{Context, DONTWAIT, Error, Socket, SocketEvent, SocketType};

use super::reach::Event;

/// The receiving end of a socket's monitor; poll it like any socket.
pub(super) struct Monitor(Socket);

const WATCHED: [SocketEvent; 7] = [
    SocketEvent::CONNECTED,
    SocketEvent::CONNECT_RETRIED,
    SocketEvent::DISCONNECTED,
    SocketEvent::HANDSHAKE_SUCCEEDED,
    SocketEvent::HANDSHAKE_FAILED_NO_DETAIL,
    SocketEvent::HANDSHAKE_FAILED_PROTOCOL,
    SocketEvent::HANDSHAKE_FAILED_AUTH,
];

impl Monitor {
    /// Watches `socket` from now on; `name` is unique in `context`. Attach before connecting.
    pub(super) fn attach(context: &Context, socket: &Socket, name: &str) -> zmq::Result<Self> {
        let endpoint = format!("inproc://monitor-{name}");
        let watched = WATCHED.iter().fold(0, |mask, event| mask | i32::from(event.to_raw()));
        socket.monitor(&endpoint, watched)?;
        let monitor = context.socket(SocketType::PAIR)?;
        monitor.set_linger(0)?;
        monitor.connect(&endpoint)?;
        Ok(Self(monitor))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.0
    }

    /// The next event that has come, if any. A socket has one endpoint, so that the event's address says nothing new.
    pub(super) fn next(&self) -> zmq::Result<Option<Event>> {
        loop {
            // Frame 0 is the event as u16 and its value as u32 in the machine's byte order, frame 1 the address.
            let frames = match self.0.recv_multipart(DONTWAIT) {
                Err(Error::EAGAIN) => return Ok(None),
                Err(Error::EINTR) => continue,
                other => other?,
            };
            if let Some(event) = frames.first().and_then(|frame| event(frame)) {
                return Ok(Some(event));
            }
        }
    }
}

fn event(frame: &[u8]) -> Option<Event> {
    let (kind, value) = frame.split_first_chunk::<2>()?;
    let value = u32::from_ne_bytes(value.try_into().ok()?);
    let kind = u16::from_ne_bytes(*kind);
    // `SocketEvent::from_raw` would panic at one that it does not know.
    match WATCHED.into_iter().find(|watched| watched.to_raw() == kind)? {
        SocketEvent::CONNECTED => Some(Event::Connected),
        SocketEvent::HANDSHAKE_SUCCEEDED => Some(Event::Stands),
        SocketEvent::CONNECT_RETRIED => Some(Event::Retries),
        SocketEvent::DISCONNECTED => Some(Event::Ended),
        SocketEvent::HANDSHAKE_FAILED_AUTH => Some(Event::Refused(format!("it refuses our CURVE key (status {value})"))),
        SocketEvent::HANDSHAKE_FAILED_PROTOCOL => {
            let why = match Cause::of_protocol_error(value.into()) {
                Some(Cause::NotCurve) => "one end speaks CURVE, the other does not".to_owned(),
                Some(_) => "its CURVE key is another".to_owned(),
                None => format!("it does not speak ØMQ (ZMTP error {value:#x})"),
            };
            Some(Event::Refused(why))
        }
        _ => Some(Event::Refused("it ended the connection during the ØMQ handshake, as it does where CURVE keys are not those that it knows".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_on_the_wire() {
        let frame = |kind: SocketEvent, value: u32| {
            let kind = kind.to_raw().to_ne_bytes();
            event(&[&kind[..], &value.to_ne_bytes()].concat())
        };
        assert_eq!(frame(SocketEvent::CONNECTED, 9), Some(Event::Connected));
        assert_eq!(frame(SocketEvent::CONNECT_RETRIED, 100), Some(Event::Retries));
        assert_eq!(frame(SocketEvent::LISTENING, 1), None);
        assert_eq!(event(&[1]), None);
        let refused = frame(SocketEvent::HANDSHAKE_FAILED_PROTOCOL, 0x1000_0000);
        assert_eq!(refused, Some(Event::Refused("it does not speak ØMQ (ZMTP error 0x10000000)".to_owned())));
    }
}
