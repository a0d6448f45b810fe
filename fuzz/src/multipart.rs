//! Messages as any publisher sends them, from alias and split to every format: no byte of them is lost or made up.

use std::sync::OnceLock;

use trestle_hub::decode::Decoders;
use trestle_hub::encode::{Format, frame, snapshot_frame};
use trestle_messages::topic;
use trestle_recorder::{Entered, Intake, Log, RecordRule, RecordRules, SegmentBuilder, SplitRule, Stamper};

/// Frames of a message, of which real ones have a few.
const FRAMES_MAX: usize = 16;

/// The first byte says whether the source has an alias; what follows are frames, each behind a byte that is its length.
pub(crate) fn run(bytes: &[u8]) {
    let Some((&mode, mut rest)) = bytes.split_first() else { return };
    let mut frames = Vec::new();
    while let Some((&len, behind)) = rest.split_first()
        && frames.len() < FRAMES_MAX
    {
        let (frame, behind) = behind.split_at(usize::from(len).min(behind.len()));
        frames.push(frame);
        rest = behind;
    }
    if !frames.is_empty() {
        enter(mode & 1 != 0, &frames);
    }
}

/// As where a message enters: named, stamped, recorded, shown.
fn enter(is_aliased: bool, frames: &[&[u8]]) {
    let (named, body_start) = match intake().enter(is_aliased, frames[0], frames.len()) {
        Entered::AsSent => (None, 0),
        Entered::Aliased => (Some(&b"alias"[..]), 0),
        Entered::Split { topic, body_start } => {
            assert_eq!(topic.start, 0, "a topic begins its frame");
            assert!(topic.end < body_start && body_start <= frames[0].len(), "a delimiter stands between");
            (Some(&frames[0][topic]), body_start)
        }
    };
    let topic = named.unwrap_or(frames[0]);
    if topic::is_reserved(topic) {
        return;
    }
    let mut stamp = Stamper::new(7, RecordRules::from_iter([RecordRule::new("")])).stamp(topic, 1);
    let mut batch = SegmentBuilder::default();
    if named.is_some() {
        stamp.original_frames = true;
        stamp.body_start = u32::try_from(body_start).expect("short");
        batch.push(std::iter::once(topic).chain(frames.iter().copied()), stamp);
    } else {
        batch.push(frames.iter().copied(), stamp);
    }
    let log = Log::new(0);
    let (mut cursor, mut segments) = (log.cursor(), Vec::new());
    log.append(&mut batch);
    log.read(&mut cursor, &mut segments).expect("the log holds one message");
    let message = segments[0].message(0);
    assert_eq!(message.topic(), topic);
    assert!(message.original_frames().eq(frames.iter().copied()), "alias and split are undone");
    let body: Vec<u8> = message.body().flatten().copied().collect();
    let sent = frames.concat();
    assert!(sent.ends_with(&body), "the body is what is behind the topic");
    let no_decoders = Decoders::default();
    for format in Format::ALL {
        let shown = frame(&message, format, &no_decoders);
        assert!(!shown.is_empty(), "{format:?}");
        assert!(!snapshot_frame(&message, format, &no_decoders).is_empty(), "{format:?}");
        if format == Format::Zws {
            assert!(frames.iter().all(|frame| contains(shown, frame)), "each frame as it came");
        }
    }
    let mut json = Vec::new();
    trestle_hub::encode::event(&message, &no_decoders, false, &mut json);
    let json = String::from_utf8(json).expect("JSON is UTF-8");
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&json) {
        panic!("{error}: {json}");
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

fn intake() -> &'static Intake {
    static INTAKE: OnceLock<Intake> = OnceLock::new();
    INTAKE.get_or_init(|| {
        let rules = ["=\\x20", "salt/=\\n\\n"].map(|rule| rule.parse::<SplitRule>().expect("a rule"));
        Intake::new(rules.to_vec())
    })
}
