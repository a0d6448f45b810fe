//! What is said on standard error, a line each.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::comeback::End;
use super::render::word;
use super::wire::{Goodbye, Lost};

/// More topics than this are counted, not named.
const TOPICS_MAX: usize = 5;

pub(super) fn connected<'a>(url: &str, topics: impl Iterator<Item = &'a [u8]>) -> String {
    format!("connected to {url}, subscribed to {}", names(topics))
}

pub(super) fn recovered(topic: &[u8], replayed: u64) -> String {
    match replayed {
        0 => format!("{}: caught up, nothing had come meanwhile", name(topic)),
        1 => format!("{}: caught up, the message above had come meanwhile", name(topic)),
        replayed => {
            format!("{}: caught up, the {replayed} messages above had come meanwhile", name(topic))
        }
    }
}

pub(super) fn unrecovered(topic: &[u8], reason: &str, from: &str) -> String {
    let why = match reason {
        "history_truncated" => "part of it is no longer kept",
        "epoch_changed" => "the sequence was begun anew",
        "not_recorded" => "it is not recorded",
        "unknown_position" => "nobody here gave that position out",
        _ => "the edge does not say why",
    };
    format!("{}: LOST what came since {from}: {why} ({})", name(topic), clean(reason))
}

pub(super) fn lost(lost: &Lost) -> String {
    let n = match (lost.count, lost.at_most) {
        (Some(1), _) => "1 message".to_owned(),
        (Some(count), _) => format!("{count} messages"),
        (None, Some(at_most)) => format!("at most {at_most} messages"),
        (None, None) => "messages, nobody knows how many".to_owned(),
    };
    let why = match &*lost.cause {
        "slow_consumer" => "they were not read as fast as they came",
        "link_hole" => "they did not arrive at the edge",
        "epoch_changed" => "the sequence was begun anew",
        "shard_overrun" => "the edge was too slow for them",
        _ => "the edge says no more",
    };
    let topics = lost.topics();
    let topics = names(topics.iter().map(Vec::as_slice));
    format!("{topics}: LOST {n}: {why} ({})", clean(&lost.cause))
}

pub(super) fn stale(stale: bool) -> &'static str {
    match stale {
        true => "stale: the edge hears nothing from upstream, so that nothing new comes; still connected",
        false => "no longer stale: the edge hears from upstream again",
    }
}

pub(super) fn goodbye(goodbye: &Goodbye) -> String {
    let why = match &*goodbye.reason {
        "restarting" => "it restarts",
        "draining" => "it hands its clients to others",
        "token_expired" => "the token has expired",
        "disconnected" => "its operator ends this session",
        _ => "it does not say why",
    };
    let after = goodbye.reconnect_after_ms.map(|ms| format!(" in {}", seconds(Duration::from_millis(ms))));
    format!(
        "the edge will close the connection{}: {why} ({})",
        after.unwrap_or_default(),
        clean(&goodbye.reason)
    )
}

pub(super) fn refused(topic: &[u8], code: &str, reason: &str, wait: Duration) -> String {
    let wait = seconds(wait);
    format!("{}: not subscribed ({}: {}); asking again in {wait}", name(topic), clean(code), clean(reason))
}

pub(super) fn refused_for_good(topic: &[u8], code: &str, reason: &str) -> String {
    format!("{}: the edge refuses: {}: {}", name(topic), clean(code), clean(reason))
}

pub(super) fn reconnecting(end: &End, wait: Duration) -> String {
    let when = if wait.is_zero() { "at once".to_owned() } else { format!("in {}", seconds(wait)) };
    format!("{}; reconnecting {when}", ended(end))
}

/// Why a connection ended or none came to be.
pub(super) fn ended(end: &End) -> String {
    match end {
        End::Broken(why) | End::Wrong(why) => why.clone(),
        End::Refused { status, why, .. } if why.is_empty() => format!("refused with HTTP {status}"),
        End::Refused { status, why, .. } => format!("refused with HTTP {status}: {}", clean(why)),
        End::Closed { code: 1005, .. } => "closed by the server without a code".to_owned(),
        End::Closed { code, reason } if reason.is_empty() => format!("closed by the server with {code}"),
        End::Closed { code, reason } => format!("closed by the server with {code} {}", clean(reason)),
    }
}

/// The last word.
pub(super) fn done(events: u64, resume: Option<&str>) -> String {
    let events = if events == 1 { "1 event".to_owned() } else { format!("{events} events") };
    match resume {
        Some(resume) => format!("{events}; to go on from here: --since {}", clean(resume)),
        None => events,
    }
}

fn names<'a>(topics: impl Iterator<Item = &'a [u8]>) -> String {
    let mut names: Vec<_> = topics.map(name).collect();
    let more = names.len().saturating_sub(TOPICS_MAX);
    if more > 1 {
        names.truncate(TOPICS_MAX);
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

fn name(topic: &[u8]) -> String {
    match std::str::from_utf8(topic) {
        Ok("") => "everything".to_owned(),
        Ok(topic) => word(topic),
        Err(_) => format!("base64:{}", STANDARD.encode(topic)),
    }
}

/// What a server says is for people; it must not command their terminal.
pub(super) fn clean(text: &str) -> String {
    text.trim().chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_name_topics_count_and_cause() {
        for (json, expected) in [
            (
                r#"{"topics":["jobs/"],"cause":"slow_consumer","count":17}"#,
                "jobs/: LOST 17 messages: they were not read as fast as they came (slow_consumer)",
            ),
            (
                r#"{"topics":[""],"topics_base64":["/w=="],"cause":"link_hole","at_most":3}"#,
                "everything, base64:/w==: LOST at most 3 messages: they did not arrive at the edge (link_hole)",
            ),
            (
                r#"{"topics":["a"],"cause":"epoch_changed"}"#,
                "a: LOST messages, nobody knows how many: the sequence was begun anew (epoch_changed)",
            ),
            (
                r#"{"topics":["a","b","c","d","e","f","g"],"cause":"new\u001b","count":1}"#,
                "a, b, c, d, e, 2 more: LOST 1 message: the edge says no more (new )",
            ),
        ] {
            assert_eq!(lost(&serde_json::from_str(json).unwrap()), expected);
        }
    }

    #[test]
    fn a_server_s_words_are_one_line() {
        let end = End::Refused { status: 503, why: "not\nready\u{1b}[2J\n".to_owned(), retry_after: None };
        assert_eq!(ended(&end), "refused with HTTP 503: not ready [2J");
        let end = End::Closed { code: 4503, reason: "\u{7}".to_owned() };
        assert_eq!(ended(&end), "closed by the server with 4503  ");
    }
}
