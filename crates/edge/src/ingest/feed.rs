//! One upstream connection: its socket, its monitor, and whether it is reached.

use std::time::Instant;

use trestle_process::curve::Identity;
use trestle_process::exit::Exit;
use trestle_process::seldom::Seldom;
use trestle_process::source::Endpoint;
use trestle_process::zmq::{Bounds, socket};
use zmq::{Context, Socket, SocketType};

use super::monitor::Monitor;
use super::reach::{Action, Reach};
use super::upstream::Upstream;

/// The sockets of a feed, apart from its state, so that they can be polled while that changes.
///
/// Each endpoint has a SUB socket of its own: libzmq's events name an endpoint by an address that changes from one
/// reconnect to the next, and could not be told apart on a shared one.
pub(super) struct Sockets {
    pub(super) sub: Socket,
    pub(super) monitor: Monitor,
}

/// The state of a feed.
pub(super) struct Feed {
    flag: &'static str,
    endpoint: Endpoint,
    /// The topic of all that it sends, which then are no topics of their own.
    pub(super) alias: Option<Vec<u8>>,
    /// An aliased feed is subscribed to as a whole or not at all.
    pub(super) subscribed: bool,
    reach: Reach,
    cuts: Seldom,
    actions: Vec<Action>,
}

impl Feed {
    /// Opens a feed and dials, as `identity` where the endpoint is a CURVE server; `flag` is named in errors.
    pub(super) fn open(
        context: &Context,
        flag: &'static str,
        endpoint: Endpoint,
        alias: Option<Vec<u8>>,
        (bounds, identity): (Bounds, &Identity),
        now: Instant,
    ) -> anyhow::Result<(Sockets, Self)> {
        let sub = socket(context, SocketType::SUB, bounds)?;
        let monitor = Monitor::attach(context, &sub, &format!("{:p}", &raw const sub))?;
        let refuse = |error| Exit::usage(format!("{flag} {endpoint}: {error}"));
        identity.dial(&sub, flag, endpoint.server())?;
        sub.connect(endpoint.as_str()).map_err(refuse)?;
        let feed = Self {
            flag,
            endpoint,
            alias,
            subscribed: false,
            reach: Reach::new(now),
            cuts: Seldom::default(),
            actions: Vec::new(),
        };
        Ok((Sockets { sub, monitor }, feed))
    }

    /// Takes in what libzmq says of the connection.
    pub(super) fn watch(&mut self, sockets: &Sockets, now: Instant, upstream: &Upstream) -> zmq::Result<()> {
        while let Some(event) = sockets.monitor.next()? {
            tracing::debug!(endpoint = %self.endpoint, ?event, "upstream");
            let stood = self.reach.stands();
            self.actions.extend(self.reach.on(event, now));
            match (stood, self.reach.stands()) {
                (false, true) => upstream.connects.add(1),
                (true, false) => upstream.disconnects.add(1),
                _ => {}
            }
        }
        self.act(sockets, now, upstream)
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, sockets: &Sockets, now: Instant, upstream: &Upstream) -> zmq::Result<()> {
        self.reach.tick(now, &mut self.actions);
        self.act(sockets, now, upstream)
    }

    /// Whether its connection stands.
    pub(super) fn stands(&self) -> bool {
        self.reach.stands()
    }

    fn act(&mut self, sockets: &Sockets, now: Instant, upstream: &Upstream) -> zmq::Result<()> {
        let (flag, endpoint) = (self.flag, &self.endpoint);
        for action in self.actions.drain(..) {
            match action {
                Action::SayReached => tracing::info!("{flag} {endpoint}: connected"),
                Action::SayUnreached { reason } => {
                    tracing::warn!("{flag} {endpoint}: not connected: {reason}; trying on");
                }
                Action::SayCut => {
                    upstream.cuts.add(1);
                    if let Some(unsaid) = self.cuts.say(now) {
                        tracing::warn!(
                            unsaid,
                            "{flag} {endpoint}: cut, for a frame over --frame-bytes-max or no ØMQ; trying anew"
                        );
                    }
                }
                Action::Redial => {
                    // Fails where libzmq has forgotten the endpoint already, which is all that is wanted.
                    let _ = sockets.sub.disconnect(endpoint.as_str());
                    sockets.sub.connect(endpoint.as_str())?;
                }
            }
        }
        Ok(())
    }
}
