//! Publishing over ØMQ, as an XPUB, which hears who subscribes.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use trestle_process::exit::Exit;
use trestle_process::source::Endpoint;
use trestle_process::zmq::{self as sockets, Bounds, Listen};

use crate::interrupt;

/// How often an endless wait for a subscription looks at the clock, milliseconds.
const POLL_MS: i64 = 50;

/// A ØMQ publisher.
pub struct ZmqPublisher {
    socket: zmq::Socket,
    endpoint: String,
    /// What has been subscribed to, by prefix.
    prefixes: HashSet<Vec<u8>>,
}

impl fmt::Debug for ZmqPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZmqPublisher").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl ZmqPublisher {
    /// Connects; the peer need not be there yet.
    pub fn connect(endpoint: &Endpoint) -> Result<Self, Exit> {
        let socket = socket()?;
        let refuse = |error| Exit::usage(format!("--publish {endpoint}: {error}"));
        socket.connect(endpoint.as_str()).map_err(refuse)?;
        Ok(Self { socket, endpoint: endpoint.to_string(), prefixes: HashSet::new() })
    }

    /// Listens.
    pub fn bind(listen: &Listen) -> Result<Self, Exit> {
        let socket = socket()?;
        let endpoint = sockets::bind(&socket, "--publish-bind", listen)?;
        Ok(Self { socket, endpoint, prefixes: HashSet::new() })
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn await_subscriptions(&mut self, topics: &[String], timeout: Duration) -> Result<(), Exit> {
        let deadline = Instant::now() + timeout;
        for topic in topics {
            while !self.is_wanted(topic) {
                if Instant::now() > deadline {
                    let waited = timeout.as_secs_f64();
                    let (place, count) = (&self.endpoint, self.prefixes.len());
                    return Err(Exit::unavailable(format!(
                        "publisher at {place}: nobody subscribed to {topic} within {waited} s ({count} other subscriptions)"
                    )));
                }
                self.hear()?;
            }
        }
        Ok(())
    }

    fn is_wanted(&self, topic: &str) -> bool {
        (0..=topic.len()).any(|length| self.prefixes.contains(&topic.as_bytes()[..length]))
    }

    /// Takes in subscriptions, for a moment.
    fn hear(&mut self) -> Result<(), Exit> {
        interrupt::check()?;
        let failed = |error: zmq::Error| Exit::os(format!("ØMQ: {error}"));
        sockets::poll(&mut [self.socket.as_poll_item(zmq::POLLIN)], POLL_MS).map_err(failed)?;
        loop {
            match self.socket.recv_bytes(zmq::DONTWAIT) {
                Ok(message) => match message.split_first() {
                    Some((1, prefix)) => drop(self.prefixes.insert(prefix.to_vec())),
                    Some((0, prefix)) => drop(self.prefixes.remove(prefix)),
                    _ => {}
                },
                Err(zmq::Error::EAGAIN) => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
        }
    }

    pub fn publish(&self, topic: &str, body: &[u8]) -> io::Result<()> {
        self.socket.send(topic, zmq::SNDMORE)?;
        Ok(self.socket.send(body, 0)?)
    }
}

/// Without a send HWM: a message lost here would be counted against the server.
fn socket() -> Result<zmq::Socket, Exit> {
    let bounds = Bounds { send_hwm: 0, ..Bounds::default() };
    sockets::socket(&zmq::Context::new(), zmq::XPUB, bounds)
        .map_err(|error| Exit::os(format!("ØMQ: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_the_topics_that_it_publishes() {
        let mut publisher = ZmqPublisher::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let topics = ["a1".to_owned(), "b/7".to_owned()];
        let error = publisher.await_subscriptions(&topics, Duration::from_millis(1)).unwrap_err();
        assert!(
            error.code == trestle_process::exit::UNAVAILABLE && error.reason.contains("subscribed to a1")
        );

        let context = zmq::Context::new();
        let subscriber = context.socket(zmq::SUB).unwrap();
        subscriber.connect(publisher.endpoint()).unwrap();
        subscriber.set_subscribe(b"a1").unwrap();
        subscriber.set_subscribe(b"b").unwrap();
        publisher.await_subscriptions(&topics, Duration::from_secs(20)).unwrap();
        publisher.publish("b/7", b"body").unwrap();
        assert_eq!(subscriber.recv_multipart(0).unwrap(), [b"b/7".to_vec(), b"body".to_vec()]);
    }
}
