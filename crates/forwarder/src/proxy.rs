//! The loop that moves messages: one thread, which owns every ØMQ data socket.
//!
//! A turn: wait → take subscriptions and pass interest up → send what came by gRPC → move up to [`BURST_MAX`] messages from
//! each input → beat if it is time → publish what was counted. The clocks are read once a turn, and a message costs no allocation and no copy of
//! its bytes.

mod publish;

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use trestle_messages::v1::{Beat, Stamp};
use trestle_messages::{BEAT_MARKER, stamp, topic};
use trestle_process::wake::Wakeable;
use trestle_recorder::{Entered, Intake, Stamper};
use zmq::Error;

use crate::beat::BeatClock;
use crate::interest::{Change, Side, Target, Wants};
use crate::message::{Frame, Port};
use crate::metrics::{Counts, Metrics};
use crate::recording::{Recording, unix_ns};
use crate::sequences::Counters;
use crate::sockets::{Input, Sockets};
use crate::state::State;
use crate::store::Failed;
use crate::submit::Submissions;
use crate::wait::Wait;
use crate::watch::Watch;
use publish::Publications;

/// Messages taken from one socket before the others get their turn; as many as `zmq_proxy` takes.
const BURST_MAX: usize = 1_000;
/// What has come in before the end is still passed on, for this long at most.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// Everything of the proxy but its sockets.
pub(crate) struct Proxy {
    wants: Wants,
    stamper: Stamper,
    intake: Intake,
    recording: Recording,
    beat: BeatClock,
    counts: Counts,
    metrics: Metrics,
    state: Arc<State>,
    watch: Watch,
    publications: Publications,
    counters: Counters,
    /// The frame on its way.
    frame: Frame,
    /// It again, for the link.
    copy: Frame,
    /// What is made here: stamps, topics, beats, subscriptions.
    made: Frame,
}

impl Proxy {
    /// Asks the publishers for what is recorded.
    ///
    /// # Errors
    /// What libzmq answers.
    pub(crate) fn new(
        sockets: &Sockets,
        (recording, stamper): (Recording, Stamper),
        (intake, counters): (Intake, Counters),
        metrics: Metrics,
        watch: Watch,
        publications: Submissions,
        state: Arc<State>,
    ) -> Result<Self, Error> {
        let aliased = sockets.inputs.iter().enumerate();
        let aliased = aliased.filter_map(|(n, input)| Some((n, input.alias.clone()?)));
        let (wants, changes) = Wants::new(stamper.rules(), aliased);
        let mut proxy = Self {
            wants,
            stamper,
            intake,
            recording,
            beat: BeatClock::new(Instant::now()),
            counts: Counts::new(sockets.inputs.len()),
            metrics,
            state,
            watch,
            publications: Publications::new(publications),
            counters,
            frame: Frame::new(),
            copy: Frame::new(),
            made: Frame::new(),
        };
        proxy.ask_publishers(sockets, changes)?;
        Ok(proxy)
    }

    /// Runs until it is told to stop, then passes on what has come in and closes the sockets.
    ///
    /// # Errors
    /// What libzmq answers; in practice never.
    pub(crate) fn run(mut self, sockets: Sockets, mut wakeable: Wakeable) -> Result<(), Error> {
        let n_ports = sockets.ports().count();
        let mut wait = Wait::new(sockets.ports(), wakeable.as_raw_fd())?;
        let mut now = Instant::now();
        while !self.state.is_stopping() {
            wait.wait(sockets.ports(), self.beat.wait(now, self.stamper.head()))?;
            let is_woken = wait.may_have(n_ports);
            if is_woken {
                wakeable.drain();
            }
            now = Instant::now();
            if wait.may_have(0) {
                self.take_subscriptions(&sockets, Side::Backend)?;
            }
            if wait.may_have(1) {
                self.take_subscriptions(&sockets, Side::Link)?;
            }
            if is_woken {
                self.take_publications(&sockets, now)?;
            }
            let quiet = self.forward(&sockets, |n| wait.may_have(2 + n))?;
            self.end_turn(&sockets, now, quiet)?;
        }
        self.finish(&sockets)
    }

    /// Passes on what has come in already, and says where the sequence ends.
    fn finish(mut self, sockets: &Sockets) -> Result<(), Error> {
        let deadline = Instant::now() + FINISH_MAX;
        self.finish_publications(sockets)?;
        while !self.forward(sockets, |_| true)? && Instant::now() < deadline {}
        self.beat.ask();
        self.end_turn(sockets, Instant::now(), true)?;
        sockets.linger()?;
        self.recording.close();
        Ok(())
    }

