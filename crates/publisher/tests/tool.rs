//! The tool as people use it: the built program, its standard input, its exit codes.

mod support;

use std::time::{Duration, Instant};

use support::{Program, Subscriber};
use trestle_messages::v1::event::Body;

#[test]
fn a_line_arrives_as_a_typed_event() {
    let subscriber = Subscriber::bound(&[b"jobs/"]);
    let mut program =
        Program::run(&["--stdin", "--topic", "jobs/42", "--connect", &subscriber.endpoint], &[]);
    program.write(b"hi\n{\"done\": 1}\n\xff\xfe\n");
    let bodies: Vec<_> = (0..3)
        .map(|_| {
            let (topic, event) = subscriber.event();
            assert_eq!(topic, "jobs/42");
            assert!(event.time_unix_ns > 0 && !event.id.is_empty() && !event.source.is_empty(), "{event:?}");
            event.body.unwrap()
        })
        .collect();
    assert_eq!(
        bodies,
        [
            Body::Text("hi".to_owned()),
            Body::Json("{\"done\": 1}".to_owned()),
            Body::Bytes(vec![0xff, 0xfe].into())
        ]
    );
    program.succeed();
}

#[test]
fn raw_lines_are_bare_frames() {
    let subscriber = Subscriber::bound(&[b""]);
    let mut program =
        Program::run(&["--stdin", "--raw", "--topic", "a", "--connect", &subscriber.endpoint], &[]);
    program.write(b"{\"x\":1}\r\n\n\xff\nlast");
    program.close_input();
    for line in [&b"{\"x\":1}\r"[..], b"", b"\xff", b"last"] {
        assert_eq!(subscriber.recv(), [b"a", line]);
    }
    program.succeed();
}

/// The program has published all when more than TCP's buffers hold still waits in its queue: it lingers.
#[test]
fn the_last_of_10_000_lines_arrives() {
    const LARGE: usize = 16 << 10;
    // Fewer than the program queues for a subscriber, so that it can publish the rest while nobody reads.
    const LEFT_AT_THE_END: usize = 900;
    let line = |n: usize| format!("{n} {}", "x".repeat(if n > 9_000 { LARGE } else { 100 }));
    let subscriber = Subscriber::bound_with_queue(&[b"log"], 10);
    let args = ["--stdin", "--raw", "--topic", "log", "--connect", &subscriber.endpoint];
    let mut program = Program::run(&args, &[]);
    let lines = (1..=10_000).map(line).collect::<Vec<_>>().join("\n");
    let writer = std::thread::spawn(move || {
        program.write(lines.as_bytes());
        program.close_input();
        program
    });
    let expect = |n| assert!(subscriber.recv() == [b"log".to_vec(), line(n).into_bytes()], "line {n}");
    (1..=10_000 - LEFT_AT_THE_END).for_each(expect);
    let mut program = writer.join().unwrap();
    let published = program.logged("published");
    assert!(published.contains("10000"), "{published}");
    (10_000 - LEFT_AT_THE_END + 1..=10_000).for_each(expect);
    program.succeed();
}

#[test]
fn generated_bodies_are_counted_and_sized() {
    let subscriber = Subscriber::bound(&[b"load"]);
    let args = ["--count", "3", "--size", "20", "--topic", "load", "--connect", &subscriber.endpoint];
    let program = Program::run(&args, &[]);
    for n in 1..=3 {
        let Some(Body::Text(text)) = subscriber.event().1.body else { panic!("not text") };
        assert!(text.len() == 20 && text.starts_with(&format!("{n} ")), "{text}");
    }
    program.succeed();
    assert_eq!(subscriber.rest(), Vec::<Vec<Vec<u8>>>::new());
}

/// 201 messages at 400 a second last half a second; only a machine that stands still makes it much longer.
#[test]
fn a_rate_is_kept() {
    let subscriber = Subscriber::bound(&[b"load"]);
    let args = ["--rate", "400", "--count", "201", "--topic", "load", "--connect", &subscriber.endpoint];
    let program = Program::run(&args, &[]);
    let (_, first) = subscriber.event();
    let last = (0..200).map(|_| subscriber.event().1).fold(first.clone(), |_, next| next);
    let lasted = Duration::from_nanos(last.time_unix_ns - first.time_unix_ns);
    assert!((Duration::from_millis(495)..Duration::from_secs(5)).contains(&lasted), "{lasted:?}");
    program.succeed();
}

#[test]
fn it_listens_with_bind() {
    let args = ["--rate", "100", "--topic", "load", "--bind", "127.0.0.1:0", "--raw"];
    let mut program = Program::run(&args, &[]);
    let line = program.logged("listening");
    let endpoint = line.split('"').find(|word| word.starts_with("tcp://")).expect(&line);
    let subscriber = Subscriber::connected(endpoint, &[b"load"]);
    assert!(subscriber.recv()[1].starts_with(b"1 "), "the first waits for the first subscriber");
    program.terminate();
    program.succeed();
}

