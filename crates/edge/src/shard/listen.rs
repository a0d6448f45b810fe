//! The shards' listeners: several sockets on one port, between which the kernel spreads connections.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use trestle_process::exit::Exit;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// A client that does not read is to fill our outbox, where drops are counted and values conflated, not the kernel:
/// without a cap one absorbs over 4 MB.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Unsent bytes beyond which the socket takes no more.
const NOT_SENT_BYTES: u32 = 128 << 10;

/// `n` listeners on `address`; with port 0 all on the same free port. A connection whose peer takes nothing of what was
/// sent for `half_open_timeout` breaks: pings see to that only after the upgrade.
///
/// # Errors
/// An [`Exit`] with code 71 that names the flag and the address.
pub(crate) fn listeners(
    address: SocketAddr,
    n: usize,
    half_open_timeout: Duration,
) -> Result<Vec<TcpListener>, Exit> {
    let refuse = |error: std::io::Error| Exit::os(format!("--listen: cannot listen on {address}: {error}"));
    // With SO_REUSEPORT the kernel lets two processes of one user share a port without any error; this first bind,
    // without it, is refused if somebody has the port.
    let probe = bind(address, false).map_err(refuse)?;
    let address =
        probe.local_addr().and_then(|bound| bound.as_socket().ok_or(std::io::ErrorKind::Other.into()));
    let address = address.map_err(refuse)?;
    drop(probe);
    let listen = |_| {
        let socket = bind(address, n > 1)?;
        socket.set_tcp_user_timeout(Some(half_open_timeout))?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    (0..n).map(listen).collect::<Result<_, _>>().map_err(refuse)
}

/// A bound socket; what it accepts inherits its options.
fn bind(address: SocketAddr, shared: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // The port of a process that has just ended is free.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const ANY: &str = "127.0.0.1:0";
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn several_listeners_share_a_port_and_another_process_is_refused() {
        let listeners = listeners(ANY.parse().unwrap(), 3, MINUTE).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        let error = super::listeners(address, 2, MINUTE).unwrap_err();
        assert!(error.reason.starts_with(&format!("--listen: cannot listen on {address}: ")), "{error}");
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let listener = listeners(ANY.parse().unwrap(), 1, MINUTE).unwrap().remove(0);
        listener.set_nonblocking(false).unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = socket2::SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(MINUTE));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOT_SENT_BYTES);
        // The kernel doubles what is asked for, for its own bookkeeping.
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER_BYTES);
        drop(accepted);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}