    fn end_turn(&mut self, sockets: &Sockets, now: Instant, quiet: bool) -> Result<(), Error> {
        if let Err(failed) = self.recording.check() {
            self.give_up(&failed);
        }
        let head = self.stamper.head();
        if self.beat.is_due(now, head, quiet) {
            self.send_beat(sockets)?;
            self.beat.sent(now, head);
        }
        self.recording.expire(now);
        self.counters.say(now);
        self.watch.look(sockets, &self.metrics, now);
        self.metrics.publish(&mut self.counts, head);
        self.state.turned(now);
        Ok(())
    }

    /// What came up at one side: subscriptions, and from peers that are no SUB perhaps something else.
    fn take_subscriptions(&mut self, sockets: &Sockets, side: Side) -> Result<(), Error> {
        let port = match side {
            Side::Backend => &sockets.backend,
            Side::Link => &sockets.link,
        };
        for _ in 0..BURST_MAX {
            if !port.receive(&mut self.frame)? {
                break;
            }
            let (subscribe, prefix) = match self.frame.bytes().split_first() {
                Some((1, prefix)) => (true, prefix),
                Some((0, prefix)) => (false, prefix),
                _ => {
                    self.counts.dropped_malformed += 1;
                    continue;
                }
            };
            if side == Side::Link && subscribe && prefix == topic::RESERVED {
                self.beat.ask();
            }
            let changes = self.wants.change(side, subscribe, prefix);
            self.ask_publishers(sockets, changes)?;
        }
        self.metrics.subscriptions(&self.wants);
        Ok(())
    }

    fn ask_publishers(&mut self, sockets: &Sockets, changes: Vec<Change>) -> Result<(), Error> {
        for Change { target, frame } in changes {
            let concerned = |(n, input): &(usize, &Input)| match target {
                Target::Plain => input.alias.is_none(),
                Target::Aliased(index) => *n == index,
            };
            for (_, input) in sockets.inputs.iter().enumerate().filter(concerned) {
                self.made.set(&frame);
                input.port.send(&mut self.made, false)?;
            }
        }
        self.metrics.subscriptions(&self.wants);
        Ok(())
    }

    /// Moves messages from the inputs that may have some. True if none is left waiting.
    fn forward(&mut self, sockets: &Sockets, readable: impl Fn(usize) -> bool) -> Result<bool, Error> {
        let mut now_unix_ns = None;
        let mut quiet = true;
        for (n, input) in sockets.inputs.iter().enumerate().filter(|(n, _)| readable(*n)) {
            let now_unix_ns = *now_unix_ns.get_or_insert_with(unix_ns);
            let mut moved = 0;
            // What the burst brings is written and appended at once, behind it: a replay waits for that.
            while moved < BURST_MAX && input.port.receive(&mut self.frame)? {
                self.pass_on(sockets, n, now_unix_ns)?;
                moved += 1;
            }
            self.flush(sockets)?;
            quiet &= moved < BURST_MAX;
        }
        Ok(quiet)
    }

    /// Passes on the message whose first frame is in `self.frame`.
    fn pass_on(&mut self, sockets: &Sockets, n: usize, now_unix_ns: u64) -> Result<(), Error> {
        let input = &sockets.inputs[n];
        let frame0 = self.frame.bytes();
        if input.alias.is_none() && topic::is_reserved(frame0) {
            self.counts.dropped_reserved += 1;
            return skip_rest(&input.port, &mut self.frame);
        }
        let n_frames_or_2 = if self.frame.more() { 2 } else { 1 };
        let entered = self.intake.enter(input.alias.is_some(), frame0, n_frames_or_2);
        let topic = match (&entered, &input.alias) {
            (Entered::Aliased, Some(alias)) => alias,
            (Entered::Split { topic, .. }, _) => &frame0[topic.clone()],
            _ => frame0,
        };
        let mut stamp = self.stamper.stamp(topic, now_unix_ns);
        let to_backend = self.wants.len(Side::Backend) > 0;
        // Where no edge follows, no copy is made for the link; offsets are given out all the same.
        let records = stamp.offset != 0;
        self.counters.begin(n, topic, records);
        // What must be written first goes there with the batch.
        let to_link = self.wants.len(Side::Link) > 0 && !(records && self.recording.is_written());
        if entered != Entered::AsSent {
            stamp.original_frames = true;
            if let Entered::Split { body_start, .. } = entered {
                // The frame size is bounded to 128 MiB by configuration.
                stamp.body_start = u32::try_from(body_start).expect("a frame is far below 4 GiB");
            }
        }
        if records {
            self.recording.begin(stamp);
        }
        if entered != Entered::AsSent {
            if records {
                self.recording.frame(topic);
            }
            if to_link {
                self.made.set(topic);
                self.counts.link.bytes += topic.len() as u64;
                sockets.link.send(&mut self.made, true)?;
            }
        }
        let bytes = self.move_frames(sockets, &input.port, records, to_link, to_backend)?;
        let is_full = records && self.recording.end();
        self.counts.inputs[n].add(bytes);
        if to_backend {
            self.counts.backend.add(bytes);
        }
        if to_link {
            let stamp_bytes = self.send_stamp(&sockets.link, &stamp)?;
            self.counts.link.add(bytes + stamp_bytes);
        }
        if is_full { self.flush(sockets) } else { Ok(()) }
    }

