//! The running thread against publishers and forwarders on loopback.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use prost::Message as _;
use trestle_messages::v1::Stamp;
use trestle_messages::{BEAT_MARKER, Position, topic};
use trestle_recorder::{Cursor, RecordRule, RecordRules, Stamper};
use zmq::{Context, DONTWAIT, SNDMORE, Socket, SocketType};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const LINGER: Duration = Duration::from_millis(200);

/// Waits until `condition` gives something.
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A publisher that sees what is subscribed, in the place of any PUB and of a forwarder.
struct Publisher {
    socket: Socket,
    endpoint: String,
}

impl Publisher {
    fn bind(endpoint: &str) -> Self {
        let socket = Context::new().socket(SocketType::XPUB).unwrap();
        socket.set_linger(0).unwrap();
        // A closed socket gives its port back a moment later.
        until("a free port", || socket.bind(endpoint).ok());
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Self { socket, endpoint }
    }

    fn new() -> Self {
        Self::bind("tcp://127.0.0.1:*")
    }

    /// An endpoint where nobody listens.
    fn nobody() -> String {
        Self::new().endpoint
    }

    fn send(&self, frames: &[&[u8]]) {
        let (last, others) = frames.split_last().unwrap();
        others.iter().for_each(|frame| self.socket.send(*frame, SNDMORE).unwrap());
        self.socket.send(*last, 0).unwrap();
    }

    fn beat(&self, stamper: &Stamper) {
        self.send(&[topic::RESERVED, BEAT_MARKER, &stamper.beat().encode_to_vec()]);
    }

    fn stamped(&self, topic: &[u8], stamp: Stamp) {
        self.send(&[topic, b"body", &stamp.encode_to_vec()]);
    }

    /// The next subscription (`+topic`) or end of one (`-topic`).
    fn next(&self) -> String {
        let frame = until("a subscription", || self.socket.recv_bytes(DONTWAIT).ok());
        let sign = if frame[0] == 1 { '+' } else { '-' };
        format!("{sign}{}", String::from_utf8_lossy(&frame[1..]))
    }
}

struct Fixture {
    ingest: Ingest,
    log: Arc<Log>,
    cursor: Cursor,
    appended: Arc<Notify>,
    /// Topic, body and offset of what has been read of the log.
    seen: Vec<(String, String, u64)>,
}

impl Fixture {
    fn start(upstream: config::Upstream, bounds: Bounds) -> Self {
        let (log, appended) = (Arc::new(Log::new(64 << 20)), Arc::new(Notify::new()));
        let cursor = log.cursor();
        let identity = Identity::open(None).unwrap();
        let options = Options { upstream, bounds, identity, interest_linger: LINGER, interest_max: 10_000 };
        let ingest = super::start(options, Arc::clone(&log), vec![Arc::clone(&appended)]).unwrap();
        Self { ingest, log, cursor, appended, seen: Vec::new() }
    }

    fn link(forwarder: &Publisher) -> Self {
        let link = forwarder.endpoint.parse().unwrap();
        Self::start(config::Upstream::Link { link, recorder: None }, Bounds::default())
    }

    fn sources(sources: &[&str], rules: RecordRules, bounds: Bounds) -> Self {
        let sources = sources.iter().map(|source| source.parse().unwrap()).collect();
        let splits = vec!["weather/=\\x20".parse().unwrap()];
        Self::start(config::Upstream::Sources { sources, splits, rules, sequences: Vec::new() }, bounds)
    }

    fn source(publisher: &Publisher) -> Self {
        Self::sources(&[&publisher.endpoint], RecordRules::everything(), Bounds::default())
    }

    /// Reads on until `n` messages were seen in all.
    fn read(&mut self, n: usize) -> &[(String, String, u64)] {
        until("messages", || {
            let mut segments = Vec::new();
            self.log.read(&mut self.cursor, &mut segments).unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            for message in segments.iter().flat_map(|segment| segment.messages()) {
                let body = message.body().map(text).collect::<Vec<_>>().join("|");
                let offset = message.position().map_or(0, |position| position.offset);
                self.seen.push((text(message.topic()), body, offset));
            }
            (self.seen.len() >= n).then_some(())
        });
        &self.seen
    }

    fn until(&self, what: &str, condition: impl Fn(&Upstream) -> bool) {
        until(what, || condition(&self.ingest.upstream).then_some(()));
    }
}

