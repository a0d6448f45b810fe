//! A segment's messages by topic, for readers who want few of them.

use std::sync::OnceLock;

use super::Segment;

/// Made by the first reader that searches; most segments are read by shards alone, whole and once.
#[derive(Debug, Default)]
pub(super) struct TopicIndex(OnceLock<Box<[u32]>>);

impl TopicIndex {
    pub(super) fn matching(&self, segment: &Segment, topic: &[u8], exact: bool, out: &mut Vec<u32>) {
        let by_topic = self.0.get_or_init(|| sorted(segment));
        let topic_of = |index: &u32| segment.message(*index as usize).topic();
        let first = by_topic.partition_point(|index| topic_of(index) < topic);
        let matches =
            |index: &&u32| if exact { topic_of(index) == topic } else { topic_of(index).starts_with(topic) };
        out.extend(by_topic[first..].iter().take_while(matches));
    }
}

fn sorted(segment: &Segment) -> Box<[u32]> {
    let len = u32::try_from(segment.len()).expect("a segment has less than 2^32 messages");
    let mut by_topic: Box<[u32]> = (0..len).collect();
    by_topic.sort_by_key(|index| segment.message(*index as usize).topic());
    by_topic
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trestle_messages::v1::Stamp;

    use crate::SegmentBuilder;
    use crate::segment::EncodedBytes;

    proptest! {
        #[test]
        fn finds_what_a_look_at_each_finds(topics in proptest::collection::vec("[ab]{0,3}", 1..40),
                                           wanted in "[ab]{0,3}", exact: bool) {
            let mut builder = SegmentBuilder::default();
            for topic in &topics {
                builder.push([topic.as_bytes()], Stamp::default());
            }
            let segment = builder.build(5, EncodedBytes::default());
            let mut found = Vec::new();
            segment.matching(wanted.as_bytes(), exact, &mut found);
            found.sort_unstable();
            let matches = |topic: &String| if exact { *topic == wanted } else { topic.starts_with(&wanted) };
            let expected = (0..).zip(&topics).filter(|(_, topic)| matches(topic)).map(|(index, _)| index);
            prop_assert_eq!(found, expected.collect::<Vec<u32>>());
            prop_assert_eq!(segment.end_seq() - segment.first_seq(), topics.len() as u64);
        }
    }
}
