//! ØMQ sockets with what libzmq leaves unsafe set right, by name and with its reason.

use std::fmt;
use std::str::FromStr;

use zmq::{Context, Error, Socket, SocketType};

use crate::exit::Exit;

/// `ZMQ_XPUB_VERBOSER` and its like are not in the `zmq` crate; this is all that Trestle needs of them.
pub mod raw {
    use std::ffi::{CStr, c_char, c_int, c_void};

    /// `ZMQ_XPUB_MANUAL`.
    pub const XPUB_MANUAL: i32 = 71;
    /// `ZMQ_XPUB_VERBOSER`.
    pub const XPUB_VERBOSER: i32 = 78;
    /// `ZMQ_XPUB_NODROP`.
    pub const XPUB_NODROP: i32 = 69;
    /// `ZMQ_IN_BATCH_SIZE`, a draft option: bytes read from a peer at once.
    pub const IN_BATCH_SIZE: i32 = 101;
    /// `ZMQ_OUT_BATCH_SIZE`, a draft option: bytes written to a peer at once.
    pub const OUT_BATCH_SIZE: i32 = 102;

    /// Sets an `int` option that the `zmq` crate does not know.
    ///
    /// # Errors
    /// What libzmq answers, for example `EINVAL` on a socket of another type.
    #[expect(unsafe_code, reason = "zmq_setsockopt is libzmq's C interface")]
    pub fn set_int(socket: &mut zmq::Socket, option: i32, value: i32) -> Result<(), zmq::Error> {
        // SAFETY: the socket pointer is valid while `socket` is borrowed; libzmq copies the `int` it is pointed to.
        let answer = unsafe {
            zmq_sys::zmq_setsockopt(
                socket.as_mut_ptr(),
                option,
                std::ptr::from_ref(&value).cast(),
                size_of::<i32>(),
            )
        };
        // SAFETY: `zmq_errno` has no preconditions.
        if answer == 0 { Ok(()) } else { Err(zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() })) }
    }

    #[expect(unsafe_code, reason = "a draft function of libzmq, which the zmq crate does not know")]
    unsafe extern "C" {
        fn zmq_socket_monitor_versioned(
            socket: *mut c_void,
            address: *const c_char,
            events: u64,
            event_version: c_int,
            kind: c_int,
        ) -> c_int;
    }

    /// Monitors `socket` on the PAIR endpoint `address`, in version 2 of the events' format, which says who the peer is:
    /// event, number of values, each value, as 64-bit numbers in the machine's order; local and remote endpoint.
    ///
    /// # Errors
    /// What libzmq answers, in practice only that there are no more file descriptors.
    #[expect(unsafe_code, reason = "zmq_socket_monitor_versioned is libzmq's C interface")]
    pub fn monitor(socket: &mut zmq::Socket, address: &CStr, events: u64) -> Result<(), zmq::Error> {
        let kind = zmq::PAIR as c_int;
        // SAFETY: the socket pointer is valid while `socket` is borrowed; libzmq reads the address up to its NUL.
        let answer =
            unsafe { zmq_socket_monitor_versioned(socket.as_mut_ptr(), address.as_ptr(), events, 2, kind) };
        // SAFETY: `zmq_errno` has no preconditions.
        if answer == 0 { Ok(()) } else { Err(zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() })) }
    }
}

/// A peer that says nothing is asked this often, milliseconds.
const HEARTBEAT_INTERVAL_MS: i32 = 5_000;
/// A peer that does not answer is gone after this, milliseconds.
const HEARTBEAT_TIMEOUT_MS: i32 = 15_000;
/// The first reconnect comes after this, milliseconds; each further one after twice as long …
const RECONNECT_MS: i32 = 100;
/// … up to this.
const RECONNECT_MS_MAX: i32 = 5_000;
/// Whoever connects and does not finish ZMTP's handshake is dropped after this, milliseconds.
const HANDSHAKE_MS_MAX: i32 = 10_000;
/// Bytes written to a peer at once, where so many wait. libzmq's own 8 KiB are some fifty messages of 128 bytes, and the
/// cost of a write is mostly that of the call: with 64 KiB the forwarder moves 1.5 times as many. One such buffer for each
/// peer that is sent to.
const OUT_BATCH_BYTES: i32 = 64 << 10;
/// Idle seconds before TCP's own keepalive probes, for peers that speak no ZMTP heartbeats (before 3.1).
const KEEPALIVE_IDLE_S: i32 = 30;

