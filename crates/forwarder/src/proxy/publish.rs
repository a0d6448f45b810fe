//! What came by gRPC: sent, stamped and recorded like a publisher's message, and answered when that is done.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;
use trestle_messages::Position;
use trestle_messages::v1::Stamp;
use trestle_messages::v1::server_message::ErrorCode;
use trestle_recorder::{Fingerprint, First, Keys, Known};
use zmq::Error;

use super::{BURST_MAX, Proxy};
use crate::interest::Side;
use crate::recording::unix_ns;
use crate::sockets::Sockets;
use crate::submit::{Answer, Publication, Refused, Sent, Submissions};

/// Publications on their way through the proxy thread.
pub(super) struct Publications {
    submissions: Submissions,
    keys: Keys,
    /// Sent and not answered: with a data folder it must be written first.
    sent: Vec<Unanswered>,
}

struct Unanswered {
    /// 0 where it is not recorded.
    offset: u64,
    fingerprint: Option<Fingerprint>,
    answer: oneshot::Sender<Answer>,
}

impl Publications {
    pub(super) fn new(submissions: Submissions) -> Self {
        Self { submissions, keys: Keys::default(), sent: Vec::new() }
    }
}

impl Proxy {
    /// Sends up to [`BURST_MAX`] publications.
    pub(super) fn take_publications(&mut self, sockets: &Sockets, now: Instant) -> Result<(), Error> {
        let now_unix_ns = unix_ns();
        let mut taken = 0;
        while let Some(publication) = self.publications.submissions.take() {
            self.publish(sockets, publication, now, now_unix_ns)?;
            taken += 1;
            if taken == BURST_MAX {
                self.publications.submissions.come_back();
                break;
            }
        }
        self.settle_publications(sockets)
    }

    /// Sends what was accepted, and accepts no more.
    pub(super) fn finish_publications(&mut self, sockets: &Sockets) -> Result<(), Error> {
        self.publications.submissions.close();
        let (now, now_unix_ns) = (Instant::now(), unix_ns());
        while let Some(publication) = self.publications.submissions.take() {
            self.publish(sockets, publication, now, now_unix_ns)?;
        }
        self.settle_publications(sockets)
    }

    fn publish(
        &mut self,
        sockets: &Sockets,
        publication: Publication,
        now: Instant,
        now_unix_ns: u64,
    ) -> Result<(), Error> {
        let Publication { frames, key, answer } = publication;
        let fingerprint = key.map(|key| self.publications.keys.fingerprint(&key, &frames));
        if let Some(fingerprint) = fingerprint {
            let known = match self.publications.keys.enter(fingerprint, now) {
                Known::Repeat(First::UnderWay) => {
                    // Both came in this burst.
                    self.settle_publications(sockets)?;
                    self.publications.keys.enter(fingerprint, now)
                }
                known => known,
            };
            let known = match known {
                Known::New => None,
                Known::Repeat(First::Sent(position)) => Some(Ok(Sent { position, is_repeat: true })),
                Known::Repeat(First::UnderWay) | Known::Full => {
                    let reason = "more keys in two minutes than can be remembered".to_owned();
                    Some(Err(Refused { code: ErrorCode::RateLimited, reason }))
                }
            };
            if let Some(known) = known {
                // Nobody waits any more if its caller has gone.
                let _ = answer.send(known);
                return Ok(());
            }
        }
        let (offset, is_full) = self.send_out(sockets, &frames, now_unix_ns)?;
        self.publications.sent.push(Unanswered { offset, fingerprint, answer });
        if is_full { self.settle_publications(sockets) } else { Ok(()) }
    }

    /// Sends a message of `frames`, the topic first. Its offset, and whether so much was gathered that it is to be flushed.
    fn send_out(
        &mut self,
        sockets: &Sockets,
        frames: &[Bytes],
        now_unix_ns: u64,
    ) -> Result<(u64, bool), Error> {
        let (topic, body) = frames.split_first().expect("the topic is first");
        let stamp: Stamp = self.stamper.stamp(topic, now_unix_ns);
        let records = stamp.offset != 0;
        let to_backend = self.wants.len(Side::Backend) > 0;
        let to_link = self.wants.len(Side::Link) > 0 && !(records && self.recording.is_written());
        let bytes = frames.iter().map(|frame| frame.len() as u64).sum();
        if records {
            self.recording.begin(stamp);
        }
        for (n, frame) in frames.iter().enumerate() {
            if records {
                self.recording.frame(frame);
            }
            if to_link {
                self.made.set(frame);
                sockets.link.send(&mut self.made, true)?;
            }
            if to_backend {
                self.made.set(frame);
                sockets.backend.send(&mut self.made, n < body.len())?;
            }
        }
        let is_full = records && self.recording.end();
        self.counts.grpc.add(bytes);
        if to_backend {
            self.counts.backend.add(bytes);
        }
        if to_link {
            let stamp_bytes = self.send_stamp(&sockets.link, &stamp)?;
            self.counts.link.add(bytes + stamp_bytes);
        }
        Ok((stamp.offset, is_full))
    }

    /// What was sent is kept, and then answered.
    fn settle_publications(&mut self, sockets: &Sockets) -> Result<(), Error> {
        if self.publications.sent.is_empty() {
            return Ok(());
        }
        let head = self.stamper.head();
        self.flush(sockets)?;
        for Unanswered { offset, fingerprint, answer } in self.publications.sent.drain(..) {
            // A data folder that failed has moved what was gathered to a new epoch, in its order: as far from its head.
            let moved = || self.stamper.head() - (head - offset);
            let position = (offset != 0).then(|| Position { epoch: self.stamper.epoch(), offset: moved() });
            if let Some(fingerprint) = fingerprint {
                self.publications.keys.settle(fingerprint, position);
            }
            let _ = answer.send(Ok(Sent { position, is_repeat: false }));
        }
        Ok(())
    }
}
