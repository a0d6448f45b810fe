//! What a data folder keeps while the program is stopped, killed and refused by the disk.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::runtime::Builder;
use trestle_messages::topic;
use trestle_messages::v1::ReplayRequest;

use crate::binary::{FREE_PORTS, Program, fails, forwarder};
use crate::fixture::{DEADLINE, Edge, Frames, Publisher, Subscriber, TestForwarder, frames, socket};
use crate::replay::{messages, replay_of};

/// A folder in use: what was seen at each offset of its epoch.
#[derive(Default)]
struct Seen {
    epoch: Option<u64>,
    by_offset: BTreeMap<u64, Frames>,
}

impl Seen {
    /// A message came, by the link or in a replay.
    fn see(&mut self, epoch: u64, offset: u64, message: Frames) {
        assert_eq!(*self.epoch.get_or_insert(epoch), epoch, "the epoch goes on");
        let before = self.by_offset.entry(offset).or_insert_with(|| message.clone());
        assert_eq!(*before, message, "offset {offset} was given out twice");
    }

    fn head(&self) -> u64 {
        self.by_offset.last_key_value().map_or(0, |(offset, _)| *offset)
    }
}

/// The program at work.
struct Process {
    program: Program,
    lines: std::io::Lines<BufReader<ChildStderr>>,
    frontend: String,
    link: String,
    grpc: SocketAddr,
    context: zmq::Context,
}

impl Process {
    fn start(mut command: Command, dir: &Path) -> Self {
        command.args(FREE_PORTS).arg("--data").arg(dir).stderr(Stdio::piped());
        let mut program = Program(command.spawn().unwrap());
        let mut lines = BufReader::new(program.0.stderr.take().unwrap()).lines();
        let mut said = |words: &str| {
            lines
                .by_ref()
                .map(Result::unwrap)
                .find(|line| line.contains(words))
                .expect("it says its addresses")
        };
        let (data, control) = (said("publishers connect to"), said("gRPC on"));
        let after = |text: &str, words: &str| {
            let rest = text.split_once(words).unwrap().1;
            rest.split([',', ' ', ';']).next().unwrap().trim().to_owned()
        };
        let (frontend, link) = (after(&data, "publishers connect to "), after(&data, "edges to "));
        let grpc = after(&control, "gRPC on ").parse().unwrap();
        Self { program, lines, frontend, link, grpc, context: zmq::Context::new() }
    }

    fn edge(&self) -> Edge {
        let subscriber = socket(&self.context, zmq::SUB);
        subscriber.connect(&self.link).unwrap();
        [&b"t/"[..], topic::RESERVED].iter().for_each(|prefix| subscriber.set_subscribe(prefix).unwrap());
        Edge(Subscriber(subscriber))
    }

    fn publisher(&self) -> Publisher {
        let publisher = socket(&self.context, zmq::XPUB);
        publisher.connect(&self.frontend).unwrap();
        let publisher = Publisher(publisher);
        publisher.wait_asked(b"");
        publisher
    }

    /// Everything that it keeps; offsets without a hole.
    fn replay(&self, seen: &mut Seen) -> u64 {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let batches = runtime.block_on(replay_of(self.grpc, ReplayRequest::default())).unwrap();
        let replayed = messages(&batches);
        let head = batches.last().unwrap().through;
        assert_eq!(replayed.len() as u64, head, "every offset is kept");
        for ((frames, stamp), offset) in replayed.into_iter().zip(1..) {
            assert_eq!(stamp.offset, offset);
            seen.see(stamp.epoch, stamp.offset, frames);
        }
        head
    }
}

/// Of each round the edge has what came until the kill; the next must have it, too.
#[test]
fn nothing_that_left_a_killed_forwarder_is_lost_or_numbered_again() {
    const ROUNDS: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Seen::default();
    let (mut sent, mut from_link) = (0u64, 0);
    for round in 0..ROUNDS {
        let mut process = Process::start(forwarder(), folder.path());
        let head_before = seen.head();
        let head = process.replay(&mut seen);
        assert!(head >= head_before, "{head_before} was seen, {head} is there after round {round}");
        let (edge, publisher) = (process.edge(), process.publisher());
        assert_eq!(edge.next_beat().head, head);

        // Bursts of other lengths in each round, and never a word about when.
        let (killed_after, burst) = (getrandom::u64().unwrap() % 3_000, 1 + round * 37 % 200);
        let stop = AtomicBool::new(false);
        let publisher = std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    for _ in 0..burst {
                        sent += 1;
                        let topic = format!("t/{}", sent % 5);
                        publisher.send(&[
                            topic.as_bytes(),
                            &sent.to_le_bytes(),
                            &vec![7; (sent % 300) as usize],
                        ]);
                    }
                    std::thread::yield_now();
                }
                publisher
            });
            for n in 0..=killed_after {
                let (frames, stamp) = edge.next();
                assert_eq!(stamp.offset, head + n + 1, "offsets go on, round {round}");
                seen.see(stamp.epoch, stamp.offset, frames);
                from_link += 1;
            }
            process.program.0.kill().unwrap();
            stop.store(true, Ordering::Release);
            publishing.join().unwrap()
        });
        process.program.0.wait().unwrap();
        // What was on its way when it was killed has left it, too.
        edge.0.0.set_rcvtimeo(50).unwrap();
        while let Ok(mut frames) = edge.0.0.recv_multipart(0) {
            if frames[0] != topic::RESERVED {
                let stamp = prost::Message::decode(&frames.pop().unwrap()[..]).unwrap();
                let trestle_messages::v1::Stamp { epoch, offset, .. } = stamp;
                seen.see(epoch, offset, frames);
                from_link += 1;
            }
        }
        drop(publisher);
    }
    let head = Process::start(forwarder(), folder.path()).replay(&mut seen);
    assert_eq!(seen.head(), head);
    println!("{from_link} messages came by the link, {head} were recorded, over {ROUNDS} kills");
    assert!(from_link > ROUNDS);
}

