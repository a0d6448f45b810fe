//! Clients that come and go, in every way there is: memory and open files stay.

use std::io::Write as _;
use std::net::TcpStream;

use socket2::SockRef;
use trestle_hub::ws::{Opcode, client_frame};

use crate::client::{Client, JSON, RAW, Said};
use crate::fixture::{Feed, until};
use crate::http::{Answer, Request, connect};
use crate::program::Program;

/// A failure prints it; another one finds other orders.
const SEED: u64 = 0x7472_6573_746c_6501;
const ROUNDS: usize = 4;
/// Connections of a round.
const ROUND: usize = 500;
/// Connections at a time.
const BATCH: usize = 20;
/// What an allocator may be off by, between two looks at the same load.
const NOISE_BYTES: u64 = 1 << 20;

/// Numbers that look random (splitmix64).
struct Dice(u64);

impl Dice {
    /// One below `n`.
    fn roll(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// How a connection ends.
enum End {
    /// With Close frames both ways.
    Clean(Box<Client>),
    /// Without a word.
    Cut(TcpStream),
    /// By a reset, which takes along what the edge had to send.
    Reset(TcpStream),
}

impl End {
    fn make(self) {
        match self {
            Self::Clean(mut client) => {
                client.send(Opcode::Close, &1000u16.to_be_bytes());
                while client.next() != Said::End {}
            }
            Self::Cut(stream) => drop(stream),
            Self::Reset(stream) => {
                SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap()
            }
        }
    }
}

/// A connection at a random place of its life.
fn connection(program: &Program, dice: &mut Dice) -> End {
    let mut stream = connect(program.address);
    let protocol = [JSON, RAW][dice.roll(2)];
    let request = Request::websocket(&format!("/ws?topic={}", dice.roll(50)), protocol).bytes();
    match dice.roll(8) {
        // A handshake that is half done.
        0 | 1 => stream.write_all(&request[..dice.roll(request.len())]).unwrap(),
        // One whose answer is not read.
        2 => stream.write_all(&request).unwrap(),
        3 => {
            stream.write_all(&Request::get("/").bytes()).unwrap();
            assert_eq!(Answer::read(&mut stream).status, 200);
        }
        4 | 5 => {
            let client = Client::upgrade(stream, &request);
            return End::Clean(Box::new(if protocol == JSON { client.welcomed() } else { client }));
        }
        // A frame that is cut anywhere.
        _ => {
            stream.write_all(&request).unwrap();
            assert_eq!(Answer::read(&mut stream).status, 101);
            let topics: Vec<_> = (0..dice.roll(100)).map(|n| format!("topic/{n}")).collect();
            let command = serde_json::json!({"id": 1, "subscribe": {"topics": topics}}).to_string();
            let frame = client_frame(Opcode::Text, true, [1, 2, 3, 4], command.as_bytes());
            stream.write_all(&frame[..dice.roll(frame.len())]).unwrap();
        }
    }
    if dice.roll(2) == 0 { End::Cut(stream) } else { End::Reset(stream) }
}

#[test]
fn two_thousand_connections_leave_nothing() {
    let feed = Feed::bound();
    let source = format!("--source={}", feed.endpoint);
    let program = Program::start(&[&source, "--shards=2", "--interest-linger=0s", "--log-bytes-max=1MiB"]);
    feed.wait_for("+");
    let mut dice = Dice(SEED);
    let mut round = |n: usize| {
        for _ in 0..n / BATCH {
            let batch: Vec<_> = (0..BATCH).map(|_| connection(&program, &mut dice)).collect();
            feed.send(&["7", "traffic meanwhile"]);
            batch.into_iter().for_each(End::make);
        }
        until("the last to be gone", || (program.established() == 0).then_some(()));
        program.until_metric("connections", |n| n == 0);
        program.until_metric("subscriptions", |n| n == 0);
    };
    // What is opened or allocated with the first of its kind stays.
    round(BATCH * 2);
    let files = program.open_files();
    let mut memory = Vec::new();
    for _ in 0..ROUNDS {
        round(ROUND);
        // The first look may have counted the connection that read the metrics before.
        until(&format!("{files} open files, as before"), || (program.open_files() <= files).then_some(()));
        memory.push(program.rss_bytes());
    }
    assert!(
        memory[ROUNDS - 1] <= memory[0] + NOISE_BYTES,
        "seed {SEED:#x}: {memory:?} bytes after each round"
    );
}
