//! ØMQ frames that are moved and shared without copying their bytes: the only file here that speaks to libzmq's C
//! interface. The `zmq` crate gives away a `Message` at each send, and has no `zmq_msg_copy`.
#![allow(unsafe_code, reason = "zmq_msg_* and their like are libzmq's C interface")]

use std::ffi::c_void;

use zmq::{Error, Socket};
use zmq_sys::{ZMQ_DONTWAIT, ZMQ_SNDMORE, zmq_msg_t};

/// One frame, used again for the next.
pub(crate) struct Frame {
    /// Always initialised. Boxed, because libzmq wants a message to stay where it is.
    msg: Box<zmq_msg_t>,
    /// Kept beside, because libzmq's calls are not inlined and it says it on receipt.
    len: usize,
}

impl Frame {
    /// An empty frame.
    pub(crate) fn new() -> Self {
        let mut msg = Box::new(zmq_msg_t::default());
        // SAFETY: `msg` points to memory of the right size; this cannot fail.
        unsafe { zmq_sys::zmq_msg_init(&mut *msg) };
        Self { msg, len: 0 }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let msg = std::ptr::from_ref(&*self.msg).cast_mut();
        // SAFETY: the message is initialised and `len` bytes long, and the call does not change it. Its data pointer is not
        // null, and valid until the message is next written to, which the borrow of `self` rules out.
        unsafe { std::slice::from_raw_parts(zmq_sys::zmq_msg_data(msg).cast::<u8>(), self.len) }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether another frame of the same message follows. Only of a frame as received.
    pub(crate) fn more(&self) -> bool {
        // SAFETY: the message is initialised; the call only reads it.
        unsafe { zmq_sys::zmq_msg_more(&*self.msg) != 0 }
    }

    /// Becomes these bytes. libzmq holds up to 33 inline, without an allocation.
    pub(crate) fn set(&mut self, bytes: &[u8]) {
        // SAFETY: the message is initialised, so it may be closed; `init_size` then initialises it anew.
        let answer = unsafe {
            zmq_sys::zmq_msg_close(&mut *self.msg);
            zmq_sys::zmq_msg_init_size(&mut *self.msg, bytes.len())
        };
        // The only failure is ENOMEM, where Rust's own allocations abort as well.
        assert_eq!(answer, 0, "out of memory");
        // SAFETY: the message was made `bytes.len()` long just now and nothing else points to its data.
        unsafe {
            let data = zmq_sys::zmq_msg_data(&mut *self.msg).cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len());
        }
        self.len = bytes.len();
    }

    /// Becomes the same bytes as `other`; long ones are shared and counted.
    pub(crate) fn share(&mut self, other: &mut Self) {
        // SAFETY: both messages are initialised and distinct; `zmq_msg_copy` releases what `self` held.
        let answer = unsafe { zmq_sys::zmq_msg_copy(&mut *self.msg, &mut *other.msg) };
        assert_eq!(answer, 0, "zmq_msg_copy fails on uninitialised messages only");
        self.len = other.len;
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: the message is initialised and not used again.
        unsafe { zmq_sys::zmq_msg_close(&mut *self.msg) };
    }
}

/// A socket that sends and receives [`Frame`]s. libzmq's sockets are not thread-safe, so a port is used by one thread at
/// a time: it may move between threads, but not be shared.
pub(crate) struct Port {
    socket: Socket,
    /// The pointer in `socket`, valid as long as it is.
    raw: *mut c_void,
}

// SAFETY: `zmq::Socket` is `Send`, and `raw` is the very pointer that it holds.
unsafe impl Send for Port {}

impl Port {
    pub(crate) fn new(mut socket: Socket) -> Self {
        let raw = socket.as_mut_ptr();
        Self { socket, raw }
    }

    /// For what needs no frame: polling, options, endpoints.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Receives into `frame`; false if nothing is there.
    ///
    /// # Errors
    /// What libzmq answers; in practice only `ETERM`.
    pub(crate) fn receive(&self, frame: &mut Frame) -> Result<bool, Error> {
        match self.receive_with(frame, ZMQ_DONTWAIT as i32) {
            Ok(()) => Ok(true),
            Err(Error::EAGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Receives a further frame of a message whose last frame said [`more`](Frame::more). It does not wait: ØMQ gives
    /// whole messages.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub(crate) fn receive_rest(&self, frame: &mut Frame) -> Result<(), Error> {
        self.receive_with(frame, 0)
    }

    fn receive_with(&self, frame: &mut Frame, flags: i32) -> Result<(), Error> {
        // Whether a failed call leaves the message alone or empties it depends on the socket's type.
        frame.len = 0;
        let received = retried(|| {
            // SAFETY: `raw` belongs to `self.socket`, which is open, and no other thread uses it (`Port` is not
            // `Sync`); the message is initialised.
            unsafe { zmq_sys::zmq_msg_recv(&mut *frame.msg, self.raw, flags) }
        });
        // libzmq answers i32::MAX for a longer frame, which is then cut short; by configuration there is none.
        frame.len = received?;
        Ok(())
    }

    /// Sends `frame` and leaves it empty. `more`: another frame of the same message follows.
    ///
    /// # Errors
    /// What libzmq answers. XPUB and XSUB never answer `EAGAIN`: they drop for a peer that does not read.
    pub(crate) fn send(&self, frame: &mut Frame, more: bool) -> Result<(), Error> {
        let flags = if more { ZMQ_DONTWAIT | ZMQ_SNDMORE } else { ZMQ_DONTWAIT };
        retried(|| {
            // SAFETY: as in `receive_with`. On success libzmq takes the content and leaves an empty initialised message,
            // on failure it leaves the message alone.
            unsafe { zmq_sys::zmq_msg_send(&mut *frame.msg, self.raw, flags as i32) }
        })?;
        frame.len = 0;
        Ok(())
    }
}

/// Calls until it is not interrupted by a signal; the answer, which is no error.
fn retried(mut call: impl FnMut() -> i32) -> Result<usize, Error> {
    loop {
        if let Ok(answer) = usize::try_from(call()) {
            return Ok(answer);
        }
        // SAFETY: `zmq_errno` has no preconditions.
        match Error::from_raw(unsafe { zmq_sys::zmq_errno() }) {
            Error::EINTR => {}
            error => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Port, Port) {
        let context = zmq::Context::new();
        let [a, b] = [zmq::PAIR, zmq::PAIR].map(|kind| context.socket(kind).unwrap());
        a.bind("inproc://pair").unwrap();
        b.connect("inproc://pair").unwrap();
        (Port::new(a), Port::new(b))
    }

    #[test]
    fn frames_are_set_shared_sent_and_received() {
        let (a, b) = pair();
        let (mut frame, mut copy) = (Frame::new(), Frame::new());
        assert_eq!(frame.bytes(), b"");
        // Inline, just beyond inline, and large.
        for size in [0, 1, 33, 34, 1 << 20] {
            let bytes = vec![7; size];
            frame.set(&bytes);
            copy.share(&mut frame);
            a.send(&mut frame, true).unwrap();
            assert_eq!((frame.bytes(), copy.bytes()), (&b""[..], &bytes[..]));
            a.send(&mut copy, false).unwrap();

            assert!(b.receive(&mut frame).unwrap());
            assert!(frame.more() && frame.bytes() == bytes);
            b.receive_rest(&mut frame).unwrap();
            assert!(!frame.more() && frame.bytes() == bytes);
            assert!(!b.receive(&mut copy).unwrap());
            assert_eq!(copy.bytes(), b"");
        }
    }
}
