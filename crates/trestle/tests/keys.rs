//! `trestle keys` as a program.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use trestle_process::curve::CurveFlags;

fn keys(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle"));
    command.arg("keys").args(["--dir", dir.to_str().unwrap()]).args(args).output().unwrap()
}

#[test]
fn makes_keys_that_processes_take_and_never_replaces_any() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new/keys");
    let made = keys(&dir, &["forwarder", "edge"]);
    assert!(made.status.success(), "{made:?}");
    let printed = String::from_utf8(made.stdout).unwrap();
    let names: Vec<_> = printed.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(names.iter().map(|(_, name)| *name).collect::<Vec<_>>(), ["forwarder", "edge"]);
    for (public, name) in &names {
        let secret = dir.join(format!("{name}.key_secret"));
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!printed.contains(fs::read_to_string(&secret).unwrap().split('"').nth(3).unwrap()));
        assert!(fs::read_to_string(dir.join(format!("{name}.key"))).unwrap().contains(public));
        let identity = CurveFlags { curve_secret_key: Some(secret) }.open().unwrap();
        assert_eq!(identity.public().to_string(), *public);
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);

    let before = fs::read(dir.join("edge.key_secret")).unwrap();
    let again = keys(&dir, &["publisher", "edge"]);
    assert_eq!(again.status.code(), Some(64));
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.contains("edge has keys already") && said.contains("edge.key_secret"), "{said}");
    assert_eq!(fs::read(dir.join("edge.key_secret")).unwrap(), before);
    assert!(!dir.join("publisher.key").exists(), "all or nothing");
}

#[test]
fn a_name_is_no_path() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["../edge", "a/b", "", ".", "-x", "ä"] {
        let refused = keys(folder.path(), &["--", name]);
        assert_eq!(refused.status.code(), Some(64), "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
