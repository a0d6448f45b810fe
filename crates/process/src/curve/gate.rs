//! The gate of CURVE servers: answers libzmq whether a key is let in, by ZAP (ZeroMQ RFC 27).

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zmq::{Context, DONTWAIT, PollItem, Socket};

use super::allow::{AllowList, Change};
use super::key::{KEY_BYTES, PublicKey};
use super::refused::{Cause, Refused};
use crate::exit::Exit;
use crate::wake::{self, Wakeable, Waker};
use crate::zmq::poll;

/// Where libzmq asks, by RFC 27.
const ENDPOINT: &str = "inproc://zeromq.zap.01";
/// The list is read again this often: small files, and a key that was taken off is soon refused.
const REREAD_INTERVAL: Duration = Duration::from_secs(1);

/// What a gate shows.
#[derive(Debug, Clone, Default)]
struct Shown {
    keys: Gauge<u64, AtomicU64>,
    bad_lists: Counter,
}

impl Shown {
    fn register(&self, registry: &mut Registry) {
        registry.register("curve_allowed_keys", "CURVE keys that --curve-allow lets in", self.keys.clone());
        let help = "Times that --curve-allow had become unreadable, and the list before it went on to count";
        registry.register("curve_bad_allow_lists", help, self.bad_lists.clone());
    }
}

/// A thread that decides who is let in at the CURVE sockets of one ØMQ context, until it is dropped. Drop it after them.
#[derive(Debug)]
pub struct Gate {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    /// Opens the gate of `context`, which can have one alone, before its sockets bind. `allow` is the file or folder of
    /// `--curve-allow`; it is read again every second, and counts when its content has changed.
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the flag and the file that is no good.
    pub fn open(
        context: &Context,
        allow: &Path,
        refused: Refused,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let list = read(allow)?;
        let socket = context.socket(zmq::REP).context("cannot open a ØMQ socket")?;
        socket.set_linger(0)?;
        socket.bind(ENDPOINT).context("a ØMQ context has one ZAP handler alone")?;
        let (waker, wakeable) = wake::pair().context("cannot open a socket pair")?;
        let stop = Arc::new(AtomicBool::new(false));
        let shown = Shown::default();
        shown.register(registry);
        shown.keys.set(list.len() as u64);
        tracing::info!("--curve-allow {}: {} keys are let in", allow.display(), list.len());
        let keeper = Keeper { list, shown, refused };
        let stopped = Arc::clone(&stop);
        let run = move || keeper.run(&socket, wakeable, &stopped);
        let thread =
            thread::Builder::new().name("gate".to_owned()).spawn(run).context("the gate's thread")?;
        Ok(Self { stop, waker, thread: Some(thread) })
    }
}

/// Whether a gate would open with this list.
///
/// # Errors
/// An [`Exit`] with code 64 that names the flag and the file that is no good.
pub fn check_allow(allow: &Path) -> Result<(), Exit> {
    read(allow).map(drop)
}