fn seen(topic: &str, body: &str, offset: u64) -> (String, String, u64) {
    (topic.to_owned(), body.to_owned(), offset)
}

fn jobs() -> RecordRules {
    RecordRules::from_iter([RecordRule::new("jobs/")])
}

#[test]
fn a_publishers_messages_are_numbered_and_shards_notified() {
    let publisher = Publisher::new();
    let mut f = Fixture::source(&publisher);
    assert_eq!(publisher.next(), "+");
    publisher.send(&[b"jobs/1", b"a", b"", b"b"]);
    publisher.send(&[b"single"]);
    publisher.send(&[topic::RESERVED, b"mine"]);
    publisher.send(&[b"", b"empty topic"]);
    let expected = [seen("jobs/1", "a||b", 1), seen("single", "single", 2), seen("", "empty topic", 3)];
    assert_eq!(f.read(3), expected);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, f.appended.notified()).await.unwrap() });

    let upstream = &f.ingest.upstream;
    assert_eq!((upstream.messages.value(), upstream.reserved.value()), (3, 1));
    assert_eq!(upstream.bytes.value(), 8 + 6 + 11);
    let epoch = f.cursor.position().unwrap().epoch;
    f.until("the head", |upstream| (upstream.epoch.value(), upstream.head.value()) == (epoch, 3));
    f.until("a standing connection", |upstream| upstream.standing.value() == 1 && !upstream.is_stale());
}

#[test]
fn what_is_not_recorded_is_fetched_on_demand() {
    let publisher = Publisher::new();
    let mut f = Fixture::sources(&[&publisher.endpoint], jobs(), Bounds::default());
    assert_eq!(publisher.next(), "+jobs/");
    let interest = &f.ingest.interest;
    for prefix in [&b"jobs/7"[..], b"chat/", b"chat/", b"\xff"] {
        interest.add(prefix);
    }
    assert_eq!(publisher.next(), "+chat/", "jobs/7 is covered by jobs/");
    assert_eq!(publisher.next(), "+\u{fffd}");
    f.until("their count", |upstream| upstream.prefixes.value() == 3);
    publisher.send(&[b"chat/1", b"hi"]);
    publisher.send(&[b"nobody", b"wants this"]);
    publisher.send(&[b"jobs/1", b"go"]);
    assert_eq!(f.read(2), [seen("chat/1", "hi", 0), seen("jobs/1", "go", 1)]);

    let interest = f.ingest.interest.clone();
    interest.remove(b"chat/");
    interest.remove(b"\xff");
    assert_eq!(publisher.next(), "-\u{fffd}", "one still wants chat/");
    interest.remove(b"chat/");
    assert_eq!(publisher.next(), "-chat/");
}

#[test]
fn wants_are_counted_over_all_shards() {
    let publisher = Publisher::new();
    let f = Fixture::sources(&[&publisher.endpoint], RecordRules::nothing(), Bounds::default());
    let shards: Vec<_> = (0..4)
        .map(|shard| {
            let interest = f.ingest.interest.clone();
            thread::spawn(move || {
                for n in 0..500 {
                    interest.add(format!("topic/{n}").as_bytes());
                    interest.add(format!("own/{shard}/{n}").as_bytes());
                }
                for n in 0..500 {
                    interest.remove(format!("own/{shard}/{n}").as_bytes());
                }
            })
        })
        .collect();
    shards.into_iter().for_each(|shard| shard.join().unwrap());
    f.until("the linger's end", |upstream| upstream.prefixes.value() == 500);
    let mut up = std::collections::BTreeSet::new();
    until("all ends", || {
        while let Ok(frame) = publisher.socket.recv_bytes(DONTWAIT) {
            let changed = if frame[0] == 1 { up.insert(frame[1..].to_vec()) } else { up.remove(&frame[1..]) };
            assert!(changed, "each is told once: {frame:?}");
        }
        (up.len() == 500 && up.iter().all(|prefix| prefix.starts_with(b"topic/"))).then_some(())
    });
}

