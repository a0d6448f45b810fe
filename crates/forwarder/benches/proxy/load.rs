//! One publisher, four subscribers, and what they see.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::Process;
use crate::zmtp;

const SUBSCRIBERS: usize = 4;
/// Messages on their way at most.
pub(crate) const WINDOW: u64 = 4_000;
/// Messages in one write of the publisher.
const BATCH: u64 = 32;
const TOPIC: &[u8] = b"bench";
/// Not measured: caches and congestion windows grow.
const WARM_UP: Duration = Duration::from_millis(300);

/// What was measured.
pub(crate) struct Load {
    /// Received by every subscriber.
    pub(crate) messages_per_s: f64,
    /// CPU of the process under test a message, microseconds.
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// What a hypervisor gave to others of all cores' time, a part of 1.
    pub(crate) steal: f64,
}

impl Load {
    /// Fields of a JSON object.
    pub(crate) fn json_fields(&self) -> String {
        let Self { messages_per_s, user_us, system_us, steal } = self;
        let cpu_us = user_us + system_us;
        format!(
            r#""messages_per_s":{messages_per_s:.0},"user_us":{user_us:.4},"cpu_us":{cpu_us:.4},"steal":{steal:.4}"#
        )
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages_per_s, user_us, system_us, .. } = self;
        write!(
            f,
            "{messages_per_s:9.0} messages/s, CPU a message: user {user_us:.2} µs, system {system_us:.2} µs"
        )
    }
}

/// Publishes for some seconds messages of a topic and frames of the `sent` sizes; each subscriber receives the topic and
/// frames of the `received` sizes.
pub(crate) fn run(process: &Process, sent: &[usize], received: &[usize], seconds: u64) -> Load {
    let subscribers = subscribe(&process.output);
    let publisher = connect_publisher(&process.frontend);
    let (counts, stop) = (Counts::default(), AtomicBool::new(false));
    let (message, received_bytes) = (wire(sent), wire(received).len() as u64);
    thread::scope(|scope| {
        let (tell, progress) = mpsc::sync_channel(1);
        let (counts, stop, message) = (&counts, &stop, &message[..]);
        for (stream, count) in subscribers.into_iter().zip(&counts.0) {
            let tell = tell.clone();
            scope.spawn(move || receive(stream, received_bytes, count, &tell, stop));
        }
        let published = scope.spawn(move || publish(publisher, message, counts, &progress, stop));
        thread::sleep(WARM_UP);
        let machine_from = machine_ticks();
        let (start, from, cpu_from) = (Instant::now(), counts.least(), process.cpu_s());
        thread::sleep(Duration::from_secs(seconds));
        let (took, to, cpu_to) = (start.elapsed().as_secs_f64(), counts.least(), process.cpu_s());
        let machine_to = machine_ticks();
        stop.store(true, Ordering::Release);
        let published = published.join().unwrap();
        assert!(to > from && published >= to, "{published} published, {from} to {to} received");
        let n = (to - from) as f64;
        Load {
            messages_per_s: n / took,
            user_us: (cpu_to.0 - cpu_from.0) * 1e6 / n,
            system_us: (cpu_to.1 - cpu_from.1) * 1e6 / n,
            steal: machine_to[STEAL].saturating_sub(machine_from[STEAL]) as f64
                / (machine_to.iter().sum::<u64>() - machine_from.iter().sum::<u64>()) as f64,
        }
    })
}

/// All cores' time so far by what it was spent on, ticks (`proc_stat(5)`); guests' time is in user's already.
fn machine_ticks() -> [u64; 8] {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let mut ticks = stat.split_whitespace().skip(1).map(|ticks| ticks.parse().unwrap());
    std::array::from_fn(|_| ticks.next().unwrap())
}

/// Where [`machine_ticks`] has what a hypervisor gave to others.
const STEAL: usize = 7;

#[derive(Default)]
struct Counts([AtomicU64; SUBSCRIBERS]);

impl Counts {
    fn least(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Acquire)).min().unwrap()
    }
}

/// A message of the topic and frames of these sizes.
fn wire(sizes: &[usize]) -> Vec<u8> {
    let bodies: Vec<Vec<u8>> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
    let frames: Vec<&[u8]> = std::iter::once(TOPIC).chain(bodies.iter().map(Vec::as_slice)).collect();
    zmtp::message(&frames)
}

fn mark(n: usize) -> Vec<u8> {
    format!("mark {n}").into_bytes()
}

fn subscribe(address: &str) -> Vec<TcpStream> {
    let subscriber = |n| {
        let mut stream = zmtp::connect(address, "SUB");
        for prefix in [TOPIC, &mark(n)] {
            stream.write_all(&zmtp::message(&[&[b"\x01", prefix].concat()])).unwrap();
        }
        stream
    };
    (0..SUBSCRIBERS).map(subscriber).collect()
}

/// Connects and waits until every subscriber's mark, which follows its subscription, has come up.
fn connect_publisher(address: &str) -> TcpStream {
    let mut stream = zmtp::connect(address, "PUB");
    let mut missing: Vec<Vec<u8>> = (0..SUBSCRIBERS).map(|n| [b"\x01", &mark(n)[..]].concat()).collect();
    while !missing.is_empty() {
        let (_, frame) = zmtp::read_frame(&mut stream);
        missing.retain(|mark| *mark != frame);
    }
    stream
}

/// Counts messages by their bytes, which are all alike.
fn receive(
    mut stream: TcpStream,
    message_bytes: u64,
    count: &AtomicU64,
    tell: &mpsc::SyncSender<()>,
    stop: &AtomicBool,
) {
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    while !stop.load(Ordering::Acquire) {
        let Ok(n) = stream.read(&mut buffer) else { continue };
        assert_ne!(n, 0, "the forwarder has closed");
        bytes += n as u64;
        count.store(bytes / message_bytes, Ordering::Release);
        // A full channel has told the publisher already.
        let _ = tell.try_send(());
    }
}

/// Publishes within the window until told to stop; how many.
fn publish(
    mut stream: TcpStream,
    message: &[u8],
    counts: &Counts,
    progress: &mpsc::Receiver<()>,
    stop: &AtomicBool,
) -> u64 {
    let batch = message.repeat(BATCH as usize);
    let mut published = 0;
    while !stop.load(Ordering::Acquire) {
        if published + BATCH > counts.least() + WINDOW {
            let _ = progress.recv_timeout(Duration::from_millis(100));
            continue;
        }
        stream.write_all(&batch).unwrap();
        published += BATCH;
    }
    published
}
