//! What ends before anything is measured: wrong flags with 64, servers that are not there or do not play along with 69.

use std::net::TcpListener;

use clap::Parser as _;
use trestle_process::exit::{Exit, UNAVAILABLE, USAGE};

use crate::server::Server;
use crate::{Flags, flags};

/// The exit code and the reason.
fn refusal(line: &str) -> (u8, String) {
    let error = trestle_bench::measure(&flags(line)).unwrap_err();
    let exit = error.downcast::<Exit>().unwrap();
    (exit.code, exit.reason)
}

#[test]
fn flags_that_contradict_each_other() {
    for (line, named) in [
        ("fanout --url ws://h:1/", "--url: needs --publish"),
        ("fanout --publish nats://h:1", "--publish: needs --url"),
        ("fanout --url ws://h:1/ --publish ftp://h:1", "--publish ftp://h:1: "),
        ("fanout --url ws://h:1/ --publish line://h:1 --server-cpu 0", "--server-cpu: "),
        ("fanout --url ws://h:1/ --publish line://h:1 --topic a{i}", "--topic: "),
        ("topics --topic all", "--topic: needs {i}"),
        ("storm --publish line://h:1", "--publish, --publish-bind: without --replay"),
        ("storm --replay 5 --url ws://h:1/", "--url: needs --publish"),
        ("storm --replay 5 --format rust-websocket", "--replay: only in format trestle.v1.json"),
        ("storm --replay 5 --topic a{i}", "--topic: "),
        ("idle --server /nowhere/edge", "--server /nowhere/edge: no such file"),
        ("forwarder --frontend tcp://h --backend tcp://h:1", "--frontend tcp://h: "),
        ("idle --url ws://127.0.0.1:1/ --server-pid 2147483647", "--server-pid 2147483647: no such process"),
    ] {
        let (code, reason) = refusal(line);
        assert!(code == USAGE && reason.starts_with(named), "{line}: {code} {reason}");
    }
    for line in [
        "fanout --url wss://h/",
        "fanout --in-flight 0",
        "fanout --rate 5 --in-flight 5",
        "latency --rate 0",
        "fanout --size 45",
        "fanout --clients 0",
        "fanout --topic a\"b",
        "forwarder --frontend tcp://h:1",
        "nothing",
    ] {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        assert!(Flags::try_parse_from(words).is_err(), "{line}");
    }
}

/// A port that nobody listens on.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn nobody_there() {
    let (server, port) = (Server::start(|_, _| {}), closed_port());
    let lines = server.lines;
    for (line, named) in [
        (format!("idle --clients 2 --url ws://127.0.0.1:{port}/"), "Connection refused"),
        (format!("storm --clients 2 --url ws://127.0.0.1:{port}/"), "Connection refused"),
        (
            format!("fanout --clients 2 --url ws://127.0.0.1:{port}/ --publish line://{lines}"),
            "Connection refused",
        ),
        (format!("fanout --url ws://{}/ --publish nats://127.0.0.1:{port}", server.web), "cannot publish to"),
        (
            format!("forwarder --frontend tcp://127.0.0.1:{port} --backend tcp://127.0.0.1:{port}"),
            "cannot publish to",
        ),
    ] {
        let (code, reason) = refusal(&line);
        assert!(code == UNAVAILABLE && reason.contains(named), "{line}: {code} {reason}");
    }
}

#[test]
fn a_server_that_says_no_is_quoted() {
    // The publisher's side takes lines and answers nothing; its own HTTP answer comes from a listener of the test.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{Read as _, Write as _};
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno origin");
        }
    });
    let (code, reason) = refusal(&format!("idle --clients 3 --url ws://{address}/"));
    assert!(code == UNAVAILABLE && reason.contains("403 Forbidden\" no origin"), "{reason}");
    assert!(reason.starts_with(&format!("3 of 3 connections to ws://{address}/ failed")), "{reason}");
}

#[test]
fn a_server_that_never_confirms() {
    let server = Server::start(|_, _| {});
    let url = format!("ws://{}/{{i}}", server.web);
    let line = format!("idle --clients 2 --url {url} --format raw --wait-for welcome --connect-timeout 0.2");
    let (code, reason) = refusal(&line);
    assert!(code == UNAVAILABLE && reason.contains("nothing more came for 0.2 s"), "{reason}");
}
