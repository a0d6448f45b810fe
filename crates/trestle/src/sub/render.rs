//! Events as lines: text for people, JSON for programs. Whatever a publisher sends, one event is one line and no control
//! character reaches a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::wire::{Event, Progress};

/// `TOPIC BODY`, without the line's end; only one of them where the other is not there or empty.
///
/// A topic that is empty, has white space or begins like something else here is quoted as JSON quotes it; one that is not
/// UTF-8 is `base64:…`. Several frames are parted by ` | `.
pub(super) fn line(event: &Event<'_>) -> String {
    let mut line = match (&event.topic, &event.topic_base64) {
        (Some(topic), _) => word(topic),
        (None, Some(base64)) => format!("base64:{base64}"),
        (None, None) => String::new(),
    };
    let mut rest = String::new();
    body(event, &mut rest);
    for (is_there, words) in [(event.snapshot, "(snapshot)"), (!rest.is_empty(), &*rest)] {
        if is_there {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(words);
        }
    }
    line
}

/// Valid JSON on one line and else byte for byte: line breaks, which only stand between its tokens, go with the white
/// space behind them.
pub(super) fn one_line(json: &str) -> Cow<'_, str> {
    if !json.contains(['\n', '\r']) {
        return Cow::Borrowed(json);
    }
    let mut lines = json.split(['\n', '\r']);
    let mut line = lines.next().unwrap_or_default().to_owned();
    lines.for_each(|next| line.push_str(next.trim_start_matches([' ', '\t'])));
    Cow::Owned(line)
}

/// What a subscription missed and is not sent, in the form of the edge's `lost`.
pub(super) fn unrecovered(topic: &[u8], reason: &str, from: &str, position: Option<&str>) -> String {
    let mut lost = match std::str::from_utf8(topic) {
        Ok(topic) => json!({ "topics": [topic] }),
        Err(_) => json!({ "topics_base64": [STANDARD.encode(topic)] }),
    };
    lost["from"] = from.into();
    if let Some(position) = position {
        lost["position"] = position.into();
    }
    lost["cause"] = reason.into();
    json!({ "lost": lost }).to_string()
}

/// A topic as one word.
pub(super) fn word(topic: &str) -> String {
    let is_plain = |char: char| !char.is_whitespace() && !char.is_control();
    let looks_otherwise = topic.is_empty() || topic.starts_with(['"', '(']) || topic.starts_with("base64:");
    if !looks_otherwise && topic.chars().all(is_plain) {
        return topic.to_owned();
    }
    let mut word = String::from('"');
    for char in topic.chars() {
        if matches!(char, '"' | '\\') {
            word.push('\\');
        }
        escaped(char, &mut word);
    }
    word.push('"');
    word
}

fn body(event: &Event<'_>, out: &mut String) {
    if let Some(data) = event.data {
        write_json(data.get(), out);
    } else if let Some(text) = &event.text {
        text.chars().for_each(|char| escaped(char, out));
    } else if let Some(base64) = &event.base64 {
        write!(out, "base64:{base64}").expect("a String takes everything");
    } else if let Some(parts) = &event.parts {
        for (at, part) in parts.iter().enumerate() {
            out.push_str(if at > 0 { " | " } else { "" });
            body(part, out);
        }
    } else if let Some(progress) = &event.progress {
        self::progress(progress, out);
    } else if let Some(status) = &event.status {
        write_json(status.gauges.get(), out);
    }
}

/// JSON allows DEL and C1 in strings, and some terminals obey them. A tab stands only between tokens.
fn write_json(json: &str, out: &mut String) {
    for char in one_line(json).chars() {
        match char.is_control() && char != '\t' {
            true => write!(out, "\\u{:04x}", u32::from(char)).expect("a String takes everything"),
            false => out.push(char),
        }
    }
}

/// `running 45/100 files build-7`.
fn progress(progress: &Progress, out: &mut String) {
    let Progress { job, done, total, unit, state } = progress;
    let number = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let words = [state.clone(), format!("{}/{}", number(done), number(total)), unit.clone(), job.clone()];
    let words = words.iter().filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        out.push_str(if at > 0 { " " } else { "" });
        word.chars().for_each(|char| escaped(char, out));
    }
}

