//! A load generator for bridges from ØMQ to browsers: many WebSocket clients, a publisher, and what was measured.

#![forbid(unsafe_code)]

pub mod report;