/// What a peer says to a PUB or XPUB, which are subscriptions: larger ones cut it. libzmq walks a trie of prefixes by
/// recursion as deep as the longest is (4.3.4, `trie_t`): one of a megabyte overflowed the stack and ended the process.
const SUBSCRIPTION_BYTES_MAX: i64 = 4 << 10;

/// Bounds of one socket, by configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// A larger frame cuts the peer that sends it. Default 4 MiB.
    pub frame_bytes_max: i64,
    /// Messages (whole multiparts) queued for one peer before ØMQ drops. 0 is no bound. Default 100,000: a second's
    /// stall at that rate.
    pub send_hwm: i32,
    /// Messages queued from one peer. Default 100,000.
    pub recv_hwm: i32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { frame_bytes_max: 4 << 20, send_hwm: 100_000, recv_hwm: 100_000 }
    }
}

/// Checks that libzmq was built with what Trestle relies on; the `zmq` crate's own build lacks it silently. Keepalive and
/// eventfd cannot be asked for; the build script and a test see to them.
///
/// # Errors
/// Names what is missing.
pub fn check_build() -> Result<(), Exit> {
    for capability in ["curve", "ipc", "draft"] {
        if zmq::has(capability) != Some(true) {
            let hint = "build within the workspace, whose .cargo/config.toml sets CXXFLAGS";
            return Err(Exit::os(format!("libzmq was built without {capability}: {hint}")));
        }
    }
    Ok(())
}

/// A socket with heartbeats, keepalive, bounded frames and handshakes, reconnects that back off, and no linger. Sockets
/// that send subscriptions upward (SUB, XSUB) get no send HWM: beyond one, libzmq drops subscriptions silently.
///
/// # Errors
/// What libzmq answers, in practice only that there are no more file descriptors.
pub fn socket(context: &Context, kind: SocketType, bounds: Bounds) -> Result<Socket, Error> {
    let mut socket = context.socket(kind)?;
    raw::set_int(&mut socket, raw::OUT_BATCH_SIZE, OUT_BATCH_BYTES)?;
    let sends_subscriptions = matches!(kind, SocketType::SUB | SocketType::XSUB);
    socket.set_sndhwm(if sends_subscriptions { 0 } else { bounds.send_hwm })?;
    socket.set_rcvhwm(bounds.recv_hwm)?;
    let is_subscribed_to = matches!(kind, SocketType::PUB | SocketType::XPUB);
    let frame_bytes_max = if is_subscribed_to { SUBSCRIPTION_BYTES_MAX } else { i64::MAX };
    socket.set_maxmsgsize(bounds.frame_bytes_max.min(frame_bytes_max))?;
    socket.set_heartbeat_ivl(HEARTBEAT_INTERVAL_MS)?;
    socket.set_heartbeat_timeout(HEARTBEAT_TIMEOUT_MS)?;
    socket.set_handshake_ivl(HANDSHAKE_MS_MAX)?;
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(KEEPALIVE_IDLE_S)?;
    socket.set_reconnect_ivl(RECONNECT_MS)?;
    socket.set_reconnect_ivl_max(RECONNECT_MS_MAX)?;
    socket.set_linger(0)?;
    Ok(socket)
}

/// Where a socket listens: `HOST:PORT` or an endpoint such as `ipc://…`. Port 0 picks a free one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen(String);

/// A text is neither `HOST:PORT` nor an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither HOST:PORT, such as 127.0.0.1:5555, nor an endpoint, such as tcp://*:5555")]
pub struct ListenError;

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        if text.contains("://") {
            return Ok(Self(
                text.strip_suffix(":0").map_or_else(|| text.to_owned(), |host| format!("{host}:*")),
            ));
        }
        let (host, port) = text.rsplit_once(':').ok_or(ListenError)?;
        let number: u16 = port.parse().map_err(|_| ListenError)?;
        let host = if host.is_empty() || host == "0.0.0.0" { "*" } else { host };
        Ok(Self(if number == 0 { format!("tcp://{host}:*") } else { format!("tcp://{host}:{number}") }))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Binds and returns the endpoint with the port it got, as others can connect to it.
///
/// # Errors
/// An [`Exit`] with code 71 that names `flag` and the address.
pub fn bind(socket: &Socket, flag: &str, listen: &Listen) -> Result<String, Exit> {
    let refuse = |reason: &dyn fmt::Display| Exit::os(format!("{flag}: cannot listen on {listen}: {reason}"));
    socket.bind(&listen.0).map_err(|error| refuse(&error))?;
    let endpoint = socket.get_last_endpoint().map_err(|error| refuse(&error))?;
    endpoint.map_err(|_| refuse(&"its endpoint is not UTF-8"))
}

