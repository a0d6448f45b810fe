//! Receives whole multipart messages into frames that are used again.

use zmq::{DONTWAIT, Error, Message, Socket};

/// What a frame costs beside its bytes; so an endless row of empty frames is bounded, too.
const FRAME_OVERHEAD_BYTES: usize = 64;
/// Frames kept for the next message; a message with more is rare.
const FRAMES_KEPT: usize = 32;

/// A message as it came.
#[derive(Debug)]
pub(super) struct Multipart {
    frames: Vec<Message>,
    n_frames: usize,
    bytes_max: usize,
}

/// What [`Multipart::receive`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// No message has come.
    Nothing,
    /// [`Multipart::frames`] has it.
    Message,
    /// One over the bound; it is gone.
    TooLarge,
}

impl Multipart {
    /// All frames of a message together may have `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { frames: Vec::new(), n_frames: 0, bytes_max }
    }

    /// Takes the next message that has come, without waiting.
    pub(super) fn receive(&mut self, socket: &Socket) -> zmq::Result<Received> {
        self.n_frames = 0;
        self.frames.truncate(FRAMES_KEPT);
        let mut cost = 0;
        loop {
            // Beyond the bound the rest is read into the last frame and forgotten.
            let fits = cost <= self.bytes_max;
            if fits && self.n_frames == self.frames.len() {
                self.frames.push(Message::new());
            }
            let slot = if fits { self.n_frames } else { self.frames.len() - 1 };
            let frame = &mut self.frames[slot];
            // ØMQ hands out a multipart message as a whole: after the first frame all others are there.
            match socket.recv(frame, DONTWAIT) {
                Err(Error::EAGAIN) if self.n_frames == 0 => return Ok(Received::Nothing),
                Err(Error::EINTR) => continue,
                other => other?,
            }
            cost = cost.saturating_add(frame.len() + FRAME_OVERHEAD_BYTES);
            self.n_frames += usize::from(fits);
            if !frame.get_more() {
                return Ok(if cost <= self.bytes_max { Received::Message } else { Received::TooLarge });
            }
        }
    }

    /// The frames of the last message received, at least one.
    pub(super) fn frames(&self) -> &[Message] {
        &self.frames[..self.n_frames]
    }
}

#[cfg(test)]
mod tests {
    use zmq::{Context, SNDMORE, SocketType};

    use super::*;

    fn pair() -> (Socket, Socket) {
        let context = Context::new();
        let [a, b] = [(); 2].map(|()| context.socket(SocketType::PAIR).unwrap());
        a.bind("inproc://pair").unwrap();
        b.connect("inproc://pair").unwrap();
        (a, b)
    }

    fn send(socket: &Socket, frames: &[&[u8]]) {
        let (last, first) = frames.split_last().unwrap();
        first.iter().for_each(|frame| socket.send(*frame, SNDMORE).unwrap());
        socket.send(*last, 0).unwrap();
    }

    #[test]
    fn messages_come_whole_and_one_over_the_bound_leaves_nothing() {
        let (sender, receiver) = pair();
        let mut multipart = Multipart::new(10_000);
        let empty = vec![&b""[..]; 1_000];
        let messages: [&[&[u8]]; 5] =
            [&[b"a", b"", &[7; 5_000]], &[b"b"], &[&[0; 20_000]], &empty, &[b"", b""]];
        let fits = [true, true, false, false, true];
        for frames in messages {
            send(&sender, frames);
        }
        for (frames, fits) in messages.into_iter().zip(fits) {
            let received = multipart.receive(&receiver).unwrap();
            assert_eq!(received, if fits { Received::Message } else { Received::TooLarge });
            if fits {
                let got: Vec<&[u8]> = multipart.frames().iter().map(|frame| &frame[..]).collect();
                assert_eq!(got, frames);
            }
            assert!(multipart.frames.len() <= 200, "memory stays bounded");
        }
        assert_eq!(multipart.receive(&receiver).unwrap(), Received::Nothing);
    }
}
