//! What a URL asks for: within its bounds, or refused in words.

use trestle_hub::query::{TopicBounds, subscription, topics};
use trestle_hub::{Protocol, Role};

/// Few and short, so that short inputs reach them.
const BOUNDS: TopicBounds = TopicBounds { topics_max: 4, topic_bytes_max: 16 };

/// Words of ours beside what a client said.
const REASON_BYTES: usize = 256;

/// What stands behind a line's end, if there is one, is the `Last-Event-ID`.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (query, last_event_id) = text.split_once('\n').unzip();
    let query = query.unwrap_or(text);
    match subscription(query, last_event_id, BOUNDS) {
        Ok(wanted) => {
            assert!(!wanted.topics.is_empty(), "none is everything");
            check_topics(&wanted.topics);
            let again = subscription(&format!("&{query}&&"), last_event_id, BOUNDS);
            assert_eq!(
                again.map(|again| again.topics),
                Ok(wanted.topics),
                "nothing between two `&` is nothing"
            );
        }
        Err(why) => check_reason(&why, query),
    }
    match topics(query, Role::Subscriber, Protocol::Json, BOUNDS) {
        Ok(named) => {
            check_topics(&named);
            let all = subscription(query, None, BOUNDS).expect("an event stream has these parameters, too");
            assert!(named.is_empty() && all.topics == [b""] || all.topics == named, "both read topics alike");
        }
        Err(why) => check_reason(&why, query),
    }
}

fn check_topics(topics: &[Vec<u8>]) {
    assert!(topics.len() <= BOUNDS.topics_max, "{} topics", topics.len());
    assert!(topics.iter().all(|topic| topic.len() <= BOUNDS.topic_bytes_max), "{topics:?}");
    assert!(topics.iter().all(|topic| !trestle_messages::topic::is_reserved(topic)), "{topics:?}");
}

fn check_reason(why: &str, query: &str) {
    assert!(!why.is_empty() && why.len() <= query.len() + REASON_BYTES, "{} bytes: {why}", why.len());
}
