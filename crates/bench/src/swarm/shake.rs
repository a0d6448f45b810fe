//! One client's way from a TCP connection to its subscription, as bytes in and bytes out.

use std::sync::Arc;

use memchr::memmem;

use crate::frames::Framing;
use crate::target::{ACCEPT, Target};
use crate::zmtp;

/// A longer answer to a handshake is none, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What all clients of a swarm are.
#[derive(Debug, Clone)]
pub enum Role {
    /// WebSocket clients.
    WebSocket(Arc<Target>),
    /// ØMQ subscribers of a topic.
    Subscriber(Arc<str>),
}

impl Role {
    /// How their streams are framed after the handshake.
    pub fn framing(&self) -> Framing {
        match self {
            Self::WebSocket(_) => Framing::WebSocket,
            Self::Subscriber(_) => Framing::Zmtp,
        }
    }
}

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Shake {
    step: Step,
    has_spoken: bool,
    /// What has come and is not yet understood.
    seen: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The answer to the upgrade, up to its empty line.
    Upgrade,
    /// Whatever the server sends, until the awaited bytes are in it.
    Confirm,
    /// The 64 bytes of a ZMTP greeting.
    Greeting,
    /// A ZMTP READY.
    Ready,
}

/// What follows from the bytes that came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// To be sent.
    pub reply: Vec<u8>,
    /// Bytes of the framed stream behind the handshake.
    pub stream: Vec<u8>,
    /// The subscription stands, as far as the server tells.
    pub is_ready: bool,
}

impl Shake {
    /// A handshake that has not begun.
    pub(super) fn new(role: &Role) -> Self {
        let step = match role {
            Role::WebSocket(_) => Step::Upgrade,
            Role::Subscriber(_) => Step::Greeting,
        };
        Self { step, has_spoken: false, seen: Vec::new() }
    }

    /// Whether [`speak`](Self::speak) was called.
    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// What client `number` says first, to be sent once the connection stands.
    pub(super) fn speak(&mut self, role: &Role, number: u64) -> Vec<u8> {
        self.has_spoken = true;
        match role {
            Role::WebSocket(target) => target.request(number),
            Role::Subscriber(_) => zmtp::greeting().to_vec(),
        }
    }

    /// Bytes have come.
    ///
    /// # Errors
    /// Why there will be no connection, for people.
    pub(super) fn feed(&mut self, role: &Role, number: u64, bytes: &[u8]) -> Result<Outcome, String> {
        self.seen.extend_from_slice(bytes);
        match (self.step, role) {
            (Step::Upgrade, Role::WebSocket(target)) => self.upgrade(target, number),
            (Step::Confirm, Role::WebSocket(target)) => Ok(self.confirm(target, bytes.to_vec())),
            (Step::Greeting, Role::Subscriber(topic)) => self.greeting(topic),
            (Step::Ready, Role::Subscriber(topic)) => self.ready(topic),
            (Step::Upgrade | Step::Confirm, _) | (Step::Greeting | Step::Ready, _) => {
                unreachable!("a role's own steps")
            }
        }
    }

    /// What the server said so far, for people.
    pub(super) fn seen(&self) -> String {
        let line = String::from_utf8_lossy(&self.seen).lines().next().unwrap_or_default().to_owned();
        line.chars().take(120).collect()
    }

