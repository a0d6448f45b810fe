//! The forwarder's ØMQ sockets: opened here, owned by the proxy thread.

use anyhow::Context as _;
use trestle_process::exit::Exit;
use trestle_process::source::{Endpoint, Source};
use trestle_process::zmq::{bind, raw, socket};
use zmq::{Context, Error};

use crate::config::Config;
use crate::message::Port;
use crate::watch::Watch;

/// `ZMQ_XPUB_VERBOSE`, which the `zmq` crate does not know.
const XPUB_VERBOSE: i32 = 40;

/// What is still queued for a peer is sent for this long after the end, milliseconds.
const LINGER_MS: i32 = 1_000;

/// Where messages come in: the frontend, or a source. Each source has a socket of its own, so that an alias is known and a
/// cut connection is known to be its.
pub(crate) struct Input {
    pub(crate) port: Port,
    /// The topic of everything it sends.
    pub(crate) alias: Option<Vec<u8>>,
}

/// All sockets that carry messages. The last one dropped ends the context, which waits for what lingers.
pub(crate) struct Sockets {
    /// The frontend, then the sources.
    pub(crate) inputs: Vec<Input>,
    pub(crate) backend: Port,
    pub(crate) link: Port,
}

/// Where the sockets that bind are reached.
pub(crate) struct Bound {
    pub(crate) frontend: String,
    pub(crate) backend: String,
    pub(crate) link: String,
}

impl Sockets {
    /// Binds all ports and connects to all sources, which need not be there yet.
    ///
    /// # Errors
    /// An [`Exit`] that names the flag and address at fault.
    pub(crate) fn open(config: &Config) -> anyhow::Result<(Self, Watch, Bound)> {
        let (context, bounds) = (Context::new(), config.bounds());
        let mut watch = Watch::new(config.frame_bytes_max);
        let mut open = |kind, name: &str, source: Option<&Endpoint>| -> anyhow::Result<zmq::Socket> {
            let socket = socket(&context, kind, bounds).context("cannot open a ØMQ socket")?;
            watch.add(&context, &socket, name, source).context("cannot monitor a ØMQ socket")?;
            Ok(socket)
        };
        let frontend = open(zmq::XSUB, "frontend", None)?;
        let backend = open(zmq::XPUB, "backend", None)?;
        let mut link = open(zmq::XPUB, "link", None)?;
        // Tells of each subscription, not only of a prefix's first: a second edge is to get its first beat at once too.
        // Ends of subscriptions stay told once, and `Wants` is a set, so nothing leaks upward.
        raw::set_int(&mut link, XPUB_VERBOSE, 1)?;
        let bound = Bound {
            frontend: bind(&frontend, "--frontend", &config.frontend)?,
            backend: bind(&backend, "--backend", &config.backend)?,
            link: bind(&link, "--link", &config.link)?,
        };
        let mut inputs = vec![Input { port: Port::new(frontend), alias: None }];
        for Source { alias, endpoint } in &config.source {
            let socket = open(zmq::XSUB, &endpoint.to_string(), Some(endpoint))?;
            let connected = socket.connect(endpoint.as_str());
            connected
                .map_err(|error| Exit::usage(format!("--source: cannot connect to {endpoint}: {error}")))?;
            inputs.push(Input { port: Port::new(socket), alias: alias.clone() });
        }
        Ok((Self { inputs, backend: Port::new(backend), link: Port::new(link) }, watch, bound))
    }

    /// Backend, link, then the inputs.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &Port> {
        [&self.backend, &self.link].into_iter().chain(self.inputs.iter().map(|input| &input.port))
    }

    /// Lets what is queued on backend and link go out when the sockets are dropped.
    pub(crate) fn linger(&self) -> Result<(), Error> {
        self.backend.socket().set_linger(LINGER_MS)?;
        self.link.socket().set_linger(LINGER_MS)
    }
}