fn escaped(char: char, out: &mut String) {
    match char {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // Some programs and terminals end a line at these, too.
        '\u{2028}' | '\u{2029}' => {
            write!(out, "\\u{:04x}", u32::from(char)).expect("a String takes everything")
        }
        char if char.is_control() => {
            write!(out, "\\u{:04x}", u32::from(char)).expect("a String takes everything");
        }
        char => out.push(char),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn text(json: &str) -> String {
        line(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn every_kind_of_event() {
        for (json, expected) in [
            (
                r#"{"topic":"jobs/42","position":"x","time_ms":1,"data":{"a": [1,2]}}"#,
                r#"jobs/42 {"a": [1,2]}"#,
            ),
            ("{\"topic\":\"a\",\"data\":{\n  \"b\": \"c\\n\"\r\n}}", r#"a {"b": "c\n"}"#),
            (r#"{"topic":"a","data":null}"#, "a null"),
            (r#"{"topic":"a","text":"two\nlines\tand\r"}"#, r"a two\nlines\tand\r"),
            (r#"{"topic":"a","text":""}"#, "a"),
            (r#"{"topic":"a","base64":"AAE="}"#, "a base64:AAE="),
            (
                r#"{"topic":"a","parts":[{"text":"x"},{"data":[1]},{"base64":"/w=="}]}"#,
                "a x | [1] | base64:/w==",
            ),
            (
                r#"{"topic":"a","progress":{"job":"build-7","done":45,"total":"100","unit":"files","state":"running"}}"#,
                "a running 45/100 files build-7",
            ),
            (r#"{"topic":"a","status":{"gauges":{"cpu":0.5,"b":2}}}"#, r#"a {"cpu":0.5,"b":2}"#),
            (r#"{"topic":"a","snapshot":true,"text":"x"}"#, "a (snapshot) x"),
            (r#"{"text":"no topic of its own"}"#, "no topic of its own"),
            (r#"{"topic_base64":"/w==","text":"x"}"#, "base64:/w== x"),
            (r#"{"topic":"","text":"x"}"#, r#""" x"#),
            (r#"{"topic":"two words","text":"x"}"#, r#""two words" x"#),
            (r#"{"topic":"\"(\\","text":"x"}"#, r#""\"(\\" x"#),
            (r#"{"topic":"a","of_a_later_release":1}"#, "a"),
        ] {
            assert_eq!(text(json), expected, "{json}");
        }
    }

    /// Text of a publisher could move the cursor, rename the window or type.
    #[test]
    fn no_control_character_reaches_the_terminal() {
        for json in [
            r#"{"topic":"a\u001b[2J","text":"\u001b]0;x\u0007\u009b"}"#,
            "{\"topic\":\"a\",\"data\":{\"\u{9b}2J\":\"\u{7f}\"}}",
            r#"{"topic":"a","progress":{"job":"\u001b","done":1,"total":1,"unit":"\u0000","state":"\n"}}"#,
        ] {
            assert!(!text(json).contains(char::is_control), "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_texts_are_one_line(topic in any::<String>(), body in any::<String>()) {
            let json = serde_json::json!({ "topic": topic, "text": body }).to_string();
            let breaks = |char: char| char.is_control() || char == '\u{2028}';
            prop_assert!(!text(&json).contains(breaks));
        }

        #[test]
        fn pretty_json_on_one_line_says_the_same(body in any::<String>(), numbers in prop::collection::vec(any::<i32>(), 0..5)) {
            let value = serde_json::json!({ "a": [body, numbers], "b": {} });
            for pretty in [serde_json::to_string_pretty(&value).unwrap(), value.to_string().replace(':', ":\r\n\t")] {
                let Ok(expected) = serde_json::from_str::<Value>(&pretty) else { continue };
                let line = one_line(&pretty);
                prop_assert!(!line.contains(['\n', '\r']));
                prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
            }
        }
    }
}
