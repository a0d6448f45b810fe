//! The forwarder's ØMQ sockets: opened here, owned by the proxy thread.

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use trestle_process::curve::{Gate, Refused};
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

/// What the sockets that bind are called in metrics and logs.
const PORTS: [&str; 3] = ["frontend", "backend", "link"];

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
    /// Who is let in by CURVE. Behind the sockets, which are dropped in this order.
    _gate: Option<Gate>,
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
    pub(crate) fn open(config: &Config, registry: &mut Registry) -> anyhow::Result<(Self, Watch, Bound)> {
        let (context, bounds) = (Context::new(), config.bounds());
        let (is_curve, identity) = config.identity()?;
        let refused = Refused::default();
        let mut watch = Watch::new(config.frame_bytes_max, is_curve.then(|| refused.clone()));
        if is_curve {
            refused.register(registry, &PORTS);
            tracing::info!("ØMQ ports speak CURVE; this forwarder's public key: {}", identity.public());
        }
        let gate = config.curve_allow.as_deref().map(|allow| Gate::open(&context, allow, refused, registry));
        let gate = gate.transpose()?;
        if is_curve && gate.is_none() {
            tracing::warn!(
                "no --curve-allow: whoever knows this forwarder's public key may publish and subscribe"
            );
        }
        let mut open = |kind, name: &str, source: Option<&Endpoint>| -> anyhow::Result<zmq::Socket> {
            let mut socket = socket(&context, kind, bounds).context("cannot open a ØMQ socket")?;
            watch.add(&context, &mut socket, name, source).context("cannot monitor a ØMQ socket")?;
            match source {
                Some(source) => identity.dial(&socket, "--source", source.server())?,
                None if is_curve => {
                    identity.listen(&mut socket, name, gate.as_ref()).context("libzmq takes no CURVE key")?;
                }
                None => {}
            }
            Ok(socket)
        };
        let [frontend, backend, link] = PORTS;
        let frontend = open(zmq::XSUB, frontend, None)?;
        let backend = open(zmq::XPUB, backend, None)?;
        let mut link = open(zmq::XPUB, link, None)?;
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
        let (backend, link) = (Port::new(backend), Port::new(link));
        Ok((Self { inputs, backend, link, _gate: gate }, watch, bound))
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
