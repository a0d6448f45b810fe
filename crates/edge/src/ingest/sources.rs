//! What comes from publishers directly: messages to be named and stamped here.

use std::ops::Deref;

use trestle_messages::{Position, topic};
use trestle_recorder::{Entered, Intake, RecordRules, Sequences, SplitRule, Stamper};

use super::writer::Writer;

/// Stands in for a forwarder: alias, split and stamp act here.
#[derive(Debug)]
pub(super) struct Sources {
    intake: Intake,
    stamper: Stamper,
    sequences: Sequences,
}

impl Sources {
    /// Begins `epoch`, which is not 0.
    pub(super) fn new(epoch: u64, splits: Vec<SplitRule>, rules: RecordRules, sequences: Sequences) -> Self {
        Self { intake: Intake::new(splits), stamper: Stamper::new(epoch, rules), sequences }
    }

    /// Takes one message with at least one frame that came in at `now` (Unix nanoseconds) from the `source`th source, which
    /// has this alias.
    pub(super) fn take<F: Deref<Target = [u8]>>(
        &mut self,
        frames: &[F],
        (source, alias): (usize, Option<&[u8]>),
        now: u64,
        writer: &mut Writer,
    ) {
        let all = || frames.iter().map(|frame| &frame[..]);
        let (named, body_start) = match self.intake.enter(alias.is_some(), &frames[0], frames.len()) {
            Entered::AsSent => (None, 0),
            Entered::Aliased => (alias, 0),
            Entered::Split { topic, body_start } => (Some(&frames[0][topic]), body_start),
        };
        let topic = named.unwrap_or(&frames[0]);
        if topic::is_reserved(topic) {
            writer.upstream.reserved.add(1);
            return;
        }
        let mut stamp = self.stamper.stamp(topic, now);
        // What is not recorded is fetched on demand: there a counter that leaps may only mean that nobody listened.
        if stamp.offset != 0 && self.sequences.follows(topic) {
            let last = frames.last().expect("a message has a frame");
            writer.upstream.unsent.add(self.sequences.see(source, topic, last).into());
        }
        if let Some(topic) = named {
            stamp.original_frames = true;
            stamp.body_start = u32::try_from(body_start).expect("a frame is below 4 GiB by configuration");
            writer.push(std::iter::once(topic).chain(all()), stamp);
        } else {
            writer.push(all(), stamp);
        }
    }

    /// Epoch and newest offset given out.
    pub(super) fn position(&self) -> Position {
        Position { epoch: self.stamper.epoch(), offset: self.stamper.head() }
    }

    /// What is recorded.
    pub(super) fn rules(&self) -> &RecordRules {
        self.stamper.rules()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trestle_recorder::{Log, RecordRule};

    use super::*;
    use crate::ingest::Upstream;

    type Routed = (String, Vec<String>, Vec<String>, u64);

    /// Topic, body, frames as sent and offset of each message that gets through.
    fn routed(messages: &[(Option<&str>, &[&str])]) -> (Vec<Routed>, u64) {
        let rules = RecordRules::from_iter([RecordRule::new("1"), RecordRule::new("eddn")]);
        let splits = vec!["=\\x20".parse().unwrap()];
        let mut sources = Sources::new(7, splits, rules, Sequences::default());
        let (log, upstream) = (Arc::new(Log::new(1 << 20)), Arc::new(Upstream::default()));
        let mut cursor = log.cursor();
        let mut writer = Writer::new(Arc::clone(&log), Vec::new(), Arc::clone(&upstream));
        for (alias, frames) in messages {
            let frames: Vec<&[u8]> = frames.iter().map(|frame| frame.as_bytes()).collect();
            sources.take(&frames, (0, alias.map(str::as_bytes)), 5, &mut writer);
        }
        writer.flush();
        let mut segments = Vec::new();
        log.read(&mut cursor, &mut segments).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let routed = segments.iter().flat_map(|segment| segment.messages()).map(|message| {
            let original = message.original_frames().map(text).collect();
            let offset = message.position().map_or(0, |position| position.offset);
            (text(message.topic()), message.body().map(text).collect(), original, offset)
        });
        (routed.collect(), upstream.reserved.value())
    }

    #[test]
    fn alias_and_split_name_what_has_no_topic() {
        let (routed, reserved) = routed(&[
            (None, &["10001", "multi part"]),
            (None, &["10001 23 45"]),
            (None, &["nodelimiter"]),
            (Some("eddn"), &["zlib bytes"]),
            (Some("eddn"), &["a", "b c"]),
            (None, &["\0trestle", "x"]),
            (None, &["\0trestle x"]),
        ]);
        let expect = |topic: &str, body: &[&str], original: &[&str], offset: u64| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            (topic.to_owned(), own(body), own(original), offset)
        };
        assert_eq!(
            routed,
            [
                expect("10001", &["multi part"], &["10001", "multi part"], 1),
                expect("10001", &["23 45"], &["10001 23 45"], 2),
                expect("nodelimiter", &["nodelimiter"], &["nodelimiter"], 0),
                expect("eddn", &["zlib bytes"], &["zlib bytes"], 3),
                expect("eddn", &["a", "b c"], &["a", "b c"], 4),
            ]
        );
        assert_eq!(reserved, 2);
    }
}
