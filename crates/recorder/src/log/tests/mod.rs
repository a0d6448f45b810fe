//! What the log keeps, against models that keep everything.

mod clone;
mod flood;
mod model;
mod newest;
mod retention;
