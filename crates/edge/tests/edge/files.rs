//! The page, its files, and what is neither.

use crate::fixture::TestEdge;
use crate::http::Request;

fn edge() -> TestEdge {
    TestEdge::start("--source tcp://127.0.0.1:1")
}

#[test]
fn the_page_may_load_nothing_from_elsewhere() {
    let answer = Request::get("/").to(edge().address());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert!(answer.text().to_ascii_lowercase().starts_with("<!doctype html>"));
}

#[test]
fn the_client_module_is_javascript() {
    let answer = Request::get("/client.js").to(edge().address());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    assert!(answer.text().contains("export"));
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("*"),
        "for pages of one's own, from anywhere"
    );
}

#[test]
fn a_file_that_is_known_is_not_sent_again() {
    let edge = edge();
    let first = Request::get("/client.js").to(edge.address());
    let etag = first.header("etag").unwrap();
    for known in [etag.to_owned(), format!("\"other\", {etag}"), format!("W/{etag}"), "*".to_owned()] {
        let again = Request::get("/client.js").with("If-None-Match", &known).to(edge.address());
        assert_eq!((again.status, again.body.len()), (304, 0), "{known}");
        assert_eq!(again.header("etag"), Some(etag), "RFC 9110 §15.4.5");
    }
    let stale = Request::get("/client.js").with("If-None-Match", "\"other\"").to(edge.address());
    assert_eq!((stale.status, stale.body), (200, first.body));
}

#[test]
fn a_head_has_no_body() {
    let edge = edge();
    let mut head = Request::new("HEAD", "/").with("Connection", "close");
    let length = Request::get("/").to(edge.address()).body.len();
    use std::io::{Read as _, Write as _};
    let mut stream = crate::http::connect(edge.address());
    stream.write_all(&head.bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(text.contains(&format!("content-length: {length}\r\n")), "{text}");
    head = Request::new("HEAD", "/nothing").with("Connection", "close");
    let mut stream = crate::http::connect(edge.address());
    stream.write_all(&head.bytes()).unwrap();
    text.clear();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 404 "), "{text}");
}

#[test]
fn what_is_not_there_is_not_found_and_other_methods_are_not_allowed() {
    let edge = edge();
    for path in ["/nothing", "/ws/more", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/package.json"] {
        assert_eq!(Request::get(path).to(edge.address()).status, 404, "{path}");
    }
    for path in ["/", "/ws", "/client.js", "/nothing"] {
        let answer = Request::new("POST", path).with("Content-Length", "0").to(edge.address());
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    let answer = Request::get("/publish?topic=chat/1").to(edge.address());
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}