#[test]
fn a_stop_in_order_is_continued_with_everything() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let sent = |n: u8| frames(&[b"t", &[n]]);
    let mut epochs = Vec::new();
    for run in 0..3u8 {
        let forwarder = TestForwarder::start(&["--data", dir]);
        let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b""]));
        publisher.wait_asked(b"");
        publisher.send(&[b"t", &[run]]);
        let (message, stamp) = edge.next();
        assert_eq!((message, stamp.offset), (sent(run), u64::from(run) + 1));
        epochs.push(stamp.epoch);
        // The log has it soon after the link.
        let all = ReplayRequest { epoch: stamp.epoch, after: 0, through: stamp.offset };
        let batches = forwarder.block_on(replay_of(forwarder.running.grpc, all)).unwrap();
        let kept: Vec<_> = messages(&batches).into_iter().map(|(message, _)| message).collect();
        assert_eq!(kept, (0..=run).map(sent).collect::<Vec<_>>());
        forwarder.metric("trestle_forwarder_data_bytes", |bytes| bytes > 0);
        forwarder.shutdown();
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
}

#[test]
fn unrecorded_messages_pass_a_data_folder_by() {
    let folder = tempfile::tempdir().unwrap();
    let forwarder = TestForwarder::start(&[
        "--data",
        folder.path().to_str().unwrap(),
        "--record",
        "jobs/",
        "--split",
        "w=\\x20",
    ]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b""]));
    publisher.wait_asked(b"");
    let sent = [&[&b"jobs/1"[..], b"x", b""][..], &[b"other", b"y"], &[b"w1 23"], &[b"jobs/2"]];
    sent.iter().for_each(|message| publisher.send(message));
    let mut came: Vec<_> =
        (0..4).map(|_| edge.next()).map(|(frames, stamp)| (stamp.offset, frames)).collect();
    came.sort();
    let expected = [
        (0, frames(&[b"other", b"y"])),
        (0, frames(&[b"w1", b"w1 23"])),
        (1, frames(&[b"jobs/1", b"x", b""])),
        (2, frames(&[b"jobs/2"])),
    ];
    assert_eq!(came, expected);
}

#[test]
fn a_folder_that_is_in_use_or_none_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let _process = Process::start(forwarder(), folder.path());
    let (code, said) = fails(forwarder().args(FREE_PORTS).args(["--data", dir]));
    assert!(code == 71 && said.contains("--data") && said.contains("another forwarder"), "{code}: {said}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let (code, said) = fails(forwarder().args(FREE_PORTS).arg("--data").arg(file.path()));
    assert!(code == 71 && said.contains("--data") && said.contains("cannot use"), "{code}: {said}");
}

/// Files may grow to 2 MiB, and writing beyond that is an error, as on a full disk.
#[test]
fn a_full_disk_begins_a_new_epoch_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    let limited = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\"";
    command.args(["-c", limited, env!("CARGO_BIN_EXE_trestle-forwarder")]);
    let mut process = Process::start(command, folder.path());
    let (edge, publisher) = (process.edge(), process.publisher());
    let first = edge.next_beat().epoch;
    let body = vec![7; 10 << 10];
    let (mut expected, mut epoch, deadline) = (1, first, Instant::now() + DEADLINE);
    let mut after = 0;
    while after < 500 {
        assert!(Instant::now() < deadline, "the disk fails");
        publisher.send(&[b"t/1", &body]);
        let (_, stamp) = edge.next();
        if stamp.epoch != epoch {
            assert_eq!(epoch, first, "once");
            (epoch, expected) = (stamp.epoch, 1);
        }
        assert_eq!(stamp.offset, expected, "no message is lost");
        expected += 1;
        after += u64::from(epoch != first);
    }
    while edge.next_beat().epoch != epoch {}
    process.program.0.kill().unwrap();
    let said: Vec<_> =
        process.lines.by_ref().map(Result::unwrap).filter(|line| line.contains("--data")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("A new epoch begins"), "{said:?}");

    // It is over with the first epoch for good.
    let process = Process::start(forwarder(), folder.path());
    let beat = process.edge().next_beat();
    assert!(beat.epoch != first && beat.epoch != epoch && beat.head == 0, "{beat:?}");
}