#[test]
fn a_signal_ends_it_while_it_waits() {
    let subscriber = Subscriber::bound(&[b""]);
    let mut program = Program::run(&["--stdin", "--topic", "a", "--connect", &subscriber.endpoint], &[]);
    program.write(b"x\n");
    subscriber.recv();
    let asked = Instant::now();
    program.terminate();
    let (status, errors) = program.end_beside(&[&subscriber]);
    assert!(status.success(), "{errors}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

/// Whoever read its log has gone: a failed write to standard error once left the program hanging at its end.
#[test]
fn a_closed_log_is_no_reason_to_hang() {
    let subscriber = Subscriber::bound(&[b""]);
    let program = Program::run_unread(&["--rate", "100", "--topic", "a", "--connect", &subscriber.endpoint]);
    subscriber.recv();
    program.terminate();
    let (status, _) = program.end_beside(&[&subscriber]);
    assert!(status.success(), "{status}");
}

#[test]
fn nobody_subscribed_is_69_and_names_the_endpoint() {
    let elsewhere = Subscriber::bound(&[b"other/", b"jobs/421"]);
    let args = ["--count", "1", "--topic", "jobs/42", "--wait", "500ms", "--connect", &elsewhere.endpoint];
    let (status, errors) = Program::run(&args, &[]).end_beside(&[&elsewhere]);
    assert_eq!(status.code(), Some(69), "{errors}");
    assert!(errors.contains(&elsewhere.endpoint) && errors.contains("jobs/42"), "{errors}");
}

#[test]
fn every_endpoint_must_subscribe_before_the_first_message() {
    let [wants, wants_not] = [&b"a"[..], b"b"].map(|prefix| Subscriber::bound(&[prefix]));
    let endpoints = format!(r#"["{}","{}"]"#, wants.endpoint, wants_not.endpoint);
    let args = ["--count", "2", "--raw", "--topic", "a", "--wait", "2s"];
    let env = [("TRESTLE_CONNECT", endpoints.as_str())];
    let (status, errors) = Program::run(&args, &env).end_beside(&[&wants, &wants_not]);
    assert_eq!(status.code(), Some(69), "{errors}");
    let error = errors.lines().find(|line| line.starts_with("error: ")).expect(&errors);
    assert!(error.contains(&wants_not.endpoint) && !error.contains(&wants.endpoint), "{error}");
    assert_eq!(wants.rest(), Vec::<Vec<Vec<u8>>>::new());

    wants_not.subscribe(b"");
    let (status, errors) = Program::run(&args, &env).end_beside(&[&wants, &wants_not]);
    assert!(status.success(), "{errors}");
    for subscriber in [&wants, &wants_not] {
        assert!(subscriber.recv()[1].starts_with(b"1 "));
        assert!(subscriber.recv()[1].starts_with(b"2 "));
    }
}

#[test]
fn the_last_subscriber_that_leaves_is_69() {
    let subscriber = Subscriber::bound(&[b"a"]);
    let args = ["--rate", "100", "--topic", "a", "--wait", "2s", "--connect", &subscriber.endpoint];
    let program = Program::run(&args, &[]);
    subscriber.recv();
    subscriber.unsubscribe(b"a");
    let (status, errors) = program.end_beside(&[&subscriber]);
    assert_eq!(status.code(), Some(69), "{errors}");
    assert!(errors.contains(&subscriber.endpoint) && !errors.contains("; 0 messages"), "{errors}");
}

#[test]
fn wrong_flags_are_64_and_named() {
    for (args, env, names) in [
        (
            &["--connect", "tcp://127.0.0.1:1", "--bind", "127.0.0.1:0"][..],
            None,
            &["--connect", "--bind"][..],
        ),
        (&["--stdin", "--size", "1", "--topic", "a"], None, &["--stdin", "--size"]),
        (&["--stdin"], None, &["--topic"]),
        (&["--stdin", "--topic", "a"], Some(("TRESTLE_RATE", "fast")), &["TRESTLE_RATE"]),
        (&["--bind", "127.0.0.1:0"], Some(("TRESTLE_CONNECT", r#"["tcp://a:1"]"#)), &["--connect", "--bind"]),
        (&["--count", "1", "--topic", "a", "--connect", "nonsense"], None, &["--connect nonsense"]),
        (&["--topics", "a"], None, &["--topics"]),
    ] {
        let (status, errors) = Program::run(args, env.as_slice()).end();
        assert_eq!(status.code(), Some(64), "{args:?}: {errors}");
        assert!(names.iter().all(|name| errors.contains(name)), "{args:?}: {errors}");
    }
}

#[test]
fn a_busy_address_is_71_and_named() {
    let taken = Subscriber::bound(&[]);
    let (status, errors) = Program::run(&["--bind", &taken.endpoint], &[]).end();
    assert_eq!(status.code(), Some(71), "{errors}");
    assert!(errors.contains("--bind") && errors.contains(&taken.endpoint), "{errors}");
}
