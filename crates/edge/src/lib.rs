//! The edge: serves browsers from ØMQ.

#![forbid(unsafe_code)]

pub mod config;
pub mod ingest;
pub mod metrics;
pub mod tally;
