//! A hub, the log that feeds it, and its clients: what the edge's shard does, without a socket or a clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use trestle_messages::Position;
use trestle_messages::v1::Stamp;
use trestle_recorder::{Gap, Log, RecordRule, RecordRules, SegmentBuilder, Stamper};

use super::client::{Client, Seen, said};
use crate::Grant;
use crate::encode::{GoodbyeReason, Publish};
use crate::hub::{Hub, InterestChange, SessionId, Ticket, Unpublished, Visit};
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::wheel::TICK;

/// The epoch of every position.
pub(super) const EPOCH: u64 = 7;

pub(super) struct World {
    pub(super) hub: Hub,
    pub(super) now: Instant,
    pub(super) log: Arc<Log>,
    stamper: Stamper,
    /// In the order they came; those who left stay, for what they saw.
    pub(super) clients: Vec<Client>,
    by_session: BTreeMap<SessionId, usize>,
    /// What the interest that went upward comes to.
    pub(super) wanted: BTreeSet<Box<[u8]>>,
    /// What was published and has no answer, in order.
    pub(super) publications: VecDeque<(Ticket, Publish)>,
    /// Whether connections that have ended are closed at once; a real one takes a while.
    pub(super) reaps: bool,
}

/// More than any visit needs, of a log as large as these tests' are.
const TURNS_MAX: usize = 10_000;

impl World {
    pub(super) fn new(limits: Limits, rules: RecordRules) -> Self {
        Self::with_log(64 << 20, limits, rules)
    }

    /// With a log that keeps so many bytes, and of each rule so many.
    pub(super) fn with_log(bytes_max: usize, limits: Limits, rules: RecordRules) -> Self {
        let now = Instant::now();
        let log = Arc::new(Log::new(bytes_max));
        let bounded = |rule: &RecordRule| RecordRule {
            bytes_max: rule.bytes_max.min(bytes_max as u64),
            ..rule.clone()
        };
        log.record(rules.iter().map(bounded).collect());
        log.advance(Position { epoch: EPOCH, offset: 0 });
        let mut world = Self::on(log, limits, now);
        world.hub.set_rules(rules.clone());
        world.stamper = Stamper::new(EPOCH, rules);
        world
    }

    /// On a log that somebody else writes.
    pub(super) fn on(log: Arc<Log>, limits: Limits, now: Instant) -> Self {
        Self {
            hub: Hub::new("test".to_owned(), limits, Arc::clone(&log), now),
            now,
            log,
            stamper: Stamper::new(EPOCH, RecordRules::nothing()),
            clients: Vec::new(),
            by_session: BTreeMap::new(),
            wanted: BTreeSet::new(),
            publications: VecDeque::new(),
            reaps: true,
        }
    }