    fn upgrade(&mut self, target: &Target, number: u64) -> Result<Outcome, String> {
        let Some(end) = memmem::find(&self.seen, b"\r\n\r\n") else {
            let is_short = self.seen.len() <= HEAD_BYTES_MAX;
            return if is_short {
                Ok(Outcome::default())
            } else {
                Err("an endless answer to the handshake".to_owned())
            };
        };
        let head = String::from_utf8_lossy(&self.seen[..end]);
        let status = head.lines().next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 101") {
            let body = String::from_utf8_lossy(&self.seen[end + 4..]);
            let reason = body.lines().next().unwrap_or_default();
            return Err(format!("the server answered {status:?} {reason}").trim_end().to_owned());
        }
        if !head.contains(ACCEPT) {
            return Err("the server's Sec-WebSocket-Accept is missing or wrong".to_owned());
        }
        let stream = self.seen.split_off(end + 4);
        self.seen = stream.clone();
        self.step = Step::Confirm;
        let outcome = self.confirm(target, stream);
        Ok(Outcome { reply: target.subscribe(number), ..outcome })
    }

    fn confirm(&mut self, target: &Target, stream: Vec<u8>) -> Outcome {
        let Some(awaited) = target.wait_for.as_deref() else {
            return Outcome { stream, is_ready: true, ..Outcome::default() };
        };
        let is_ready = memmem::find(&self.seen, awaited).is_some();
        let kept = awaited.len().saturating_sub(1).min(self.seen.len());
        self.seen.drain(..self.seen.len() - kept);
        Outcome { stream, is_ready, ..Outcome::default() }
    }

    fn greeting(&mut self, topic: &str) -> Result<Outcome, String> {
        let Some((greeting, rest)) = self.seen.split_first_chunk() else { return Ok(Outcome::default()) };
        if !zmtp::is_compatible(greeting) {
            return Err("no ZMTP 3 peer without security".to_owned());
        }
        let rest = rest.to_vec();
        self.seen = rest;
        self.step = Step::Ready;
        let outcome = self.ready(topic)?;
        Ok(Outcome { reply: [zmtp::ready("SUB"), outcome.reply].concat(), ..outcome })
    }

    fn ready(&mut self, topic: &str) -> Result<Outcome, String> {
        let Some((flags, body, end)) = zmtp::frame(&self.seen) else { return Ok(Outcome::default()) };
        if flags & 4 == 0 || !body.starts_with(b"\x05READY") {
            return Err("a ZMTP peer that sends no READY".to_owned());
        }
        Ok(Outcome { reply: zmtp::subscription(topic), stream: self.seen.split_off(end), is_ready: true })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::flags::Clients;
    use crate::pattern::Pattern;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        clients: Clients,
    }

    fn role(flags: &[&str]) -> Role {
        let flags = Flags::parse_from([&["bench"], flags].concat());
        let url = "ws://h:1/".parse().unwrap();
        Role::WebSocket(Arc::new(Target::new(url, &flags.clients, Pattern::new("bench")).unwrap()))
    }

    /// Feeds `bytes` one by one, and then again at once.
    fn shake(role: &Role, bytes: &[u8]) -> Result<Outcome, String> {
        let feed = |step: usize| {
            let mut shake = Shake::new(role);
            let mut all = Outcome::default();
            for bytes in bytes.chunks(step) {
                if all.is_ready {
                    all.stream.extend_from_slice(bytes);
                    continue;
                }
                let outcome = shake.feed(role, 0, bytes)?;
                all.reply.extend(outcome.reply);
                all.stream.extend(outcome.stream);
                all.is_ready = outcome.is_ready;
            }
            Ok(all)
        };
        let whole = feed(bytes.len());
        assert_eq!(feed(1), whole);
        whole
    }

    fn answer() -> String {
        format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n")
    }

    #[test]
    fn ready_with_the_handshake_or_with_the_awaited_bytes() {
        let stream = [answer().as_bytes(), b"\x81\x03abc"].concat();
        let outcome = shake(&role(&["--format", "raw"]), &stream).unwrap();
        assert_eq!(outcome, Outcome { reply: vec![], stream: b"\x81\x03abc".to_vec(), is_ready: true });

        let json = role(&[]);
        assert!(!shake(&json, &stream).unwrap().is_ready);
        let reply = [&stream[..], br#"{"reply":{"id":1,"subscribed":{"#, b"tail"].concat();
        let outcome = shake(&json, &reply).unwrap();
        assert!(outcome.is_ready && outcome.stream.ends_with(b"tail") && !outcome.reply.is_empty());
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let raw = role(&["--format", "raw"]);
        let mut refused = Shake::new(&raw);
        let error =
            refused.feed(&raw, 0, b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\nno such topic").unwrap_err();
        assert_eq!(error, "the server answered \"HTTP/1.1 403 Forbidden\" no such topic");
        let mut wrong = Shake::new(&raw);
        assert!(wrong.feed(&raw, 0, b"HTTP/1.1 101 Ok\r\n\r\n").unwrap_err().contains("Accept"));
        let mut endless = Shake::new(&raw);
        assert!(endless.feed(&raw, 0, &[b'x'; HEAD_BYTES_MAX + 1]).unwrap_err().contains("endless"));
    }

    #[test]
    fn a_subscriber_greets_and_subscribes() {
        let role = Role::Subscriber("bench".into());
        let stream = [&zmtp::greeting()[..], &zmtp::ready("XPUB"), b"\0\x01x"].concat();
        let outcome = shake(&role, &stream).unwrap();
        assert_eq!(outcome.reply, [zmtp::ready("SUB"), zmtp::subscription("bench")].concat());
        assert!(outcome.is_ready && outcome.stream == b"\0\x01x");
        shake(&role, &[b'x'; 64]).unwrap_err();
    }
}
