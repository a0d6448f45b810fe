//! Tokens that `trestle token` made, at edges that ask for them.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::edge::Cluster;
use crate::fake::Fake;
use crate::program::{DEADLINE, Sub, command};

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../auth/tests/keys");

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// `trestle token` with these words, parted by spaces.
fn token(line: &str) -> Output {
    run(Command::new(env!("CARGO_BIN_EXE_trestle")).arg("token").args(line.split_whitespace()))
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A token, as the program prints it.
fn made(line: &str) -> String {
    let output = token(&format!("make {line}"));
    assert!(output.status.success(), "{line}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn written(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn secret(folder: &TempDir) -> String {
    let path = folder.path().join("secret").to_str().unwrap().to_owned();
    let output = token(&format!("secret {path}"));
    assert!(output.status.success(), "{}", said(&output));
    path
}

#[test]
fn a_secret_is_for_its_owner_alone_and_replaces_none() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = secret(&folder);
    let text = std::fs::read(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(text.len(), 44, "32 bytes in base64url, and a line end");
    let again = token(&format!("secret {path}"));
    assert!(again.status.code() == Some(64) && said(&again).contains("File exists"), "{}", said(&again));
    assert_eq!(std::fs::read(&path).unwrap(), text);
}

#[test]
fn a_token_of_each_kind_of_key_lets_in_at_an_edge_that_asks_for_tokens_and_origins() {
    let folder = tempfile::tempdir().unwrap();
    let secret = secret(&folder);
    let cluster = Cluster::start("");
    for (private, public) in [
        (secret.clone(), secret),
        (format!("{KEYS}/rsa.pem"), format!("{KEYS}/rsa.pub.pem")),
        (format!("{KEYS}/ec.pem"), format!("{KEYS}/ec.pub.pem")),
        (format!("{KEYS}/ed.pem"), format!("{KEYS}/ed.pub.pem")),
    ] {
        let edge = cluster.edge(&format!(
            "--auth jwt --auth-key-file {public} --auth-audience trestle --auth-issuer here --require-origin"
        ));
        let token = made(&format!(
            "--key-file {private} --sub ann --subscribe users/{{sub}}/ --aud trestle --aud other --iss here"
        ));
        let url = format!("http://{}", edge.address());
        let file = written(&folder, "token", &token);
        let sub =
            Sub::start(&format!("--token-file {file} --origin {url} --json --count 1 {url} users/ann/"));
        sub.says("connected");
        let deadline = Instant::now() + DEADLINE;
        // Until the publisher has met the forwarder, nothing goes out.
        let line = loop {
            cluster.publish(&["users/eve/mail", "not hers"]);
            cluster.publish(&["users/ann/mail", "hers"]);
            match sub.line_within(Duration::from_millis(100)) {
                Some(line) => break line,
                None => assert!(Instant::now() < deadline, "nothing comes"),
            }
        };
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["text"], "hers", "{public}");
        assert_eq!(sub.end().0, 0);

        let without = |flags: &str| {
            let output = run(command().args(format!("{flags} {url} users/ann/").split_whitespace()));
            (output.status.code(), said(&output))
        };
        let (code, why) = without(&format!("--origin {url}"));
        assert!(code == Some(69) && !why.contains(&token), "{why}");
        let (code, why) = without(&format!("--token-file {file}"));
        assert!(code == Some(69) && why.contains("403"), "{why}");
        edge.shutdown();
    }
    cluster.shutdown();
}

#[test]
fn inspect_prints_what_a_token_says_and_why_it_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let key = secret(&folder);
    let good =
        made(&format!("--key-file {key} --sub ann --subscribe jobs/ --max-connections 3 --kid k1 --aud a"));
    let plain = token(&format!("inspect {good}"));
    assert!(plain.status.success() && said(&plain).contains("--key-file checks it"), "{}", said(&plain));
    let shown: Value = serde_json::from_slice(&plain.stdout).unwrap();
    assert_eq!(shown["header"], json!({"alg": "HS256", "typ": "JWT", "kid": "k1"}));
    assert_eq!(
        shown["claims"]["trestle"],
        json!({"subscribe": ["jobs/"], "publish": [], "max_connections": 3})
    );
    let (exp, iat) = (shown["claims"]["exp"].as_u64().unwrap(), shown["claims"]["iat"].as_u64().unwrap());
    assert_eq!(exp - iat, 3_600, "an hour without --expires-in");

    let counts = token(&format!("inspect {good} --key-file {key} --aud a"));
    assert!(counts.status.success(), "{}", said(&counts));
    assert!(said(&counts).contains("It counts. Subscribe: `jobs/`. Publish: nothing."), "{}", said(&counts));

    let changed = good.replacen(".ey", ".eyJ", 1);
    let other = written(&folder, "other", "another secret, of more than 32 bytes");
    for (words, why) in [
        (format!("{good} --key-file {key}"), "another audience; its `aud` is \"a\""),
        (format!("{good} --key-file {key} --aud b"), "its `aud` is \"a\", accepted: b"),
        (format!("{good} --key-file {key} --aud a --iss x"), "its `iss` is none, accepted: x"),
        (format!("{good} --key-file {other} --aud a"), "its signature is not right; another key"),
        (format!("{good} --key-file {KEYS}/ed.pub.pem"), "its `alg` is \"HS256\", the keys are for EdDSA"),
        (format!("{good} --key-file {KEYS}/jwks.json"), "its `kid` is \"k1\", those of the keys are"),
        (changed, "no JSON Web Token"),
        ("a.b.c".to_owned(), "no JSON Web Token"),
    ] {
        let output = token(&format!("inspect {words}"));
        assert_eq!(output.status.code(), Some(1), "{words}: {}", said(&output));
        assert!(said(&output).contains(why), "{words}: {}", said(&output));
    }
}