#[test]
fn alias_and_split_name_what_comes() {
    let (plain, feed) = (Publisher::new(), Publisher::new());
    let sources = [&plain.endpoint[..], &format!("eddn={}", feed.endpoint)];
    let rules = RecordRules::from_iter([RecordRule::new("weather/")]);
    let mut f = Fixture::sources(&sources, rules, Bounds::default());
    assert_eq!(plain.next(), "+weather/");
    plain.send(&[b"weather/10001 23 45"]);
    f.read(1);

    f.ingest.interest.add(b"ed");
    assert_eq!(feed.next(), "+", "an aliased feed is wanted as a whole");
    assert_eq!(plain.next(), "+ed");
    feed.send(&[b"zlib"]);
    assert_eq!(f.read(2), [seen("weather/10001", "23 45", 1), seen("eddn", "zlib", 0)]);
    f.ingest.interest.remove(b"ed");
    assert_eq!(feed.next(), "-");
}

#[test]
fn a_link_is_followed_from_its_first_beat() {
    let forwarder = Publisher::new();
    let mut f = Fixture::link(&forwarder);
    assert_eq!(forwarder.next(), "+\0trestle");
    assert!(!f.ingest.upstream.is_ready());
    assert_eq!((f.ingest.upstream.rules_version(), f.ingest.upstream.rules()), (0, RecordRules::nothing()));

    let mut stamper = Stamper::new(7, jobs());
    (0..5).for_each(|_| {
        stamper.stamp(b"jobs/before", 1);
    });
    forwarder.beat(&stamper);
    assert_eq!(forwarder.next(), "+jobs/", "what is recorded is subscribed to at the first beat");
    f.until("readiness", Upstream::is_ready);
    assert_eq!((f.ingest.upstream.rules_version(), f.ingest.upstream.rules()), (1, jobs()));
    assert_eq!(f.log.cursor().position(), Some(Position { epoch: 7, offset: 5 }));

    f.ingest.interest.add(b"chat/");
    assert_eq!(forwarder.next(), "+chat/");
    forwarder.stamped(b"jobs/1", stamper.stamp(b"jobs/1", 1));
    forwarder.stamped(b"chat/1", stamper.stamp(b"chat/1", 1));
    let lost = [(); 3].map(|()| stamper.stamp(b"jobs/1", 1));
    forwarder.send(&[b"jobs/1", b"no stamp"]);
    forwarder.stamped(b"jobs/2", stamper.stamp(b"jobs/2", 1));
    forwarder.stamped(b"jobs/1", lost[0]);
    forwarder.beat(&stamper);
    stamper.stamp(b"jobs/1", 1);
    forwarder.beat(&stamper);
    assert_eq!(f.read(3), [seen("jobs/1", "body", 6), seen("chat/1", "body", 0), seen("jobs/2", "body", 10)]);
    f.until("the head of the last beat", |upstream| upstream.head.value() == 11);
    let upstream = &f.ingest.upstream;
    assert_eq!((upstream.holes.value(), upstream.missing.value()), (2, 4));
    assert_eq!((upstream.malformed.value(), upstream.messages.value()), (1, 3));
    assert_eq!(f.log.cursor().position(), Some(Position { epoch: 7, offset: 11 }));
}

#[test]
fn a_silent_link_is_stale_but_stays_ready() {
    let forwarder = Publisher::new();
    let f = Fixture::link(&forwarder);
    assert_eq!(forwarder.next(), "+\0trestle");
    let stamper = Stamper::new(7, RecordRules::everything());
    forwarder.beat(&stamper);
    f.until("readiness", Upstream::is_ready);
    assert!(!f.ingest.upstream.is_stale());
    f.until("staleness", Upstream::is_stale);
    assert!(f.ingest.upstream.is_ready());
    forwarder.beat(&stamper);
    f.until("an end of it", |upstream| !upstream.is_stale());
}

#[test]
fn a_forwarder_that_restarts_is_followed_into_its_new_epoch() {
    let forwarder = Publisher::new();
    let mut f = Fixture::link(&forwarder);
    assert_eq!(forwarder.next(), "+\0trestle");
    let mut stamper = Stamper::new(7, RecordRules::everything());
    forwarder.beat(&stamper);
    assert_eq!(forwarder.next(), "+");
    forwarder.stamped(b"a", stamper.stamp(b"a", 1));
    f.read(1);

    let endpoint = forwarder.endpoint.clone();
    drop(forwarder);
    f.until("the loss", |upstream| upstream.disconnects.value() == 1);
    let forwarder = Publisher::bind(&endpoint);
    let mut stamper = Stamper::new(8, RecordRules::everything());
    let mut again = [forwarder.next(), forwarder.next()];
    again.sort();
    assert_eq!(again, ["+", "+\0trestle"], "libzmq subscribes again by itself");
    forwarder.stamped(b"b", stamper.stamp(b"b", 1));
    assert_eq!(f.read(2), [seen("a", "body", 1), seen("b", "body", 1)]);
    let upstream = &f.ingest.upstream;
    assert_eq!(
        (upstream.epoch_changes.value(), upstream.holes.value(), upstream.connects.value()),
        (1, 0, 2)
    );
    assert_eq!(f.log.cursor().position(), Some(Position { epoch: 8, offset: 1 }));
}

