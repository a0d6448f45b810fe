//! Watches the connections of all sockets: counts them, logs what a person should know, mends what libzmq gives up.
//!
//! libzmq says that a connection ended, not why: on a socket that binds, a peer that left and one that was cut for a frame
//! over the limit look the same. On one that connects they differ: after a peer left, libzmq tries again and says so;
//! after it cut one, it gives the endpoint up for good.

use std::time::{Duration, Instant};

use bytesize::ByteSize;
use trestle_process::curve::{Cause, Refused};
use trestle_process::source::Endpoint;
use zmq::{Context, Error, Socket};

use crate::message::Port;
use crate::metrics::Metrics;
use crate::monitor::{Event, Monitor};
use crate::sockets::Sockets;

/// How often the events are read.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A source whose connection has ended and that libzmq does not say to try again for this long was cut.
const RETRY_SAID_WITHIN: Duration = Duration::from_secs(1);

struct Watched {
    name: String,
    monitor: Monitor,
    /// Of a source, which libzmq connects to.
    line: Option<Line>,
}

/// The monitors of all sockets, in the order in which they were opened: frontend, backend, link, sources.
pub(crate) struct Watch {
    watched: Vec<Watched>,
    last: Option<Instant>,
    frame_bytes_max: ByteSize,
    refused: Option<Refused>,
}

/// Sockets in front of the sources: frontend, backend, link.
const PORTS: usize = 3;

impl Watch {
    /// `refused` counts whom CURVE turns away at the ports, where they speak it.
    pub(crate) fn new(frame_bytes_max: ByteSize, refused: Option<Refused>) -> Self {
        Self { watched: Vec::new(), last: None, frame_bytes_max, refused }
    }

    /// Watches one more socket.
    ///
    /// # Errors
    /// What libzmq answers.
    pub(crate) fn add(
        &mut self,
        context: &Context,
        socket: &mut Socket,
        name: &str,
        source: Option<&Endpoint>,
    ) -> Result<(), Error> {
        let monitor = Monitor::attach(context, socket, self.watched.len())?;
        self.watched.push(Watched { name: name.to_owned(), monitor, line: source.cloned().map(Line::new) });
        Ok(())
    }

    /// What each watched socket is called.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.watched.iter().map(|watched| &*watched.name)
    }

    /// Once a second: reads all events since the last time.
    pub(crate) fn look(&mut self, sockets: &Sockets, metrics: &Metrics, now: Instant) {
        if self.last.is_some_and(|last| now.duration_since(last) < WATCH_INTERVAL) {
            return;
        }
        self.last = Some(now);
        for (n, Watched { name, monitor, line }) in self.watched.iter_mut().enumerate() {
            let mut ended = 0;
            while let Some(event) = monitor.next() {
                metrics.connection(n, &event);
                ended += u32::from(event == Event::Disconnected);
                match (line.as_mut(), event, &self.refused) {
                    (Some(line), event, _) => line.on(&event, now),
                    (None, Event::Refused(cause, from), Some(refused)) => refused.count(name, cause, &from),
                    (None, Event::HungUp(from), Some(refused)) => refused.count(name, Cause::HungUp, &from),
                    (None, ..) => {}
                }
            }
            let limit = self.frame_bytes_max;
            if let Some(line) = line {
                if line.mend(&sockets.inputs[n + 1 - PORTS].port, now) {
                    metrics.source_cut();
                    tracing::warn!(
                        "source {name} was cut: it sent a frame over {limit} or no ZMTP; connecting again"
                    );
                }
            } else if n == 0 && ended > 0 {
                tracing::info!(
                    "{ended} publishers' connections ended; ØMQ does not tell whether they left or were cut for a frame \
                     over {limit}"
                );
            }
        }
    }
}

/// The connection to one source.
struct Line {
    endpoint: Endpoint,
    /// Since when it is gone without a word that libzmq tries again.
    gone: Option<Instant>,
    /// An outage is told once.
    told: bool,
}

impl Line {
    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, gone: None, told: false }
    }

    /// What its monitor says.
    fn on(&mut self, event: &Event, now: Instant) {
        let endpoint = &self.endpoint;
        match event {
            Event::Connected => {
                tracing::info!("connected to source {endpoint}");
                (self.gone, self.told) = (None, false);
            }
            Event::Disconnected => self.gone = Some(now),
            Event::Retrying => {
                if !self.told {
                    tracing::warn!("source {endpoint} cannot be reached or has gone; trying again");
                }
                (self.gone, self.told) = (None, true);
            }
            Event::HandshakeFailed | Event::HungUp(_) | Event::Refused(..) => {
                if !self.told {
                    tracing::warn!(
                        "source {endpoint} speaks no ZMTP, or no CURVE where it should or should not, or refuses this forwarder"
                    );
                }
                self.told = true;
            }
        }
    }

    /// Connects anew if libzmq has cut the connection, after which it does not try by itself. True if so.
    fn mend(&mut self, port: &Port, now: Instant) -> bool {
        if self.gone.is_none_or(|since| now.duration_since(since) < RETRY_SAID_WITHIN) {
            return false;
        }
        self.gone = None;
        // Of the old connection only its entry is left; where even that is gone, so much the better.
        let _ = port.socket().disconnect(self.endpoint.as_str());
        if let Err(error) = port.socket().connect(self.endpoint.as_str()) {
            tracing::error!("source {}: cannot connect again: {error}", self.endpoint);
        }
        true
    }
}
