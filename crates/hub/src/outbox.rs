//! What waits for one client: frames that its socket did not take at once.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// What a waiting frame is, for when there is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message from ØMQ.
    Event,
    /// Everything that answers or informs this one client.
    Reply,
}

/// A queue of whole WebSocket frames. It takes what it is given; its owner looks at [`lag_bytes`](Self::lag_bytes) and
/// decides.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<(Bytes, Kind)>,
    /// Bytes of the front frame that are written already.
    front_written: usize,
    bytes: usize,
    reply_bytes: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, frame: Bytes, kind: Kind) {
        self.bytes += frame.len();
        if kind == Kind::Reply {
            self.reply_bytes += frame.len();
        }
        self.queue.push_back((frame, kind));
    }

    /// Pushes a frame of which `written` bytes have gone out already; only 0 unless the outbox is empty.
    pub(crate) fn push_partial(&mut self, frame: Bytes, kind: Kind, written: usize) {
        debug_assert!(written == 0 || self.queue.is_empty() && written < frame.len());
        self.push(frame, kind);
        if written > 0 {
            self.front_written = written;
            self.bytes -= written;
            if kind == Kind::Reply {
                self.reply_bytes -= written;
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that wait behind the front frame: what its owner bounds. The front frame is not in it, so that a message
    /// larger than the bound reaches a client that reads.
    pub(crate) fn lag_bytes(&self) -> usize {
        self.queue.front().map_or(0, |(frame, _)| self.bytes - (frame.len() - self.front_written))
    }

    /// Bytes of replies that wait.
    pub(crate) fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// The unwritten bytes of at most `slices_max` frames from the front on.
    pub(crate) fn slices(&self, slices_max: usize) -> impl Iterator<Item = IoSlice<'_>> {
        let written = |nth: usize| if nth == 0 { self.front_written } else { 0 };
        let frames = self.queue.iter().take(slices_max).enumerate();
        frames.map(move |(nth, (frame, _))| IoSlice::new(&frame[written(nth)..]))
    }

    /// The socket took the next `n` bytes. Returns how many messages that completed.
    pub(crate) fn wrote(&mut self, mut n: usize) -> u64 {
        let mut events = 0;
        while n > 0 {
            let (frame, kind) = self.queue.front().expect("no more is written than waits");
            let left = frame.len() - self.front_written;
            let now = n.min(left);
            n -= now;
            self.bytes -= now;
            if *kind == Kind::Reply {
                self.reply_bytes -= now;
            }
            if now < left {
                self.front_written += now;
                break;
            }
            events += u64::from(*kind == Kind::Event);
            self.queue.pop_front();
            self.front_written = 0;
        }
        if self.queue.is_empty() {
            // Most sessions are never behind; one that was gives its memory back.
            self.queue = VecDeque::new();
        }
        events
    }

    /// Drops the oldest messages until at most `lag_bytes_max` wait behind the front frame or none is left there; never
    /// replies, and never a frame that the client has half. Returns how many.
    pub(crate) fn drop_oldest_events(&mut self, lag_bytes_max: usize) -> u64 {
        let before = self.queue.len();
        while self.lag_bytes() > lag_bytes_max && self.front_written == 0 {
            // The next one is the front frame then.
            let Some((frame, _)) = self.queue.pop_front_if(|(_, kind)| *kind == Kind::Event) else { break };
            self.bytes -= frame.len();
        }
        let mut excess = self.lag_bytes().saturating_sub(lag_bytes_max);
        if excess > 0 {
            let mut is_front = true;
            self.queue.retain(|(frame, kind)| {
                let drop = excess > 0 && *kind == Kind::Event && !std::mem::take(&mut is_front);
                is_front = false;
                if drop {
                    excess = excess.saturating_sub(frame.len());
                    self.bytes -= frame.len();
                }
                !drop
            });
        }
        (before - self.queue.len()) as u64
    }

    /// Drops everything, but not a frame that the client has half.
    pub(crate) fn drop_all(&mut self) {
        let mut dropped = self.queue.split_off(usize::from(self.front_written > 0));
        for (frame, kind) in dropped.drain(..) {
            self.bytes -= frame.len();
            if kind == Kind::Reply {
                self.reply_bytes -= frame.len();
            }
        }
        self.queue.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is dropped in between, the client gets whole frames in order, every reply, and a suffix of the events
        /// behind those it had; the counts are right.
        #[test]
        fn whole_frames_in_order(ops in proptest::collection::vec((0u8..4, 1usize..40), 0..100), ends: bool) {
            let mut outbox = Outbox::default();
            let (mut pushed, mut stream, mut dropped, mut completed) = (Vec::new(), Vec::new(), 0, 0);
            for (op, n) in ops {
                match op {
                    0 | 1 => {
                        let kind = if op == 0 { Kind::Event } else { Kind::Reply };
                        let number = u8::try_from(pushed.len()).unwrap();
                        // Length, number, kind, padding.
                        let mut frame = vec![n as u8 + 3, number, op];
                        frame.resize(n + 3, 0);
                        pushed.push((number, kind));
                        outbox.push(frame.into(), kind);
                    }
                    2 => {
                        let bytes: Vec<u8> = outbox.slices(3).flat_map(|s| s.to_vec()).take(n).collect();
                        completed += outbox.wrote(bytes.len());
                        stream.extend(bytes);
                    }
                    _ => {
                        dropped += outbox.drop_oldest_events(n * 4);
                        let events = outbox.queue.iter().skip(1).filter(|(_, kind)| *kind == Kind::Event);
                        prop_assert!(outbox.lag_bytes() <= n * 4 || events.count() == 0);
                    }
                }
            }
            let begun = usize::from(outbox.front_written > 0);
            if ends {
                let whole = outbox.queue.iter().skip(begun);
                dropped += whole.clone().filter(|(_, kind)| *kind == Kind::Event).count() as u64;
                let replies: Vec<_> = whole.filter(|(_, kind)| *kind == Kind::Reply).map(|(f, _)| f[1]).collect();
                pushed.retain(|(number, _)| !replies.contains(number));
                outbox.drop_all();
                prop_assert_eq!(outbox.queue.len(), begun);
            }
            let waits = outbox.bytes();
            let rest: Vec<u8> = outbox.slices(usize::MAX).flat_map(|s| s.to_vec()).collect();
            prop_assert_eq!(rest.len(), waits);
            completed += outbox.wrote(rest.len());
            prop_assert!(outbox.is_empty() && outbox.bytes() == 0 && outbox.reply_bytes() == 0);
            stream.extend(rest);

            let mut got = Vec::new();
            let mut at = 0;
            while at < stream.len() {
                got.push((stream[at + 1], if stream[at + 2] == 0 { Kind::Event } else { Kind::Reply }));
                at += usize::from(stream[at]);
            }
            prop_assert_eq!(at, stream.len(), "whole frames");
            prop_assert!(got.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let of = |list: &[(u8, Kind)], kind| list.iter().filter(|(_, k)| *k == kind).count() as u64;
            prop_assert_eq!(of(&got, Kind::Reply), of(&pushed, Kind::Reply));
            prop_assert_eq!(of(&got, Kind::Event) + dropped, of(&pushed, Kind::Event));
            prop_assert_eq!(completed, of(&got, Kind::Event));
        }
    }

    #[test]
    fn the_oldest_go_first_but_not_a_begun_one() {
        let mut outbox = Outbox::default();
        for n in 0..4u8 {
            outbox.push(Bytes::from(vec![n; 10]), Kind::Event);
        }
        outbox.wrote(1);
        assert_eq!(outbox.drop_oldest_events(10), 2);
        assert_eq!(outbox.slices(10).map(|slice| slice[0]).collect::<Vec<_>>(), [0, 3]);
    }
}