#[test]
fn an_upstream_that_comes_late_is_found() {
    let endpoint = Publisher::nobody();
    let mut f = Fixture::sources(&[&endpoint], RecordRules::everything(), Bounds::default());
    f.until("a start", |upstream| upstream.is_ready() && upstream.is_stale());
    let publisher = Publisher::bind(&endpoint);
    assert_eq!(publisher.next(), "+");
    publisher.send(&[b"a", b"b"]);
    assert_eq!(f.read(1), [seen("a", "b", 1)]);
    f.until("an end of staleness", |upstream| !upstream.is_stale());
}

/// libzmq never reconnects by itself after a frame over the bound: it takes it for a broken protocol.
#[test]
fn a_frame_over_the_bound_cuts_the_peer_and_it_comes_back() {
    let (publisher, other) = (Publisher::new(), Publisher::new());
    let sources = [&publisher.endpoint[..], &other.endpoint];
    let bounds = Bounds { frame_bytes_max: 1_000, ..Bounds::default() };
    let mut f = Fixture::sources(&sources, RecordRules::everything(), bounds);
    assert_eq!((publisher.next(), other.next()), ("+".to_owned(), "+".to_owned()));
    publisher.send(&[b"fits", &[b'x'; 1_000]]);
    f.read(1);
    publisher.send(&[b"too large", &[b'x'; 1_001]]);
    assert_eq!(publisher.next(), "-", "cut");
    other.send(&[b"others", b"go on"]);
    assert_eq!(f.read(2)[1], seen("others", "go on", 2));
    assert_eq!(publisher.next(), "+", "dialled anew");
    publisher.send(&[b"again", b"here"]);
    assert_eq!(f.read(3)[2], seen("again", "here", 3));
    let upstream = &f.ingest.upstream;
    assert_eq!((upstream.cuts.value(), upstream.disconnects.value()), (1, 1));
}

#[test]
fn all_frames_of_a_message_are_bounded_together() {
    let publisher = Publisher::new();
    let bounds = Bounds { frame_bytes_max: 1_000, ..Bounds::default() };
    let mut f = Fixture::sources(&[&publisher.endpoint], RecordRules::everything(), bounds);
    assert_eq!(publisher.next(), "+");
    publisher.send(&[&[b'x'; 900][..]; 30]);
    publisher.send(&[b"a", b"b"]);
    assert_eq!(f.read(1), [seen("a", "b", 1)]);
    assert_eq!(f.ingest.upstream.too_large.value(), 1);
}

/// A port that turns out to be another service's is given up by libzmq for good, too.
#[test]
fn what_speaks_no_zmq_is_tried_again() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", web.local_addr().unwrap());
    let mut f = Fixture::sources(&[&endpoint], RecordRules::everything(), Bounds::default());
    let (mut stream, _) = web.accept().unwrap();
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").unwrap();
    let _ = stream.read(&mut [0; 64]);
    drop((stream, web));
    let publisher = Publisher::bind(&endpoint);
    assert_eq!(publisher.next(), "+");
    publisher.send(&[b"a", b"b"]);
    assert_eq!(f.read(1), [seen("a", "b", 1)]);
}

#[test]
fn shutdown_takes_less_than_a_second() {
    for endpoint in [Publisher::nobody(), Publisher::new().endpoint] {
        let f = Fixture::sources(&[&endpoint], RecordRules::everything(), Bounds::default());
        let interest = f.ingest.interest.clone();
        let start = Instant::now();
        f.ingest.shutdown();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        interest.add(b"nobody listens any more");
    }
}

#[test]
fn a_thread_that_panics_says_why() {
    let (waker, _wakeable) = wake::pair().unwrap();
    let (_thread, failed) = spawn(waker, |_| panic!("the {} broke", "poll")).unwrap();
    let error = failed.blocking_recv().unwrap();
    assert_eq!(format!("{error:#}"), "the ingest thread ended: panicked: the poll broke");
}
