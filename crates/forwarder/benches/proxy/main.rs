//! The forwarder against libzmq's own `zmq_proxy`: messages a second and CPU a message, interleaved.
//!
//! `cargo bench -p trestle-forwarder [-- --rounds 7 --seconds 2 --json]`. Each round starts every candidate afresh as a
//! process of its own, pinned to the first core where `taskset` is there, with the load on the others. The load is closed:
//! never more than [`load::WINDOW`] messages are on their way, so that none is lost and the rate is the forwarder's own.
//! With `--json` there is one object a line for each run and no table.
#![allow(clippy::unwrap_used, reason = "a bench fails by it")]

mod child;
mod load;
mod zmtp;

use child::Candidate;
use load::Load;

/// The bytes of a stamp without alias and split; `zmq_proxy` is given as many to carry.
const STAMP: usize = 27;

/// One line of the table: a candidate, and what each message carries.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    candidate: Candidate,
    /// Bytes of each frame that the publisher sends behind the topic.
    sent: &'static [usize],
    /// The same as received.
    received: &'static [usize],
}

const CASES: [Case; 5] = [
    Case { name: "zmq_proxy", candidate: Candidate::ZmqProxy, sent: &[128], received: &[128] },
    Case { name: "forwarder, 5556", candidate: Candidate::Backend, sent: &[128], received: &[128] },
    Case {
        name: "zmq_proxy, 27 bytes more",
        candidate: Candidate::ZmqProxy,
        sent: &[128, STAMP],
        received: &[128, STAMP],
    },
    Case { name: "forwarder, 5557", candidate: Candidate::Link, sent: &[128], received: &[128, STAMP] },
    Case {
        name: "zmq_proxy, 64 KiB writes",
        candidate: Candidate::ZmqProxyTuned,
        sent: &[128],
        received: &[128],
    },
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(candidate) = args.get(1).and_then(|word| Candidate::from_word(word)) {
        return child::run(candidate);
    }
    if !args.iter().any(|arg| arg == "--bench") {
        // `cargo test --all-targets` only wants to see it start.
        return;
    }
    let number = |flag: &str, default: u64| {
        let value = args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
        value.map_or(default, |text| text.parse().unwrap())
    };
    let (rounds, seconds) = (number("--rounds", 7), number("--seconds", 2));
    let pinned = child::pin_self();
    let json = args.iter().any(|arg| arg == "--json");
    if !json {
        println!(
            "{rounds} rounds of {seconds} s, 128-byte bodies, 4 subscribers, record-all; pinned: {pinned}"
        );
    }

    let mut results: [Vec<Load>; CASES.len()] = Default::default();
    for round in 0..rounds {
        for (case, results) in CASES.iter().zip(&mut results) {
            let process = child::Process::start(case.candidate, pinned);
            let load = load::run(&process, case.sent, case.received, seconds);
            if json {
                println!(r#"{{"server":"{}","rep":{round},{}}}"#, case.name, load.json_fields());
            } else {
                println!("{:26} {load}", case.name);
            }
            results.push(load);
        }
    }
    if !json {
        table(&results);
    }
}

/// Medians and ratios.
fn table(results: &[Vec<Load>; CASES.len()]) {
    println!();
    for (case, results) in CASES.iter().zip(results) {
        let rate = Spread::of(results.iter().map(|load| load.messages_per_s / 1e3));
        let user = Spread::of(results.iter().map(|load| load.user_us));
        let all = Spread::of(results.iter().map(|load| load.user_us + load.system_us));
        println!(
            "{:26} {rate} thousand messages/s, user {user} µs, user + system {all} µs a message",
            case.name
        );
    }
    for pair in [[0, 1], [2, 3], [4, 1]] {
        let ratio = |value: fn(&Load) -> f64| {
            let [theirs, ours] = pair.map(|case| results[case].iter());
            Spread::of(ours.zip(theirs).map(|(ours, theirs)| value(ours) / value(theirs)))
        };
        println!(
            "{} / {}: messages/s {}, CPU a message {}",
            CASES[pair[1]].name,
            CASES[pair[0]].name,
            ratio(|load| load.messages_per_s),
            ratio(|load| load.user_us + load.system_us)
        );
    }
}

/// A median with the least and the greatest value.
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, least: values[0], greatest: values[values.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.least, self.greatest)
    }
}
