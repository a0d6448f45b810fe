//! What the log keeps, against models that keep everything.

mod newest;