/// `zmq::poll` that a signal does not end.
///
/// # Errors
/// What libzmq answers; `ETERM` when the context is destroyed.
pub fn poll(items: &mut [zmq::PollItem<'_>], timeout_ms: i64) -> Result<i32, Error> {
    loop {
        match zmq::poll(items, timeout_ms) {
            Err(Error::EINTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libzmq_has_what_we_rely_on() {
        check_build().unwrap();
        assert_eq!(zmq::has("curve"), Some(true));
    }

    /// The `zmq` crate's own build answers Ok to `set_tcp_keepalive` and sets nothing.
    #[test]
    fn tcp_keepalive_reaches_the_kernel() {
        let context = Context::new();
        let server = socket(&context, SocketType::XPUB, Bounds::default()).unwrap();
        let endpoint = bind(&server, "--backend", &"127.0.0.1:0".parse().unwrap()).unwrap();
        let client = socket(&context, SocketType::SUB, Bounds::default()).unwrap();
        client.connect(&endpoint).unwrap();
        client.set_subscribe(b"x").unwrap();
        // The subscription's arrival says that both ends stand.
        assert_eq!(server.recv_bytes(0).unwrap(), b"\x01x");
        let port: u16 = endpoint.rsplit_once(':').unwrap().1.parse().unwrap();
        let to_port = |fd: &std::os::fd::OwnedFd| {
            let peer = socket2::SockRef::from(fd).peer_addr().ok().and_then(|peer| peer.as_socket());
            peer.is_some_and(|peer| peer.port() == port)
        };
        let clients: Vec<_> = open_files().into_iter().filter(to_port).collect();
        assert_eq!(clients.len(), 1);
        assert!(socket2::SockRef::from(&clients[0]).keepalive().unwrap());
    }

    /// Without eventfd libzmq signals its threads through socket pairs, two files for each.
    #[test]
    fn threads_signal_by_eventfd() {
        let context = Context::new();
        let _socket = context.socket(SocketType::SUB).unwrap();
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let is_eventfd = |link: std::path::PathBuf| link.to_string_lossy().contains("[eventfd]");
        assert!(links.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).any(is_eventfd));
    }

    /// Duplicates of this process's open files, as far as they can be made.
    #[expect(unsafe_code, reason = "a borrowed number is the only way to another library's file")]
    fn open_files() -> Vec<std::os::fd::OwnedFd> {
        let names = std::fs::read_dir("/proc/self/fd").unwrap();
        let numbers = names.filter_map(|name| name.ok()?.file_name().to_str()?.parse().ok());
        let duplicate = |fd: i32| {
            // SAFETY: the number was open a moment ago; if it has been closed since, duplicating fails or gives another
            // file, which the test then does not recognise.
            unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().ok()
        };
        numbers.filter_map(duplicate).collect()
    }

    #[test]
    fn listen_addresses() {
        let endpoint = |text: &str| text.parse::<Listen>().map(|listen| listen.0);
        assert_eq!(endpoint("127.0.0.1:5555").unwrap(), "tcp://127.0.0.1:5555");
        assert_eq!(endpoint("127.0.0.1:0").unwrap(), "tcp://127.0.0.1:*");
        assert_eq!(endpoint("0.0.0.0:5555").unwrap(), "tcp://*:5555");
        assert_eq!(endpoint(":5555").unwrap(), "tcp://*:5555");
        assert_eq!(endpoint("tcp://127.0.0.1:0").unwrap(), "tcp://127.0.0.1:*");
        assert_eq!(endpoint("ipc:///tmp/x").unwrap(), "ipc:///tmp/x");
        assert_eq!(endpoint("5555"), Err(ListenError));
        assert_eq!(endpoint("a:b"), Err(ListenError));
    }

    #[test]
    fn a_busy_address_names_the_flag_and_itself() {
        let context = Context::new();
        let bounds = Bounds::default();
        let first = socket(&context, SocketType::XPUB, bounds).unwrap();
        let endpoint = bind(&first, "--backend", &"127.0.0.1:0".parse().unwrap()).unwrap();
        let second = socket(&context, SocketType::XPUB, bounds).unwrap();
        let error = bind(&second, "--backend", &endpoint.parse().unwrap()).unwrap_err();
        assert!(error.reason.starts_with(&format!("--backend: cannot listen on {endpoint}: ")), "{error}");
    }
}
