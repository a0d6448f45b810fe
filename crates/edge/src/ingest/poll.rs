//! The ingest thread's loop: poll, drain, flush.

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use trestle_messages::{Position, topic};
use trestle_process::seldom::Seldom;
use trestle_process::wake::Wakeable;
use trestle_process::zmq::poll;
use trestle_recorder::BEAT_INTERVAL;
use zmq::{POLLIN, PollItem};

use super::feed::{Feed, Sockets};
use super::interest::{InterestReceiver, Want};
use super::link::{Link, News};
use super::multipart::{Multipart, Received};
use super::sources::Sources;
use super::upstream::Upstream;
use super::wants::{Change, Wants};
use super::writer::Writer;

/// Messages drained before they are appended and other sockets have their turn.
const BATCH_MESSAGES_MAX: usize = 256;
/// So much is drained at most before other sockets have their turn.
const DRAIN_BYTES_MAX: usize = 1 << 20;
/// Timers (linger, complaints, staleness) are looked at this often; an idle thread wakes for nothing else.
const TICK: Duration = Duration::from_millis(100);
/// What is too old goes this often.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// Where messages enter.
pub(super) enum Entry {
    Link(Box<Link>),
    Sources(Sources),
}

/// All that the thread owns but its sockets.
pub(super) struct Poll {
    pub(super) feeds: Vec<Feed>,
    pub(super) entry: Entry,
    pub(super) wants: Wants,
    pub(super) multipart: Multipart,
    pub(super) writer: Writer,
    pub(super) expire_at: Instant,
    pub(super) upstream: Arc<Upstream>,
    pub(super) no_beats: Seldom,
    pub(super) unsent: Seldom,
    /// Messages that publishers sent and that never came, as far as it was said.
    pub(super) unsent_said: u64,
    pub(super) too_large: Seldom,
}

impl Poll {
    /// Runs until `stop`; each of `sockets` belongs to the feed of the same index.
    pub(super) fn run(
        mut self,
        sockets: &[Sockets],
        mut wakeable: Wakeable,
        interest: &InterestReceiver,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        let mut items = vec![PollItem::from_fd(wakeable.as_raw_fd(), POLLIN)];
        for Sockets { sub, monitor } in sockets {
            items.extend([sub.as_poll_item(POLLIN), monitor.socket().as_poll_item(POLLIN)]);
        }
        let started = Instant::now();
        let mut next_tick = started;
        while !stop.load(Ordering::Acquire) {
            poll(&mut items, TICK.as_millis() as i64)?;
            let now = Instant::now();
            if items[0].is_readable() {
                wakeable.drain();
                self.want(interest, now);
                self.subscribe(sockets)?;
                self.take_answers(sockets, now)?;
            }
            for (index, pair) in items[1..].chunks_exact(2).enumerate() {
                if pair[1].is_readable() {
                    self.feeds[index].watch(&sockets[index], now, &self.upstream)?;
                }
                if pair[0].is_readable() {
                    self.drain(index, sockets, now)?;
                }
            }
            if next_tick <= now {
                next_tick = now + TICK;
                self.tick(sockets, started, now)?;
            }
        }
        Ok(())
    }

    /// Subscribes to what is recorded, as far as that is known. Call once, before [`run`](Self::run).
    pub(super) fn begin(&mut self, sockets: &[Sockets], now: Instant) -> anyhow::Result<()> {
        match &self.entry {
            // What is recorded is known at the first beat, and only then subscribed to.
            Entry::Link(_) => sockets.iter().try_for_each(|feed| feed.sub.set_subscribe(topic::RESERVED))?,
            Entry::Sources(sources) => {
                self.writer.record(sources.rules().clone());
                if sources.rules().iter().next().is_some() {
                    self.writer.advance(sources.position());
                }
                self.upstream.set_rules(sources.rules().clone());
                self.wants.record(sources.rules().clone(), now);
                self.upstream.set_ready();
                self.upstream.set_stale(true);
            }
        }
        self.publish_position();
        self.subscribe(sockets)
    }

    fn want(&mut self, interest: &InterestReceiver, now: Instant) {
        for want in interest.drain() {
            match want {
                Want::Add(prefix) => self.wants.add(prefix),
                Want::Remove(prefix) => self.wants.remove(prefix, now),
            }
        }
    }

    /// Passes changed wants to the sockets.
    fn subscribe(&mut self, sockets: &[Sockets]) -> anyhow::Result<()> {
        let changes = self.wants.changes();
        if changes.is_empty() {
            return Ok(());
        }
        for (feed, Sockets { sub, .. }) in self.feeds.iter_mut().zip(sockets) {
            let Some(alias) = &feed.alias else {
                changes.iter().try_for_each(|change| match change {
                    Change::Subscribe(prefix) => sub.set_subscribe(prefix),
                    Change::Unsubscribe(prefix) => sub.set_unsubscribe(prefix),
                })?;
                continue;
            };
            let wanted = self.wants.reaches(alias);
            if wanted != feed.subscribed {
                feed.subscribed = wanted;
                if wanted { sub.set_subscribe(b"")? } else { sub.set_unsubscribe(b"")? }
            }
        }
        self.upstream.prefixes.set(self.wants.len() as u64);
        self.say_joined();
        Ok(())
    }

