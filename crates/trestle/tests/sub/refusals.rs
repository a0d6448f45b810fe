//! What ends it for good: its exit code, and what it says.

use std::io::Write as _;

use serde_json::json;

use crate::fake::Fake;
use crate::program::{Sub, command};

/// Exit code and the last line of standard error.
fn last(sub: Sub) -> (i32, String) {
    let (code, out, err) = sub.end();
    assert_eq!(out, Vec::<String>::new(), "{err:?}");
    (code, err.last().unwrap().clone())
}

#[test]
fn wrong_flags_exit_with_64() {
    for (line, named) in [
        ("ftp://127.0.0.1", "ftp://127.0.0.1: unknown scheme ftp://"),
        ("tcp://127.0.0.1:5556", "a ØMQ endpoint"),
        ("127.0.0.1:8080", "write ws://127.0.0.1:8080"),
        ("--since yesterday", "--since"),
        ("--max-hz 0", "--max-hz"),
        ("--policy drop", "--policy"),
        ("--cacert /nowhere wss://127.0.0.1", "--cacert /nowhere: No such file"),
        ("--cacert /dev/null wss://127.0.0.1", "no certificate in PEM"),
    ] {
        let output = command().args(line.split_whitespace()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{line}: {said}");
        assert!(said.contains(named) && output.stdout.is_empty(), "{line}: {said}");
    }
    let output = command().env("TRESTLE_MAX_HZ", "x").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(64) && said.contains("TRESTLE_MAX_HZ"), "{said}");
}

#[test]
fn an_edge_that_is_not_there_exits_with_69_and_names_the_way_out() {
    let address = Fake::start().address();
    let (code, said) = last(Sub::start(&format!("http://{address}")));
    assert_eq!(code, 69);
    assert_eq!(said, format!("error: cannot connect to {address}: Connection refused; --wait keeps trying"));
    let (code, said) = last(Sub::start("ws://name.invalid:8080"));
    assert!(code == 69 && said.starts_with("error: cannot connect to name.invalid:8080: "), "{said}");
}

#[test]
fn http_refusals_are_said_with_the_server_s_own_words() {
    for (response, said) in [
        (
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\r\noffer another subprotocol\n",
            "error: refused with HTTP 400: offer another subprotocol",
        ),
        ("HTTP/1.1 426 Upgrade Required\r\n\r\n", "error: refused with HTTP 426: Upgrade Required"),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n<h1>",
            "error: refused with HTTP 404: Not Found; no WebSocket at this path",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", "error: refused with HTTP 200: OK; no WebSocket at this path"),
        (
            "HTTP/1.1 301 Moved\r\nLocation: https://a/ws\r\n\r\n",
            "error: refused with HTTP 301: it is at https://a/ws",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "error: refused with HTTP 502: Bad Gateway; --wait keeps trying",
        ),
    ] {
        let fake = Fake::start();
        let sub = Sub::start(&fake.url());
        fake.answer(response);
        assert_eq!(last(sub), (69, said.to_owned()));
    }
}

#[test]
fn what_is_no_edge_is_said() {
    let fake = Fake::start();
    let sub = Sub::start(&format!("{} --wait", fake.url()));
    fake.tcp().write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").unwrap();
    let (code, said) = last(sub);
    assert!(code == 69 && said.contains("does not answer as a WebSocket"), "{said}");

    // A WebSocket of something else: the key's answer is right, the subprotocol is not there.
    let fake = Fake::start();
    let sub = Sub::start(&fake.url());
    let plain = tokio_tungstenite::tungstenite::accept(fake.tcp());
    let (code, said) = last(sub);
    drop(plain);
    assert!(code == 69 && said.contains("it does not speak trestle.v1.json"), "{said}");
}

#[test]
fn a_close_that_forbids_another_attempt_is_the_end() {
    for (code, reason) in [(4500, "bad request"), (4503, "forbidden"), (4999, ""), (1008, "policy violation")]
    {
        let fake = Fake::start();
        let sub = Sub::start(&fake.url());
        let mut edge = fake.accept();
        edge.serve(1, 10);
        edge.close(code, reason);
        let said = format!("error: closed by the server with {code} {reason}");
        assert_eq!(last(sub), (69, said.trim_end().to_owned()));
    }
}

#[test]
fn a_subscription_that_is_refused_for_good_is_the_end() {
    let fake = Fake::start();
    let sub = Sub::start(&fake.url());
    let mut edge = fake.accept();
    edge.welcome();
    let id = edge.command()["id"].clone();
    edge.say(json!({ "reply": { "id": id, "error": { "code": "forbidden", "reason": "not for you", "retry": false } } }));
    let said = "error: everything: the edge refuses: forbidden: not for you".to_owned();
    assert_eq!(last(sub), (69, said));
}
