//! The recorded sequence and the two ends of the link that carries it, without a socket or a clock.
//!
//! - [`Log`] holds the newest messages as immutable [`Segment`]s; each reader has a [`Cursor`].
//! - [`Stamper`] numbers messages where they enter, by the [`RecordRules`]; [`Intake`] names those without a topic.
//! - [`Follower`] reads stamps, beats and replays at the other end: what goes into the log there, by a [`LogWriter`], and what
//!   is to be asked for, which the other end answers with [`ReplayBatches`].
//! - [`Sequences`] follows publishers' own counters: what was lost before it came here.
//! - [`Interest`] counts which prefixes are wanted, for what goes up.
//!
//! `now` is an argument everywhere, so that a test or a simulation owns time.
//!
//! ```
//! use trestle_recorder::{Log, SegmentBuilder, Stamper, RecordRules};
//!
//! let mut stamper = Stamper::new(7, RecordRules::everything());
//! let log = Log::new(1 << 20);
//! let mut cursor = log.cursor();
//! let mut batch = SegmentBuilder::default();
//! let stamp = stamper.stamp(b"jobs/42", 1_000);
//! batch.push([&b"jobs/42"[..], b"hi"], stamp);
//! log.append(&mut batch);
//!
//! let mut segments = Vec::new();
//! log.read(&mut cursor, &mut segments).unwrap();
//! let message = segments[0].message(0);
//! assert_eq!((message.topic(), message.position().unwrap().offset), (&b"jobs/42"[..], 1));
//! ```

#![forbid(unsafe_code)]

mod batches;
mod follower;
mod intake;
mod interest;
mod keys;
mod log;
mod rule;
mod segment;
mod sequence;
mod stamper;
mod writer;

pub use batches::ReplayBatches;
pub use follower::{
    Action, Ask, BEAT_INTERVAL, BEATS_MISSED_MAX, Batch, Follower, FollowerCounts, Kept, Passing,
};
pub use intake::{Entered, Intake, SplitRule, SplitRuleError};
pub use interest::Interest;
pub use keys::{Fingerprint, First, KEYS_MAX, Keys, Known, REPEAT_MAX};
pub use log::{Bounds, Cursor, Listed, Log, NotHere, Overrun, Replay, RingStarts};
pub use rule::{RecordRule, RecordRuleError, RecordRules};
pub use segment::{Frames, Gap, Message, Segment, SegmentBuilder, Slot};
pub use sequence::Sequences;
pub use stamper::Stamper;
pub use writer::{Errand, LogWriter, Written};
