use super::*;

#[derive(Debug, Parser, PartialEq)]
struct Flags {
    #[arg(long, default_value_t = 8080)]
    port: u16,
    #[arg(long)]
    source: Vec<String>,
    #[arg(long)]
    no_record: bool,
    #[arg(long, default_value = "x")]
    topic: String,
    #[arg(long, value_parser = table)]
    table: Vec<serde_json::Value>,
    #[arg(long, hide_env_values = true)]
    secret: Option<String>,
    #[arg(long)]
    config: Option<PathBuf>,
}

fn table(text: &str) -> Result<serde_json::Value, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value["bad"].is_null() { Ok(value) } else { Err("it is bad".to_owned()) }
}

fn check(args: &[&str], env: &[(&str, &str)], toml: &str) -> Result<Flags, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let path = file.path().to_str().unwrap();
    let args = ["program", "--config", path].into_iter().chain(args.iter().copied());
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(args, &env).map_err(|error| error.to_string().replace(path, "FILE"))
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let toml = "port = 1\ntopic = 'file'\nsource = ['f']\nno-record = true";
    let env = [("TRESTLE_PORT", "2"), ("TRESTLE_SOURCE", r#"["a","b"]"#), ("TRESTLE_TOPIC", "010")];
    let all = check(&["--port", "3"], &env, toml).unwrap();
    assert_eq!((all.port, all.topic.as_str(), all.no_record), (3, "010", true));
    assert_eq!(all.source, ["a", "b"]);
    assert_eq!(check(&[], &env[..1], toml).unwrap().port, 2);
    assert_eq!(check(&[], &[], toml).unwrap().port, 1);
    assert_eq!(check(&[], &[], "").unwrap().port, 8080);
    let replaced = check(&["--source", "flag"], &env, toml).unwrap();
    assert_eq!(replaced.source, ["flag"], "a repeatable flag replaces lower layers, it does not add to them");
    assert!(!check(&[], &[("TRESTLE_NO_RECORD", "false")], toml).unwrap().no_record);
}

#[test]
fn a_subcommand_of_a_subcommand_has_its_flags_from_everywhere() {
    #[derive(Debug, Parser)]
    struct Outer {
        #[command(subcommand)]
        inner: Inner,
    }
    #[derive(Debug, clap::Subcommand)]
    enum Inner {
        #[command(subcommand)]
        Bench(Innermost),
    }
    #[derive(Debug, clap::Subcommand)]
    enum Innermost {
        Idle(Flags),
    }
    let check = |port: &str| {
        let env = HashMap::from([("TRESTLE_PORT".to_owned(), port.to_owned())]);
        parse::<Outer>(["program", "bench", "idle", "--topic", "t"], &env)
    };
    let Inner::Bench(Innermost::Idle(flags)) = check("7").unwrap().inner;
    assert_eq!((flags.port, flags.topic.as_str()), (7, "t"));
    assert!(check("x").unwrap_err().to_string().starts_with("TRESTLE_PORT: "));
}

#[test]
fn tables_are_json_objects_elsewhere() {
    let toml = "[[table]]\nname = 'a \\ \"'\nnumber = 1\n[[table]]\nlist = [true]";
    let expected = [serde_json::json!({"name": "a \\ \"", "number": 1}), serde_json::json!({"list": [true]})];
    assert_eq!(check(&[], &[], toml).unwrap().table, expected);
    let env = [("TRESTLE_TABLE", r#"[{"list":[]},"{\"name\":\"b\"}"]"#)];
    let expected = [serde_json::json!({"list": []}), serde_json::json!({"name": "b"})];
    assert_eq!(check(&[], &env, toml).unwrap().table, expected);
    assert_eq!(check(&["--table", "{}"], &env, toml).unwrap().table, [serde_json::json!({})]);

    let error = |env: &[(&str, &str)], toml| check(&[], env, toml).unwrap_err();
    let second = error(&[], "[[table]]\n[[table]]\nbad = 1");
    assert!(second.starts_with("table 2 of `table` in FILE: ") && second.contains("it is bad"), "{second}");
    assert_eq!(error(&[], "table = [{}, 1]"), "table 2 of `table` in FILE: not a table");
    assert!(error(&[("TRESTLE_TABLE", "[1]")], "").contains("it holds 1"));
}

#[test]
fn errors_name_the_place() {
    let error = |args: &[&str], env: &[(&str, &str)], toml| check(args, env, toml).unwrap_err();
    assert!(error(&["--port", "x"], &[], "").contains("--port"));
    let variable = error(&[], &[("TRESTLE_PORT", "seven")], "");
    assert!(variable.starts_with("TRESTLE_PORT: ") && variable.contains("seven"), "{variable}");
    assert!(error(&[], &[("TRESTLE_SOURCE", "tcp://x")], "").starts_with("TRESTLE_SOURCE: not a JSON array"));
    assert!(error(&[], &[("TRESTLE_NO_RECORD", "maybe")], "").starts_with("TRESTLE_NO_RECORD: "));
    let key = error(&[], &[], "port = 'x'");
    assert!(key.starts_with("`port` in FILE: "), "{key}");
    assert_eq!(error(&[], &[], "prot = 1"), "`prot` in FILE: unknown setting");
    assert!(error(&[], &[], "port = ").contains("--config"));
}

#[test]
fn each_setting_says_what_it_is_and_where_it_stands() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "port = 1\nsource = ['f', 'g']\nsecret = 'x'").unwrap();
    let path = file.path().to_str().unwrap();
    let env = HashMap::from([("TRESTLE_PORT".to_owned(), "2".to_owned())]);
    let (flags, settings) = explain::<Flags>(["program", "--config", path, "--topic", "t"], &env).unwrap();
    assert_eq!((flags.port, flags.topic.as_str()), (2, "t"));
    let key = |key: &str| Origin::Layer(format!("`{key}` in {path}"));
    let expected = [
        ("port", SettingValue::One("2".to_owned()), Origin::Layer("TRESTLE_PORT".to_owned())),
        ("source", SettingValue::Many(vec!["f".to_owned(), "g".to_owned()]), key("source")),
        ("no-record", SettingValue::Switch(false), Origin::Default),
        ("topic", SettingValue::One("t".to_owned()), Origin::Flag),
        ("table", SettingValue::Many(Vec::new()), Origin::Default),
        ("secret", SettingValue::Secret, key("secret")),
        ("config", SettingValue::One(path.to_owned()), Origin::Flag),
    ];
    let expected = expected.map(|(name, value, origin)| Setting { name: name.to_owned(), value, origin });
    assert_eq!(settings, expected);
    assert!(explain::<Flags>(["program", "--port", "x"], &HashMap::new()).is_err());
    let (_, defaults) = explain::<Flags>(["program"], &HashMap::new()).unwrap();
    assert!(defaults.iter().all(|setting| setting.origin == Origin::Default), "{defaults:?}");
    assert_eq!(defaults[5].value, SettingValue::Unset, "a secret that is not there is no secret");
}
