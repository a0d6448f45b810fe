//! The publisher's XPUB sockets: who wants what, and sending to them. The only file that knows ØMQ.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tracing::info;
use trestle_process::curve::CurveFlags;
use trestle_process::exit::Exit;
use trestle_process::wake::Wakeable;
use trestle_process::zmq::{self as safe, Bounds, raw};
use zmq::{Context, DONTWAIT, Error, POLLIN, PollItem, SNDMORE, Socket, SocketType};

use crate::config::Attach;
use crate::interest::Interest;

/// Messages that the tool queues for one peer before it waits for it.
const TOOL_QUEUE_MESSAGES_MAX: i32 = 1_000;
/// Messages that the demo queues for one peer before ØMQ drops: about a minute of it.
const DEMO_QUEUE_MESSAGES_MAX: i32 = 1_000;
/// How long what a tool has queued may take to leave when it ends, milliseconds.
const LINGER_MS_MAX: i32 = 5_000;
/// A blocked send looks this often whether it shall stop, milliseconds.
const SEND_SLICE_MS: i32 = 100;
/// Subscriptions taken from one socket before the others have their turn.
const SUBSCRIPTIONS_BATCH_MAX: usize = 1_000;

/// What becomes of messages that a peer does not take fast enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// They are dropped, as PUB does: the next event says more than an old one.
    Newest,
    /// Sending waits; at the end what is queued may still leave.
    Every,
}

/// What another thread says to this one: stop.
#[derive(Debug)]
pub(crate) struct Control {
    wakeable: Wakeable,
    stop: Arc<AtomicBool>,
}

impl Control {
    /// `wakeable` is woken after `stop` is set.
    pub(crate) fn new(wakeable: Wakeable, stop: Arc<AtomicBool>) -> Self {
        Self { wakeable, stop }
    }
}

/// The XPUB sockets: one for each endpoint, so that each one's interest is known apart.
pub(crate) struct Outlets {
    outlets: Vec<Outlet>,
    control: Control,
}

struct Outlet {
    endpoint: String,
    socket: Socket,
    interest: Interest,
}

/// Why [`Outlets::poll`] returned, beside its deadline.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Woken {
    /// Prefixes that were subscribed to since the last poll, also such as others have already.
    pub(crate) subscribed: Vec<Vec<u8>>,
    /// The input can be read.
    pub(crate) readable: bool,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is queued for every peer that wants it.
    Yes,
    /// [`Outlets::is_stopped`]: it may have reached some of the endpoints.
    Stopped,
}

impl Outlets {
    /// Opens the sockets in a context of their own.
    ///
    /// # Errors
    /// An [`Exit`] that names the flag and the endpoint.
    pub(crate) fn open(
        attach: &Attach,
        curve: &CurveFlags,
        delivery: Delivery,
        control: Control,
    ) -> anyhow::Result<Self> {
        let (context, peers) = (Context::new(), attach.peers()?);
        let identity = match attach {
            Attach::Bind(_) => curve.open()?,
            Attach::Connect(_) => curve.client(peers.iter().map(|(_, server)| server.as_ref()))?,
        };
        let outlets = match attach {
            Attach::Bind(listen) => {
                let mut socket = open_socket(&context, delivery)?;
                if curve.curve_secret_key.is_some() {
                    identity.listen(&mut socket, "bind", None).context("libzmq takes no CURVE key")?;
                    info!("subscribers need this publisher's public key: {}", identity.public());
                }
                let endpoint = safe::bind(&socket, "--bind", listen)?;
                vec![Outlet { endpoint, socket, interest: Interest::default() }]
            }
            Attach::Connect(_) => peers
                .into_iter()
                .map(|(endpoint, server)| {
                    let socket = open_socket(&context, delivery)?;
                    identity.dial(&socket, "--connect", server.as_ref())?;
                    let refuse = |e| Exit::usage(format!("--connect {endpoint}: {e}"));
                    socket.connect(endpoint).map_err(refuse)?;
                    Ok(Outlet { endpoint: endpoint.to_owned(), socket, interest: Interest::default() })
                })
                .collect::<anyhow::Result<_>>()?,
        };
        Ok(Self { outlets, control })
    }

