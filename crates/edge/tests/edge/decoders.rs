//! Decoded bodies, as docs/decoders.md shows them.

use std::path::PathBuf;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Client, Said};
use crate::events::Stream;
use crate::fixture::{Feed, TestEdge};
use crate::http::Request;
use crate::program::{FREE_PORTS, NOBODY, program};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/decoders.md");
    std::fs::read_to_string(path).unwrap()
}

/// A file of settings, gone at the end.
struct Settings(tempfile::NamedTempFile);

impl Settings {
    fn new(toml: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        Self(file)
    }

    fn of_page() -> Self {
        let page = page();
        let (_, rest) = page.split_once("```toml\n").expect("the page has settings");
        let settings = rest.split_once("```").unwrap().0;
        let set = concat!(env!("CARGO_MANIFEST_DIR"), "/../hub/src/decode/fixtures/readings.pb");
        assert!(settings.contains("/etc/trestle/readings.pb"));
        Self::new(&settings.replace("/etc/trestle/readings.pb", set))
    }

    fn flag(&self) -> String {
        format!("--config {}", self.0.path().display())
    }
}

/// Topic, body, and what is shown of it.
fn samples() -> Vec<(String, Vec<u8>, Value)> {
    let page = page();
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [topic, body, shown] = cells[..] else { return None };
        let [topic, body, shown] = [topic, body, shown].map(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
        let body = STANDARD.decode(body?).ok()?;
        let shown =
            serde_json::from_str(&format!("{{{}}}", shown?)).expect("what is shown are fields of JSON");
        Some((topic?.to_owned(), body, shown))
    });
    rows.collect()
}

/// An event without what every message has.
fn body_of(mut event: Value) -> Value {
    let fields = event.as_object_mut().unwrap();
    for name in ["topic", "position", "time_ms"] {
        fields.remove(name);
    }
    event
}

#[test]
fn the_samples_of_the_page_are_what_clients_see() {
    let (feed, settings) = (Feed::bound(), Settings::of_page());
    let edge = TestEdge::on(&feed, &settings.flag());
    let mut clients = [0; 4].map(|_| Client::json(&edge, "/ws?topic="));
    let mut stream = Stream::open(edge.address(), &Request::get("/events?topic="));
    stream.named("reply");
    stream.named("caught_up");
    let mut raw = Client::raw(&edge, "/?topic=");
    let samples = samples();
    assert!(samples.len() >= 16, "{samples:?}");
    let n_undecoded = samples.iter().filter(|(_, _, shown)| shown.get("undecoded").is_some()).count() as u64;
    for (topic, body, shown) in &samples {
        feed.send(&[topic.as_bytes(), body]);
        for client in &mut clients {
            assert_eq!(body_of(client.event()), *shown, "{topic}");
        }
        assert_eq!(body_of(stream.message().0), *shown, "{topic}");
        let as_it_came = match String::from_utf8(body.clone()) {
            Ok(text) => Said::Text(text),
            Err(_) => Said::Binary(body.clone()),
        };
        assert_eq!(raw.next(), as_it_came, "{topic}");
    }
    let undecoded: u64 = ["json", "text", "binary", "event", "protobuf", "msgpack", "cbor"]
        .into_iter()
        .flat_map(|body| ["compression", "malformed"].map(|cause| (body, cause)))
        .map(|(body, cause)| {
            edge.metric(&format!("undecoded_bodies_total{{body=\"{body}\",cause=\"{cause}\"}}"))
        })
        .sum();
    assert_eq!(undecoded, n_undecoded, "once for all clients and formats");
}

#[test]
fn what_comes_again_is_not_decoded_again_and_what_nobody_sees_not_at_all() {
    let feed = Feed::bound();
    let settings = Settings::new("[[decoder]]\nprefix = 'a'\nbody = 'json'");
    let edge = TestEdge::on(&feed, &settings.flag());
    let decoded = || edge.metric("decoded_bodies_total{body=\"json\"}");
    let mut raw = Client::raw(&edge, "/?topic=a");
    let mut live = Client::json(&edge, "/ws?topic=b");
    feed.send(&["b", "x"]);
    let since = live.event()["position"].take();
    for n in 0..10 {
        feed.send(&["a".to_owned(), n.to_string()]);
    }
    for n in 0..10 {
        assert_eq!(raw.next(), Said::Text(n.to_string()));
    }
    assert_eq!(decoded(), 0);

    let shown = |subscribe: Value| {
        let mut later = Client::json(&edge, "/ws");
        later.say(&json!({"id": 1, "subscribe": subscribe}));
        let messages =
            std::iter::from_fn(|| Some(later.json_message()).filter(|said| said.get("caught_up").is_none()));
        messages.filter_map(|mut said| Some(said.get_mut("event")?["data"].take())).collect::<Vec<_>>()
    };
    assert_eq!(shown(json!({"topics": ["a"], "snapshot": true})), [json!(9)]);
    assert_eq!(decoded(), 1);
    for _ in 0..3 {
        let all = shown(json!({"topics": ["a"], "since": since}));
        assert_eq!(all, (0..10).map(|n| json!(n)).collect::<Vec<_>>());
        assert_eq!(decoded(), 10);
    }
}

fn refused(settings: &Settings) -> String {
    let mut command = program();
    let path: PathBuf = settings.0.path().into();
    let Output { status, stderr, .. } =
        command.args(FREE_PORTS).arg(NOBODY).arg("--config").arg(&path).output().unwrap();
    assert_eq!(status.code(), Some(64));
    String::from_utf8(stderr).unwrap().replace(&path.display().to_string(), "edge.toml")
}

#[test]
fn a_wrong_table_ends_the_edge_before_it_begins() {
    let toml = "[[decoder]]\nprefix = 'a'\nbody = 'yaml'";
    let said = refused(&Settings::new(toml));
    assert!(
        said.contains("table 1 of `decoder` in edge.toml: ") && said.contains("unknown variant `yaml`"),
        "{said}"
    );
    let toml = "[[decoder]]\nprefix = 'a'\nbody = 'json'\n[[decoder]]\nprefix = 'a'\nbody = 'text'";
    let said = refused(&Settings::new(toml));
    assert!(
        said.contains("table 2 of `decoder` in edge.toml: the prefix `a` has a decoder already"),
        "{said}"
    );
}
