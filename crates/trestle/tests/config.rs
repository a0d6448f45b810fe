//! `trestle config` as a program, beside the processes that it speaks of.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Folder(tempfile::TempDir);

/// Exit code, standard output and standard error.
type Said = (i32, String, String);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn config(args: &[&str], env: &[(&str, &str)]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TRESTLE_")) {
        command.env_remove(name);
    }
    let output = command.arg("config").args(args).envs(env.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn check(file: &Path, more: &[&str]) -> Said {
    config(&[&["check", file.to_str().unwrap()], more].concat(), &[])
}

#[test]
fn a_good_file_is_of_the_process_that_knows_its_settings() {
    let folder = Folder::new();
    for (text, process) in [
        ("link = 'tcp://forwarder:5557'\nallow-origin = ['https://example.org']", "trestle-edge"),
        ("frontend = '127.0.0.1:0'\nrecord = ['jobs/=1MiB']", "trestle-forwarder"),
        ("connect = ['tcp://forwarder:5555']", "trestle-publisher"),
    ] {
        let file = folder.file("some.toml", text);
        let expected = format!("{}: {process} would start\n", file.display());
        assert_eq!(check(&file, &[]), (0, expected, String::new()), "{text}");
    }
    let file = folder.file("log.toml", "log = 'debug'");
    let (code, _, said) = check(&file, &[]);
    assert_eq!(code, 64);
    assert!(said.contains("trestle-forwarder or trestle-edge: say which by --process"), "{said}");
    assert_eq!(check(&file, &["--process", "forwarder"]).0, 0);
    assert_eq!(check(&file, &["--process", "edge"]).0, 64);
    assert_eq!(check(&file, &["--process", "edge", "--", "--source", "tcp://127.0.0.1:1"]).0, 0);
}

#[test]
fn a_bad_file_is_refused_with_what_is_wrong_and_where() {
    let folder = Folder::new();
    let key = folder.file("short.key", "short");
    let key = key.display();
    for (text, named) in [
        ("link = 'forwarder'", vec!["trestle-forwarder or trestle-edge", "--process"]),
        ("recorder = 'forwarder'", vec!["trestle-edge would not start", "`recorder` in "]),
        ("prot = 1", vec!["trestle-publisher: `prot` in ", "trestle-edge: `prot` in ", "unknown setting"]),
        ("link = ", vec!["--config", "TOML"]),
        (
            "listen = '127.0.0.1:1'\nlink = 'tcp://a:1'\nsource = ['tcp://b:2']",
            vec!["--link and --source exclude each other"],
        ),
        ("link = 'tcp://a:1'\nauth = 'jwt'", vec!["--auth jwt", "--auth-key"]),
        (&format!("link = 'tcp://a:1'\nauth = 'jwt'\nauth-key-file = ['{key}']"), vec!["short.key"]),
        ("record = ['jobs/']\nno-record = true\nbackend = '127.0.0.1:0'", vec!["--record and --no-record"]),
        ("connect = ['tcp://a:1,curve=short']", vec!["trestle-publisher would not start", "--connect"]),
        ("grpc = '0.0.0.0:9091'\nfrontend = '0.0.0.0:5555'", vec!["trestle-forwarder", "--link-token-file"]),
        ("curve-allow = '/nowhere'\nfrontend = '0.0.0.0:1'", vec!["--curve-allow"]),
    ] {
        let file = folder.file("bad.toml", text);
        let (code, printed, said) = check(&file, &[]);
        assert_eq!((code, printed.as_str()), (64, ""), "{text}: {said}");
        assert!(named.iter().all(|part| said.contains(part)), "{text}: {said}");
    }
    let (code, _, said) = check(&folder.0.path().join("none.toml"), &[]);
    assert_eq!(code, 64);
    assert!(said.contains("none.toml"), "{said}");
}

#[test]
fn what_is_shown_says_where_it_stands_hides_secrets_and_is_a_file_itself() {
    let folder = Folder::new();
    let secret = "0123456789abcdef0123456789abcdef";
    let file = folder
        .file("edge.toml", "link = 'tcp://a:1'\nauth = 'jwt'\nallow-origin = [\"https://\\u0061.example\"]");
    let path = file.to_str().unwrap();
    // The variable is the edge's, and none of this program's own.
    let env = [
        ("TRESTLE_AUTH_KEY", secret),
        ("TRESTLE_LISTEN", "127.0.0.1:80"),
        ("TRESTLE_SHARDS", "2"),
        ("TRESTLE_CONFIG", path),
    ];
    let (code, shown, said) = config(&["show", "edge", "--", "--shards", "3"], &env);
    assert_eq!((code, said.as_str()), (0, ""), "{shown}");
    for line in [
        &format!("link = \"tcp://a:1\"  # `link` in {path}"),
        "listen = \"127.0.0.1:80\"  # TRESTLE_LISTEN",
        "shards = \"3\"  # a flag",
        "# auth-key = (a secret)  # TRESTLE_AUTH_KEY",
        "# recorder =",
        "require-origin = false",
        "ping-interval = \"25s\"",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
    }
    assert!(!shown.contains(secret) && !shown.contains("config ="), "{shown}");

    let again = folder.file("shown.toml", &shown);
    let env = [("TRESTLE_AUTH_KEY", secret)];
    let (code, second, _) = config(&["show", "edge", "--config", again.to_str().unwrap()], &env);
    assert_eq!(code, 0, "{second}");
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(values(&second), values(&shown));
}

#[test]
fn settings_that_do_not_go_together_are_shown_before_the_error() {
    let (code, shown, said) = config(&["show", "edge"], &[]);
    assert_eq!(code, 64);
    assert!(shown.contains("listen = \"127.0.0.1:8080\"") && said.contains("no upstream"), "{shown}{said}");
    let (code, _, said) = config(&["show", "edge", "--", "--nonsense"], &[]);
    assert_eq!(code, 64);
    assert!(said.contains("--nonsense"), "{said}");
}