    /// A client comes; returns its index.
    pub(super) fn open<'a>(
        &mut self,
        protocol: Protocol,
        topics: impl IntoIterator<Item = &'a [u8]>,
    ) -> usize {
        self.open_with(Arc::new(Grant::everything()), protocol, topics)
    }

    /// The same, of one who may do so much.
    pub(super) fn open_with<'a>(
        &mut self,
        grant: Arc<Grant>,
        protocol: Protocol,
        topics: impl IntoIterator<Item = &'a [u8]>,
    ) -> usize {
        let session = self.hub.open(protocol, None, grant, topics);
        let client = self.clients.len();
        self.clients.push(Client::new(protocol, session));
        assert_eq!(self.by_session.insert(session, client), None, "a number in use");
        self.flush();
        client
    }

    /// The connection of `client` is gone.
    pub(super) fn leave(&mut self, client: usize) {
        let session = self.clients[client].session.take().expect("it is here");
        self.by_session.remove(&session);
        self.hub.close(session);
        self.flush();
    }

    /// `client` sends `bytes`.
    pub(super) fn send(&mut self, client: usize, mut bytes: Vec<u8>) {
        if let Some(session) = self.clients[client].session {
            self.hub.receive(session, &mut bytes);
            self.flush();
        }
    }

    /// `client` sends a command, given in JSON.
    pub(super) fn say(&mut self, client: usize, text: &str) {
        self.send(client, said(self.clients[client].protocol, text));
    }

    /// Appends a message to the log. Returns its offset; 0 if it is not recorded.
    pub(super) fn append(&mut self, topic: &[u8], body: &[u8]) -> u64 {
        let mut batch = SegmentBuilder::default();
        let stamp = self.stamper.stamp(topic, 0);
        batch.push([topic, body], stamp);
        self.log.append(&mut batch);
        stamp.offset
    }

    /// The oldest publication without an answer gets one; returns it.
    pub(super) fn answer(&mut self, outcome: Result<Option<Position>, Unpublished>) -> Publish {
        let (ticket, publish) = self.publications.pop_front().expect("somebody published");
        self.hub.published(ticket, outcome);
        self.flush();
        publish
    }

    /// Appends a message that has its stamp.
    pub(super) fn append_stamped(&mut self, frames: &[&[u8]], stamp: Stamp) {
        let mut batch = SegmentBuilder::default();
        batch.push(frames.iter().copied(), stamp);
        self.log.append(&mut batch);
    }

    /// So many recorded messages do not come, and that is known.
    pub(super) fn miss(&mut self, messages: u64) {
        let from = Position { epoch: self.stamper.epoch(), offset: self.stamper.head() };
        let topic = self.stamper.rules().iter().next().expect("something is recorded").prefix.clone();
        (0..messages).for_each(|_| _ = self.stamper.stamp(&topic, 0));
        let until = Position { offset: self.stamper.head(), ..from };
        self.log.append_gap(Gap { from: Some(from), until, messages: Some(messages) });
        self.route();
        self.flush();
    }

    /// The sequence begins anew.
    pub(super) fn begin_epoch(&mut self, epoch: u64) {
        let from = Position { epoch: self.stamper.epoch(), offset: self.stamper.head() };
        let until = Position { epoch, offset: 0 };
        self.log.append_gap(Gap { from: Some(from), until, messages: None });
        self.stamper = Stamper::new(epoch, self.stamper.rules().clone());
        self.route();
        self.flush();
    }

    /// Routes what the log has, without a visit.
    pub(super) fn route(&mut self) {
        while self.hub.pull(self.now) {}
    }

    /// One message from its publisher to the sockets.
    pub(super) fn publish(&mut self, topic: &[u8], body: &[u8]) -> u64 {
        let offset = self.append(topic, body);
        self.route();
        self.flush();
        offset
    }

    /// Time passes, tick by tick; the clients read.
    pub(super) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += TICK;
            self.hub.release(self.now);
            self.hub.tick(self.now);
            self.flush();
            self.settle();
        }
    }

    pub(super) fn goodbye(&mut self, spread: Duration) {
        self.hub.goodbye(GoodbyeReason::Restarting, spread);
        self.flush();
    }

    /// `messages` fall off the log, and `position` is where it goes on.
    pub(super) fn overrun(&mut self, messages: u64, position: Position) {
        self.hub.tell_overrun(messages, Some(position));
        self.flush();
    }

    /// The same, without a visit.
    pub(super) fn overrun_unvisited(&mut self, messages: u64, offset: u64) {
        self.hub.tell_overrun(messages, Some(Position { epoch: EPOCH, offset }));
    }

    /// Visits whoever has something, takes the interest, closes what has ended.
    pub(super) fn flush(&mut self) {
        loop {
            let dirty = self.hub.take_dirty();
            let is_last = dirty.is_empty();
            for session in &dirty {
                self.visit(self.by_session[session]);
            }
            self.hub.end_turn(dirty);
            if is_last {
                break;
            }
        }
        for change in self.hub.take_interest() {
            match change {
                InterestChange::Wanted(prefix) => assert!(self.wanted.insert(prefix), "wanted twice"),
                InterestChange::Unwanted(prefix) => assert!(self.wanted.remove(&prefix), "was not wanted"),
            }
        }
        self.publications.extend(self.hub.take_publications());
        if self.reaps {
            self.reap();
        }
    }

    fn visit(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let session = client.session.expect("only who is here is visited");
        let (mut visit, mut turns) = (Visit::Again, 0);
        while visit == Visit::Again {
            turns += 1;
            assert!(turns < TURNS_MAX, "a visit comes to no end");
            visit = self.hub.visit(session, |slices| client.socket.write(slices));
        }
        client.is_blocked = visit == Visit::Blocked;
        let is_ended = self.hub.is_ended(session);
        assert_eq!(visit == Visit::Ended, is_ended, "a visit says so when it was the last");
    }

    fn reap(&mut self) {
        let ended = |client: &Client| client.session.is_some_and(|session| self.hub.is_ended(session));
        // Whoever leaves has the rest looked at again.
        if let Some(client) = self.clients.iter().position(ended) {
            self.leave(client);
        }
    }

    /// All who read do so until nothing moves.
    pub(super) fn settle(&mut self) {
        loop {
            let mut moved = false;
            for index in 0..self.clients.len() {
                let client = &mut self.clients[index];
                let may_write = client.is_blocked && client.session.is_some() && client.socket.room > 0;
                if !client.reads || !(client.has_unread() || may_write) {
                    continue;
                }
                moved = true;
                let pongs = client.read();
                if may_write {
                    self.visit(index);
                    self.flush();
                }
                if !pongs.is_empty() {
                    self.send(index, pongs);
                }
            }
            if !moved {
                break;
            }
        }
    }

    /// Messages that `client` has whole.
    pub(super) fn n_events(&self, client: usize) -> u64 {
        let client = &self.clients[client];
        let is_event = |seen: &&Seen| match seen {
            Seen::Text(text) => client.protocol == Protocol::RustWebsocket || text.starts_with("{\"event\""),
            Seen::Binary(_) => true,
            _ => false,
        };
        client.seen.iter().filter(is_event).count() as u64
    }
}
