//! Each way in, with a relay that understands it in front of the same server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::server::Server;
use crate::{delivery, measure};

type Lines = Arc<Mutex<TcpStream>>;

/// Starts `relay` for each connection, with the line publisher's side of `server`.
fn relay(server: &Server, relay: fn(TcpStream, &Lines)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lines = Arc::new(Mutex::new(TcpStream::connect(server.lines).unwrap()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let lines = Arc::clone(&lines);
            thread::spawn(move || relay(stream.unwrap(), &lines));
        }
    });
    address
}

fn pass(lines: &Lines, topic: &str, body: &[u8]) {
    let line = [topic.as_bytes(), b" ", body, b"\n"].concat();
    lines.lock().unwrap().write_all(&line).unwrap();
}

/// Answers each POST with the topic in its path.
fn http(stream: TcpStream, lines: &Lines) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut stream, mut head) = (stream, String::new());
    while reader.read_line(&mut head).unwrap() > 0 {
        if !head.ends_with("\r\n\r\n") {
            continue;
        }
        assert!(head.contains("\r\nX-Key: secret\r\n"), "{head}");
        let topic = head.strip_prefix("POST /pub?id=").unwrap().split(' ').next().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        pass(lines, topic, &body);
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").unwrap();
        head.clear();
    }
}

/// As much of a NATS server as a publisher sees.
fn nats(mut stream: TcpStream, lines: &Lines) {
    stream.write_all(b"INFO {\"max_payload\":1048576}\r\n").unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut command = String::new();
    while reader.read_line(&mut command).unwrap() > 0 {
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            ["CONNECT", _] => {}
            ["PING"] => stream.write_all(b"PONG\r\n").unwrap(),
            ["PUB", topic, length] => {
                let mut body = vec![0; length.parse::<usize>().unwrap() + 2];
                reader.read_exact(&mut body).unwrap();
                pass(lines, topic, body.strip_suffix(b"\r\n").unwrap());
            }
            _ => panic!("{command}"),
        }
        command.clear();
    }
}

#[test]
fn http_and_nats_publish_the_same() {
    for (start, way) in [
        (http as fn(TcpStream, &Lines), "http://ADDRESS/pub?id={t} --publish-header X-Key:secret"),
        (nats, "nats://ADDRESS"),
    ] {
        let server = Server::start(|client, message| {
            if message.topic.is_none_or(|nth| nth == client.nth) {
                client.send(message.frame);
            }
        });
        let address = relay(&server, start);
        let way = way.replace("ADDRESS", &address.to_string());
        let web = server.web;
        for load in ["fanout --topic all", "topics --topic t/{i}"] {
            let report = measure(&format!(
                "{load} --in-flight 20 --clients 3 --messages 300 --warm-up 2 --verify --settle 0.01 \
                 --url ws://{web}/{{i}} --format raw --publish {way}"
            ));
            let delivery = delivery(&report);
            assert_eq!((delivery.published, delivery.lost, delivery.corrupted), (300, 0, 0), "{load} {way}");
            assert_eq!(
                (delivery.duplicated, delivery.out_of_order, delivery.misrouted),
                (0, 0, 0),
                "{load} {way}"
            );
            assert_eq!(delivery.complete, 300, "{load} {way}");
        }
    }
}
