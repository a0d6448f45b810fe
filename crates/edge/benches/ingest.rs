//! How many messages a second the ingest thread takes in over TCP on loopback, topic and 128 bytes, against a bare loop
//! that receives the same frames and forgets them. `cargo bench -p trestle-edge --bench ingest`
//!
//! The publisher waits where it would drop, so that the slowest part of the way sets the pace; its own thread and two of
//! libzmq's share the machine with what is measured.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::sync::Notify;
use trestle_edge::config::Upstream;
use trestle_edge::ingest::{self, Options};
use trestle_messages::{BEAT_MARKER, stamp, topic};
use trestle_process::curve::Identity;
use trestle_process::zmq::{Bounds, raw};
use trestle_recorder::{Log, RecordRules, Stamper};
use zmq::{Context, DONTWAIT, Message, POLLIN, SNDMORE, Socket, SocketType};

const MESSAGES: u64 = 2_000_000;
const ROUNDS: usize = 5;
const TOPIC: &[u8] = b"jobs/42";
const BODY: [u8; 128] = [b'x'; 128];

fn main() -> Result<(), Box<dyn Error>> {
    let runs: [(&str, Start); 4] = [
        ("bare loop, 2 frames", || bare(false)),
        ("--source", source),
        ("bare loop, 3 frames", || bare(true)),
        ("--link", link),
    ];
    let mut rates = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for ((_, run), rates) in runs.iter().zip(&mut rates) {
            rates.push(run()? / 1e6);
        }
    }
    println!("{MESSAGES} messages of topic and {} bytes, million a second, {ROUNDS} rounds", BODY.len());
    for ((name, _), rates) in runs.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        let [least, median, most] = [0, ROUNDS / 2, ROUNDS - 1].map(|i| rates[i]);
        println!("{name:20} median {median:.2} ({least:.2} to {most:.2})");
    }
    Ok(())
}

/// Messages a second.
type Run = Result<f64, Box<dyn Error>>;
type Start = fn() -> Run;

/// A publisher that sends once it is subscribed to, with a stamp as last frame or without.
struct Publisher {
    socket: Socket,
    endpoint: String,
}

impl Publisher {
    fn bind() -> Result<Self, Box<dyn Error>> {
        let mut socket = Context::new().socket(SocketType::XPUB)?;
        socket.set_linger(0)?;
        socket.set_sndhwm(10_000)?;
        raw::set_int(&mut socket, raw::XPUB_NODROP, 1)?;
        socket.bind("tcp://127.0.0.1:*")?;
        let endpoint = socket.get_last_endpoint()?.map_err(|_| "the endpoint is not UTF-8")?;
        Ok(Self { socket, endpoint })
    }

    fn subscribed(&self, prefix: &[u8]) -> zmq::Result<()> {
        while self.socket.recv_bytes(0)?.get(1..) != Some(prefix) {}
        Ok(())
    }

    fn send_all(&self, mut stamper: Option<Stamper>) -> zmq::Result<()> {
        for now in 0..MESSAGES {
            self.socket.send(TOPIC, SNDMORE)?;
            let Some(stamper) = &mut stamper else {
                self.socket.send(&BODY[..], 0)?;
                continue;
            };
            let (stamp, n) = stamp::encode(&stamper.stamp(TOPIC, now + 1));
            self.socket.send(&BODY[..], SNDMORE)?;
            self.socket.send(&stamp[..n], 0)?;
        }
        Ok(())
    }
}

/// Polls, then drains up to 256 messages with one reused frame: what can be had from one thread at most.
fn bare(stamped: bool) -> Run {
    let publisher = Publisher::bind()?;
    let done = Arc::new(AtomicBool::new(false));
    let subscriber = Context::new().socket(SocketType::SUB)?;
    subscriber.connect(&publisher.endpoint)?;
    subscriber.set_subscribe(b"")?;
    publisher.subscribed(b"")?;
    let receiver = thread::spawn({
        let done = Arc::clone(&done);
        move || -> zmq::Result<()> {
            let (mut frame, mut n) = (Message::new(), 0);
            while n < MESSAGES {
                zmq::poll(&mut [subscriber.as_poll_item(POLLIN)], -1)?;
                for _ in 0..256 {
                    if subscriber.recv(&mut frame, DONTWAIT).is_err() {
                        break;
                    }
                    while frame.get_more() {
                        subscriber.recv(&mut frame, 0)?;
                    }
                    n += 1;
                }
            }
            done.store(true, Ordering::Release);
            Ok(())
        }
    });
    let stamper = stamped.then(|| Stamper::new(1, RecordRules::everything()));
    let rate = time(&publisher, stamper, || done.load(Ordering::Acquire))?;
    receiver.join().map_err(|_| "the receiver panicked")??;
    Ok(rate)
}

fn source() -> Run {
    let publisher = Publisher::bind()?;
    let sources = vec![publisher.endpoint.parse()?];
    let upstream = Upstream::Sources {
        sources,
        splits: Vec::new(),
        rules: RecordRules::everything(),
        sequences: Vec::new(),
    };
    ingest(&publisher, upstream, None)
}

fn link() -> Run {
    let publisher = Publisher::bind()?;
    let upstream = Upstream::Link { link: publisher.endpoint.parse()?, recorder: None };
    ingest(&publisher, upstream, Some(Stamper::new(1, RecordRules::everything())))
}

fn ingest(publisher: &Publisher, upstream: Upstream, stamper: Option<Stamper>) -> Run {
    let (interest_linger, interest_max) = (Duration::from_secs(2), 10_000);
    let identity = Identity::open(None).expect("libzmq has CURVE");
    let options = Options { upstream, bounds: Bounds::default(), identity, interest_linger, interest_max };
    // Two shards to wake, and a log that evicts, as in service.
    let shards = vec![Arc::new(Notify::new()), Arc::new(Notify::new())];
    let ingest = ingest::start(options, Arc::new(Log::new(64 << 20)), shards)?;
    if let Some(stamper) = &stamper {
        publisher.subscribed(topic::RESERVED)?;
        publisher
            .socket
            .send_multipart([topic::RESERVED, BEAT_MARKER, &stamper.beat().encode_to_vec()], 0)?;
    }
    publisher.subscribed(b"")?;
    let rate = time(publisher, stamper, || ingest.upstream.messages.value() == MESSAGES)?;
    ingest.shutdown();
    Ok(rate)
}

fn time(publisher: &Publisher, stamper: Option<Stamper>, done: impl Fn() -> bool) -> Run {
    let start = Instant::now();
    publisher.send_all(stamper)?;
    while !done() {
        if start.elapsed() > Duration::from_secs(60) {
            return Err("messages were lost".into());
        }
        thread::sleep(Duration::from_micros(100));
    }
    Ok(MESSAGES as f64 / start.elapsed().as_secs_f64())
}
