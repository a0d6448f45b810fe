//! What a server can do wrong with what clients have missed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use trestle_bench::report::Replayed;
use trestle_bench::target::ACCEPT;

use crate::server::text_frame;
use crate::{measure, only};

/// A server with a history. A position is how many messages are before it.
#[derive(Default)]
struct History {
    events: Mutex<Vec<Vec<u8>>>,
    live: Mutex<Vec<TcpStream>>,
    /// Clients that have come back.
    back: AtomicUsize,
}

/// What comes back to the n-th client that resumes, of the whole history and from where it resumes.
type Resend = fn(usize, &[Vec<u8>], usize) -> Vec<Vec<u8>>;

fn start(resend: Resend) -> (SocketAddr, SocketAddr) {
    let (lines, web) = (listen(), listen());
    let addresses = (lines.local_addr().unwrap(), web.local_addr().unwrap());
    let history = Arc::new(History::default());
    let recording = Arc::clone(&history);
    thread::spawn(move || {
        for line in BufReader::new(lines.accept().unwrap().0).lines().map_while(Result::ok) {
            let body = line.split_once(' ').unwrap().1;
            let mut events = recording.events.lock().unwrap();
            let event = format!(r#"{{"event":{{"position":"{}","data":{body}}}}}"#, events.len() + 1);
            let frame = text_frame(event.as_bytes());
            recording.live.lock().unwrap().iter_mut().for_each(|client| client.write_all(&frame).unwrap());
            events.push(frame);
        }
    });
    thread::spawn(move || {
        for stream in web.incoming() {
            let history = Arc::clone(&history);
            thread::spawn(move || serve(stream.unwrap(), &history, resend));
        }
    });
    addresses
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// One client, from its handshake to its first command.
fn serve(mut stream: TcpStream, history: &History, resend: Resend) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    write!(stream, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n").unwrap();
    let mut head = [0; 6];
    stream.read_exact(&mut head).unwrap();
    let mut command = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut command).unwrap();
    command.iter_mut().zip(head[2..].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    let command: serde_json::Value = serde_json::from_slice(&command).unwrap();
    stream.write_all(&text_frame(br#"{"reply":{"id":1,"subscribed":{}}}"#)).unwrap();
    match command["subscribe"]["since"].as_str() {
        None => history.live.lock().unwrap().push(stream),
        Some(since) => {
            let nth = history.back.fetch_add(1, Ordering::Relaxed);
            let frames = resend(nth, &history.events.lock().unwrap(), since.parse().unwrap());
            stream.write_all(&frames.concat()).unwrap();
            // Until it leaves.
            let _ = stream.read(&mut [0]);
        }
    }
}

/// Four clients with 60 missed messages each, in two rounds.
fn storm(resend: Resend) -> trestle_bench::report::Report {
    let (lines, web) = start(resend);
    measure(&format!(
        "storm --clients 4 --rounds 2 --replay 60 --url ws://{web}/ --publish line://{lines} --settle 0.05 --give-up 0.3"
    ))
}

/// Sums over both rounds, in the order of [`Replayed::troubles`], and deliveries.
fn sums(report: &trestle_bench::report::Report) -> ([u64; 6], u64) {
    let replays: Vec<&Replayed> =
        only(report).rounds.iter().map(|round| round.replay.as_ref().unwrap()).collect();
    assert_eq!(replays.len(), 2);
    let trouble = |nth: usize| replays.iter().map(|replay| replay.troubles()[nth].0).sum();
    (std::array::from_fn(trouble), replays.iter().map(|replay| replay.delivered).sum())
}

#[test]
fn a_sound_replay_has_no_trouble() {
    let report = storm(|_, history, since| history[since..].to_vec());
    assert_eq!(sums(&report), ([0; 6], 480));
    assert_eq!(report.settings.messages, Some(60));
    trestle_bench::verdict(&report, false).unwrap();
}

#[test]
fn every_trouble_is_counted_exactly() {
    let report = storm(|nth, history, since| match nth {
        // One late, one early.
        0 => history[since + 1..].to_vec(),
        1 => history[since - 1..].to_vec(),
        // The last one again.
        2 => [&history[since..], &history[history.len() - 1..]].concat(),
        // Two of them change places.
        3 => {
            let mut frames = history[since..].to_vec();
            frames.swap(10, 11);
            frames
        }
        _ => history[since..].to_vec(),
    });
    assert_eq!(sums(&report), ([1, 1, 1, 1, 0, 0], 479));
    let verdict = trestle_bench::verdict(&report, false).unwrap_err();
    assert_eq!(verdict.code, 1);
    assert!(verdict.reason.starts_with("run 1, round 1: 1 lost, run 1, round 1: 1 duplicated"));
}
