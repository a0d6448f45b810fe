//! What every Trestle process does alike, so that each is written once: configuration, logs, signals, exit
//! codes, ØMQ sockets with safe settings, the private HTTP port.
//!
//! It knows nothing of messages, topics or browsers. A `main` reads: [`config::load`] → [`log::init`] →
//! `start` → [`signal::terminated`] → shut down → [`exit`].

pub mod config;
pub mod curve;
pub mod exit;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod link_token;
pub mod log;
pub mod memory;
pub mod private_http;
pub mod seldom;
pub mod signal;
pub mod source;
pub mod wake;
pub mod zmq;
