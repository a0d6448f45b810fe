//! The forwarder over loopback, on free ports.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod binary;
mod curve;
mod data;
mod fixture;
mod frames;
mod grpc;
mod interest;
mod limits;
mod link;
mod publish;
mod replay;