fn read(allow: &Path) -> Result<AllowList, Exit> {
    AllowList::read(allow).map_err(|error| Exit::usage(format!("--curve-allow {error}")))
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        // A panic has been told by its thread, and has let nobody in since.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What the thread owns.
struct Keeper {
    list: AllowList,
    shown: Shown,
    refused: Refused,
}

impl Keeper {
    fn run(mut self, socket: &Socket, mut wakeable: Wakeable, stop: &AtomicBool) {
        let mut reread_at = Instant::now() + REREAD_INTERVAL;
        while !stop.load(Ordering::Acquire) {
            let mut items =
                [socket.as_poll_item(zmq::POLLIN), PollItem::from_fd(wakeable.as_raw_fd(), zmq::POLLIN)];
            let wait = reread_at.saturating_duration_since(Instant::now()).as_millis();
            if let Err(error) = poll(&mut items, i64::try_from(wait).unwrap_or(0) + 1) {
                tracing::error!("the gate of CURVE connections fails, nobody is let in any more: {error}");
                return;
            }
            wakeable.drain();
            while let Ok(request) = socket.recv_multipart(DONTWAIT) {
                // Where it cannot be sent its connection has ended.
                let _ = socket.send_multipart(self.answer(&request), 0);
            }
            if Instant::now() >= reread_at {
                self.reread();
                reread_at = Instant::now() + REREAD_INTERVAL;
            }
        }
    }

    /// RFC 27: version, request id, domain, address, routing id, mechanism, credentials; answered by version, request id,
    /// status, its text, user id, metadata.
    fn answer(&mut self, request: &[Vec<u8>]) -> [Vec<u8>; 6] {
        let id = request.get(1).cloned().unwrap_or_default();
        let reply = |status: &str, text: &str, user: String| {
            [b"1.0".to_vec(), id.clone(), status.into(), text.into(), user.into_bytes(), Vec::new()]
        };
        let (domain, address, key) = match request {
            [version, _, domain, address, _, mechanism, key]
                if version == b"1.0" && mechanism == b"CURVE" =>
            {
                (domain, address, <[u8; KEY_BYTES]>::try_from(&key[..]))
            }
            _ => return reply("500", "not CURVE by ZAP 1.0", String::new()),
        };
        let Ok(key) = key.map(PublicKey::from) else {
            return reply("500", "a key of another length", String::new());
        };
        let (port, address) = (String::from_utf8_lossy(domain), String::from_utf8_lossy(address));
        if let Some(name) = self.list.name(&key) {
            tracing::debug!("{port}: {address} is let in: {name}, key {key}");
            return reply("200", "OK", key.to_string());
        }
        self.refused.count(&port, Cause::KeyNotAllowed, &format!("{address} with the public key {key}"));
        // A failure for now: in libzmq whoever gets 400 gives up for good, and would not come once its key is on the list.
        // With 300 libzmq says nothing, cuts the peer when its handshake has lasted too long, and the peer comes again.
        reply("300", "the key is not allowed", String::new())
    }

    fn reread(&mut self) {
        let change = self.list.reread();
        let (list, n) = (self.list.path().display(), self.list.len());
        match change {
            None => {}
            Some(Change::Keys { added, removed }) => {
                self.shown.keys.set(n as u64);
                tracing::info!(
                    "--curve-allow {list}: {n} keys are let in, {added} are new, {removed} are gone"
                );
                if removed > 0 {
                    tracing::warn!("connections that stand stay until they end, also those of removed keys");
                }
            }
            Some(Change::Bad(reason)) => {
                self.shown.bad_lists.inc();
                tracing::error!("--curve-allow {reason}; the {n} keys from before are still let in");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::SecretKey;
    use super::*;

    #[test]
    fn only_listed_keys_pass_and_nothing_else_is_understood() {
        let key = || SecretKey::generate().unwrap().public().unwrap();
        let (friend, stranger) = (key(), key());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), friend.to_string()).unwrap();
        let list = AllowList::read(file.path()).unwrap();
        let mut keeper = Keeper { list, shown: Shown::default(), refused: Refused::default() };
        let mut status = |version: &str, mechanism: &str, key: &[u8]| {
            let parts = [version.as_bytes(), b"7", b"link", b"10.0.0.9", b"", mechanism.as_bytes(), key];
            let answer = keeper.answer(&parts.map(<[u8]>::to_vec));
            assert_eq!((&answer[0][..], &answer[1][..]), (&b"1.0"[..], &b"7"[..]));
            String::from_utf8(answer[2].clone()).unwrap()
        };
        assert_eq!(status("1.0", "CURVE", friend.bytes()), "200");
        assert_eq!(status("1.0", "CURVE", stranger.bytes()), "300");
        assert_eq!(status("1.0", "CURVE", &friend.bytes()[1..]), "500");
        assert_eq!(status("1.0", "PLAIN", friend.bytes()), "500");
        assert_eq!(status("2.0", "CURVE", friend.bytes()), "500");
        assert_eq!(keeper.answer(&[])[2], b"500");
    }

    #[test]
    fn a_context_has_one_gate_and_gets_it_back() {
        let (context, file) = (Context::new(), tempfile::NamedTempFile::new().unwrap());
        let open = || Gate::open(&context, file.path(), Refused::default(), &mut Registry::default());
        let first = open().unwrap();
        assert!(open().is_err());
        drop(first);
        // libzmq closes sockets behind our back, so that the name is free a little later.
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = open() {
            assert!(Instant::now() < deadline, "{error}");
            thread::yield_now();
        }
    }
}
