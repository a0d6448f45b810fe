//! Just enough ZMTP 3.0 (NULL) to publish and subscribe: libzmq's clients would cost more CPU than what they measure.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Connects and shakes hands as a socket of this type.
pub(crate) fn connect(address: &str, socket_type: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).unwrap();
    stream.read_exact(&mut greeting).unwrap();
    let length = (socket_type.len() as u32).to_be_bytes();
    let ready = [b"\x05READY\x0bSocket-Type", &length[..], socket_type.as_bytes()].concat();
    stream.write_all(&[&[4, ready.len() as u8], &ready[..]].concat()).unwrap();
    let (flags, _) = read_frame(&mut stream);
    assert_eq!(flags & 4, 4, "READY is a command");
    stream
}

/// A message's bytes on the wire; each frame is shorter than 256 bytes.
pub(crate) fn message(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        bytes.extend([u8::from(n + 1 < frames.len()), u8::try_from(frame.len()).unwrap()]);
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// Reads a short frame: its flags and its bytes.
pub(crate) fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0] & 2, 0, "a short frame");
    let mut body = vec![0; usize::from(head[1])];
    stream.read_exact(&mut body).unwrap();
    (head[0], body)
}