    /// What was recorded is kept; where there is a data folder it is written before it goes to the link.
    fn flush(&mut self, sockets: &Sockets) -> Result<(), Error> {
        if self.recording.is_written() && !self.recording.gathered().is_empty() {
            if let Err(failed) = self.recording.write() {
                self.give_up(&failed);
            }
            if self.wants.len(Side::Link) > 0 {
                self.send_gathered(&sockets.link)?;
            }
        }
        self.recording.flush();
        Ok(())
    }

    /// The data folder has failed: a new epoch begins.
    fn give_up(&mut self, failed: &Failed) {
        self.recording.give_up(failed, &mut self.stamper);
        self.metrics.epoch(self.stamper.epoch());
        self.beat.ask();
    }

    fn send_gathered(&mut self, link: &Port) -> Result<(), Error> {
        for (frames, stamp) in self.recording.gathered().messages() {
            let mut bytes = 0;
            for frame in frames {
                bytes += frame.len() as u64;
                self.made.set(frame);
                link.send(&mut self.made, true)?;
            }
            let (encoded, len) = stamp::encode(stamp);
            self.made.set(&encoded[..len]);
            link.send(&mut self.made, false)?;
            self.counts.link.add(bytes + len as u64);
        }
        Ok(())
    }

    /// Moves the frame in `self.frame` and the rest of its message from `input` to the outputs; how many bytes. The link's
    /// message stays open for its stamp.
    fn move_frames(
        &mut self,
        sockets: &Sockets,
        input: &Port,
        records: bool,
        to_link: bool,
        to_backend: bool,
    ) -> Result<u64, Error> {
        let mut bytes = 0;
        loop {
            let more = self.frame.more();
            bytes += self.frame.len() as u64;
            if records {
                self.recording.frame(self.frame.bytes());
            }
            if !more {
                self.counts.unsent += self.counters.end(self.frame.bytes());
            }
            match (to_link, to_backend) {
                (true, true) => {
                    self.copy.share(&mut self.frame);
                    sockets.link.send(&mut self.copy, true)?;
                    sockets.backend.send(&mut self.frame, more)?;
                }
                (true, false) => sockets.link.send(&mut self.frame, true)?,
                (false, true) => sockets.backend.send(&mut self.frame, more)?,
                (false, false) => {}
            }
            if !more {
                return Ok(bytes);
            }
            input.receive_rest(&mut self.frame)?;
        }
    }

    fn send_stamp(&mut self, link: &Port, stamp: &Stamp) -> Result<u64, Error> {
        let (bytes, len) = stamp::encode(stamp);
        self.made.set(&bytes[..len]);
        link.send(&mut self.made, false)?;
        Ok(len as u64)
    }

    fn send_beat(&mut self, sockets: &Sockets) -> Result<(), Error> {
        let beat = Beat { tail: self.recording.tail(), ..self.stamper.beat() }.encode_to_vec();
        for (bytes, more) in [(topic::RESERVED, true), (BEAT_MARKER, true), (&beat[..], false)] {
            self.made.set(bytes);
            sockets.link.send(&mut self.made, more)?;
        }
        self.counts.beats += 1;
        Ok(())
    }
}

fn skip_rest(port: &Port, frame: &mut Frame) -> Result<(), Error> {
    while frame.more() {
        port.receive_rest(frame)?;
    }
    Ok(())
}