    /// The endpoints, in the order of the configuration, with the ports they got.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.outlets.iter().map(|outlet| outlet.endpoint.clone()).collect()
    }

    /// Whether somebody asked to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.control.stop.load(Ordering::Acquire)
    }

    /// Whether anybody subscribed to anything.
    pub(crate) fn is_wanted(&self) -> bool {
        self.outlets.iter().any(|outlet| !outlet.interest.is_empty())
    }

    /// The endpoints where no subscription covers `topic`.
    pub(crate) fn uncovered(&self, topic: &[u8]) -> Vec<&str> {
        let uncovered = self.outlets.iter().filter(|outlet| !outlet.interest.covers(topic));
        uncovered.map(|outlet| outlet.endpoint.as_str()).collect()
    }

    /// How many endpoints there are.
    pub(crate) fn len(&self) -> usize {
        self.outlets.len()
    }

    /// Waits until subscriptions come, `input` can be read, `until` has come, or somebody asks to stop. `None` waits
    /// without end.
    pub(crate) fn poll(
        &mut self,
        until: Option<Instant>,
        input: Option<BorrowedFd<'_>>,
    ) -> anyhow::Result<Woken> {
        let mut items = vec![PollItem::from_fd(self.control.wakeable.as_raw_fd(), POLLIN)];
        items.extend(self.outlets.iter().map(|outlet| outlet.socket.as_poll_item(POLLIN)));
        items.extend(input.map(|fd| PollItem::from_fd(fd.as_raw_fd(), POLLIN)));
        safe::poll(&mut items, until.map_or(-1, millis_until)).context("cannot poll the sockets")?;
        // A closed pipe shows as an error; reading it says so.
        let ready = |item: &PollItem<'_>| !item.get_revents().is_empty();
        let readable = input.is_some() && items.last().is_some_and(ready);
        if ready(&items[0]) {
            self.control.wakeable.drain();
        }
        let mut subscribed = Vec::new();
        for outlet in &mut self.outlets {
            outlet.take_subscriptions(&mut subscribed)?;
        }
        Ok(Woken { subscribed, readable })
    }

    /// Sends one message to every endpoint. With [`Delivery::Every`] it waits for each, up to `wait`.
    ///
    /// # Errors
    /// An [`Exit`] with code 69 that names the endpoint that has taken nothing for so long.
    pub(crate) fn send(&self, frames: &[&[u8]], wait: Duration) -> anyhow::Result<Sent> {
        for outlet in &self.outlets {
            if self.send_to(outlet, frames, wait)? == Sent::Stopped {
                return Ok(Sent::Stopped);
            }
        }
        Ok(Sent::Yes)
    }

    fn send_to(&self, outlet: &Outlet, frames: &[&[u8]], wait: Duration) -> anyhow::Result<Sent> {
        let (last, front) = frames.split_last().expect("a message has at least one frame");
        let mut blocked_since = None;
        for (n, frame) in front.iter().chain([last]).enumerate() {
            let flags = if n < front.len() { SNDMORE } else { 0 };
            // Only the first frame can meet a full queue: queues count whole messages.
            while let Err(error) = outlet.socket.send(*frame, flags) {
                match error {
                    Error::EINTR => {}
                    Error::EAGAIN if self.is_stopped() => return Ok(Sent::Stopped),
                    Error::EAGAIN => {
                        let since = *blocked_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= wait {
                            let reason = format!("{}: takes no messages for {wait:?}", outlet.endpoint);
                            return Err(Exit::unavailable(reason).into());
                        }
                    }
                    error => return Err(error).with_context(|| format!("{}: cannot send", outlet.endpoint)),
                }
            }
        }
        Ok(Sent::Yes)
    }
}

impl Outlet {
    fn take_subscriptions(&mut self, subscribed: &mut Vec<Vec<u8>>) -> anyhow::Result<()> {
        for _ in 0..SUBSCRIPTIONS_BATCH_MAX {
            match self.socket.recv_bytes(DONTWAIT) {
                Ok(message) => subscribed.extend(self.interest.take(&message).map(<[u8]>::to_vec)),
                Err(Error::EAGAIN | Error::EINTR) => break,
                Err(error) => {
                    return Err(error).with_context(|| format!("{}: cannot receive", self.endpoint));
                }
            }
        }
        Ok(())
    }
}

fn open_socket(context: &Context, delivery: Delivery) -> anyhow::Result<Socket> {
    let send_hwm = match delivery {
        Delivery::Newest => DEMO_QUEUE_MESSAGES_MAX,
        Delivery::Every => TOOL_QUEUE_MESSAGES_MAX,
    };
    let bounds = Bounds { send_hwm, ..Bounds::default() };
    let mut socket = safe::socket(context, SocketType::XPUB, bounds).context("cannot open a ØMQ socket")?;
    // Each subscription is told, also one that another peer has already: whoever comes gets a first event at once.
    socket.set_xpub_verbose(true)?;
    if delivery == Delivery::Every {
        raw::set_int(&mut socket, raw::XPUB_NODROP, 1)?;
        socket.set_sndtimeo(SEND_SLICE_MS)?;
        socket.set_linger(LINGER_MS_MAX)?;
    }
    Ok(socket)
}

/// Whole milliseconds until `deadline`, rounded up: a poll that ends early would only turn again.
fn millis_until(deadline: Instant) -> i64 {
    let left = deadline.saturating_duration_since(Instant::now());
    i64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(i64::MAX)
}