#[test]
fn what_no_edge_would_take_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let key = secret(&folder);
    let short = written(&folder, "short", "short");
    for (words, why) in [
        (format!("--key-file {key} --sub ann --subscribe users/{{sub}}"), "nothing ends `{sub}`"),
        (format!("--key-file {key} --sub ann --expires-in 10ms"), "less than a second"),
        (format!("--key-file {key} --sub ann --max-connections 0"), "--max-connections"),
        (format!("--key-file {short} --sub ann"), "5 bytes can be guessed"),
        (format!("--key-file {KEYS}/rsa.pub.pem --sub ann"), "the private one is wanted"),
        (
            format!("--key-file {} --sub ann", Path::new(&key).with_extension("none").display()),
            "No such file",
        ),
        (format!("--key-file {key} --sub ann --aud {}", "a".repeat(8_200)), "an edge takes 8192"),
    ] {
        let output = token(&format!("make {words}"));
        assert!(output.status.code() == Some(64) && output.stdout.is_empty(), "{words}: {}", said(&output));
        assert!(said(&output).contains(why), "{words}: {}", said(&output));
    }
}

#[test]
fn a_token_is_read_anew_for_each_connection_and_said_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(&folder, "token", "first.token.text\n");
    let fake = Fake::start();
    let sub = Sub::start(&format!("--token-file {file} {}", fake.url()));
    let (mut client, request) = fake.accept_asked();
    assert_eq!(request.headers()["authorization"], "Bearer first.token.text");
    client.welcome();
    client.command();
    std::fs::write(&file, "second.token.text").unwrap();
    client.close(4401, "token expired");
    let (_client, request) = fake.accept_asked();
    assert_eq!(request.headers()["authorization"], "Bearer second.token.text");
    drop(sub);

    let mut by_variable = command();
    by_variable.env("TRESTLE_TOKEN", "no\u{1}token").arg(fake.url());
    let output = run(&mut by_variable);
    assert!(output.status.code() == Some(64) && !said(&output).contains("no\u{1}token"), "{}", said(&output));
}
