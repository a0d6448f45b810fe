//! What the log keeps, against models that keep everything.

mod clone;
mod flood;
mod listing;
mod model;
mod newest;
mod retention;
