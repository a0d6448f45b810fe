//! The edge: serves browsers from ØMQ.

#![forbid(unsafe_code)]

pub mod assets;
pub mod config;
pub mod control;
pub mod ingest;
pub mod metrics;
pub mod tally;
