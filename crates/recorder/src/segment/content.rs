//! What a segment's messages are, without their encodings, in few allocations.

use trestle_messages::v1::Stamp;

use super::index::TopicIndex;

#[derive(Debug)]
pub(super) struct Record {
    /// Index of its first frame in `Content::ends`.
    pub(super) first_frame: u32,
    pub(super) stamp: Stamp,
}

/// Shared by a segment and its later self that has shed its encodings.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Box<[u8]>,
    /// End of each frame in `bytes`.
    pub(super) ends: Box<[u32]>,
    pub(super) records: Box<[Record]>,
    /// The messages' numbers, rising, where they do not follow each other one by one.
    pub(super) seqs: Option<Box<[u64]>>,
    pub(super) by_topic: TopicIndex,
}
