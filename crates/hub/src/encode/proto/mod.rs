//! `trestle.v1.proto`: the messages of `proto/trestle/v1/client.proto`, each in a binary frame.

mod command;
mod event;
mod reply;
mod wire;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod event_tests;
#[cfg(test)]
mod examples;
#[cfg(test)]
pub(crate) mod twin;

pub use command::parse;
pub(super) use event::frame;
pub(super) use reply::server_message;
