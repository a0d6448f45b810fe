//! The load generator against servers that fail on purpose: each failure is reported, exactly.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod faults;
mod publishers;
mod refusals;
mod schedule;
mod server;
mod storm;
mod zeromq;

use clap::Parser as _;
use trestle_bench::Bench;
use trestle_bench::report::{Delivery, Report, Run};

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    bench: Bench,
}

/// The flags that these words are, parted by spaces.
fn flags(line: &str) -> Bench {
    Flags::parse_from(std::iter::once("bench").chain(line.split_whitespace())).bench
}

/// Measures by the flags in `line`.
fn measure(line: &str) -> Report {
    trestle_bench::measure(&flags(line)).unwrap()
}

/// The only run of a report.
fn only(report: &Report) -> &Run {
    assert_eq!(report.runs.len(), 1);
    &report.runs[0]
}

/// What the only run delivered.
fn delivery(report: &Report) -> &Delivery {
    only(report).delivery.as_ref().unwrap()
}
