//! The fuzz targets: each takes outside bytes, drives one decoder with them and asserts what must hold of its answer.

#![forbid(unsafe_code)]

mod body;
mod commands;
mod deflate;
mod follower;
mod link;
mod multipart;
mod position;
mod query;
mod websocket;
mod zws;

/// A target: its name, which is also its corpus folder's, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 11] = [
    ("websocket", websocket::run),
    ("inflate", deflate::run),
    ("json_command", commands::json),
    ("proto_command", commands::proto),
    ("position", position::run),
    ("zws", zws::run),
    ("link", link::run),
    ("body", body::run),
    ("multipart", multipart::run),
    ("query", query::run),
    ("follower", follower::run),
];

/// Runs the target of this name.
///
/// # Panics
/// Where something does not hold that must, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(own, _)| *own == name).expect("a target of this name");
    body(bytes);
}
