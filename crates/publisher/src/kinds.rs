//! What can be published, a file each: two kinds of demo events, two sources of a tool's bodies.

pub(crate) mod host;
pub(crate) mod jobs;
pub(crate) mod load;
pub(crate) mod stdin;
