//! What the log keeps, against models that keep everything.

mod model;
mod newest;
mod retention;
