//! A granted request for server-sent events, on its way to the shard.

use std::sync::Arc;

use trestle_hub::Grant;
use trestle_hub::encode::Subscribe;

use crate::limits::Guest;

/// A request that is granted, in the extensions of its response: the shard puts the stream in place of the body, which
/// cannot go from one thread to another as warp's bodies can.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) wanted: Subscribe,
    pub(crate) guest: Guest,
    pub(crate) grant: Arc<Grant>,
}