    fn say_joined(&self) {
        let (before, n_joined) = (self.upstream.prefixes_joined.value(), self.wants.n_joined() as u64);
        self.upstream.prefixes_joined.set(n_joined);
        if before == 0 && n_joined > 0 {
            tracing::warn!(
                max = self.wants.prefixes_max(),
                "sessions want more prefixes that are not recorded than are subscribed upward: shorter ones are asked for in \
                 their place, and what comes too much is dropped here"
            );
        } else if before > 0 && n_joined == 0 {
            tracing::info!("each prefix that is wanted is asked for by itself again");
        }
    }

    /// Takes what has come on a feed, up to the bounds of a batch.
    fn drain(&mut self, index: usize, sockets: &[Sockets], now: Instant) -> anyhow::Result<()> {
        let sub = &sockets[index].sub;
        let now_unix_ns = now_unix_ns();
        let mut bytes = 0;
        for _ in 0..BATCH_MESSAGES_MAX {
            match self.multipart.receive(sub)? {
                Received::Nothing => break,
                Received::TooLarge => self.too_large(now),
                Received::Message => bytes += self.take(index, now, now_unix_ns),
            }
            if bytes >= DRAIN_BYTES_MAX {
                break;
            }
        }
        self.end_turn(sockets, now)
    }

    /// Takes the message received; how many bytes it has.
    fn take(&mut self, index: usize, now: Instant, now_unix_ns: u64) -> usize {
        let frames = self.multipart.frames();
        match &mut self.entry {
            Entry::Link(link) => link.take(frames, now, &mut self.writer),
            Entry::Sources(sources) => {
                let alias = self.feeds[index].alias.as_deref();
                sources.take(frames, (index, alias), now_unix_ns, &mut self.writer);
            }
        }
        frames.iter().map(|frame| frame.len()).sum()
    }

    /// Takes what has come of replays.
    fn take_answers(&mut self, sockets: &[Sockets], now: Instant) -> anyhow::Result<()> {
        if let Entry::Link(link) = &mut self.entry {
            link.take_answers(now, &mut self.writer);
            self.end_turn(sockets, now)?;
        }
        Ok(())
    }

    /// Whatever was taken becomes visible, and upstream is asked for what is recorded.
    fn end_turn(&mut self, sockets: &[Sockets], now: Instant) -> anyhow::Result<()> {
        self.writer.flush();
        self.publish_position();
        let Entry::Link(link) = &mut self.entry else { return Ok(()) };
        let News { rules, is_cloned } = link.take_news(now, &self.upstream);
        if let Some(rules) = rules {
            tracing::info!(n_rules = rules.iter().count(), "the forwarder says what is recorded");
            self.upstream.set_rules(rules.clone());
            self.wants.record(rules, now);
            self.subscribe(sockets)?;
        }
        if is_cloned {
            tracing::info!(messages = self.upstream.cloned.value(), "all that upstream keeps is here");
            // Behind the rules and the log, so that who sees it sees them.
            self.upstream.set_ready();
        }
        Ok(())
    }

    fn publish_position(&self) {
        let Position { epoch, offset } = match &self.entry {
            Entry::Link(link) => link.position(),
            Entry::Sources(sources) => sources.position(),
        };
        self.upstream.epoch.set(epoch);
        self.upstream.head.set(offset);
    }

    fn too_large(&mut self, now: Instant) {
        self.upstream.too_large.add(1);
        if let Some(unsaid) = self.too_large.say(now) {
            tracing::warn!(unsaid, "dropped a message: all its frames are more than 16 × --frame-bytes-max");
        }
    }

    fn say_unsent(&mut self, now: Instant) {
        let missing = self.upstream.unsent.value() - self.unsent_said;
        if missing > 0 && self.unsent.say(now).is_some() {
            tracing::warn!(
                missing,
                "a publisher's own counter leapt: messages were lost before they came here"
            );
            self.unsent_said += missing;
        }
    }

    fn tick(&mut self, sockets: &[Sockets], started: Instant, now: Instant) -> anyhow::Result<()> {
        for (feed, sockets) in self.feeds.iter_mut().zip(sockets) {
            feed.tick(sockets, now, &self.upstream)?;
        }
        self.wants.tick(now);
        self.subscribe(sockets)?;
        let standing = self.feeds.iter().filter(|feed| feed.stands()).count();
        self.upstream.standing.set(standing as u64);
        if self.expire_at <= now {
            self.expire_at = now + EXPIRE_INTERVAL;
            self.writer.expire(now_unix_ns());
        }
        match &mut self.entry {
            Entry::Link(link) => {
                link.tick(now, &mut self.writer);
                self.upstream.set_stale(link.is_stale(now));
                let waits = standing > 0 && !link.has_followed() && now > started + 3 * BEAT_INTERVAL;
                if waits && self.no_beats.say(now).is_some() {
                    tracing::warn!(
                        "--link is connected, but no beat comes: is it a forwarder's link (port 5557)?"
                    );
                }
            }
            Entry::Sources(_) => self.upstream.set_stale(standing == 0),
        }
        self.say_unsent(now);
        self.end_turn(sockets, now)
    }
}

/// Once for a drain: finer than a socket's wake-up it would say nothing.
fn now_unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
