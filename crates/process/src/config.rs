//! Configuration: a flag over an environment variable over a TOML file over the default.
//!
//! A process declares its flags once, as a `clap::Parser`. Each long flag `--some-flag` is also `TRESTLE_SOME_FLAG` in
//! the environment (a repeatable one as a JSON array) and `some-flag` or `some_flag` in the file that `--config` names.
//! All three are read by the flag's own parser, so that they mean and refuse the same. One whose values are JSON objects
//! may be an array of tables in the file, `[[some_flag]]`.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile};

use crate::exit;

/// Every process's environment variables begin with this.
pub const ENV_PREFIX: &str = "TRESTLE_";

/// The flags that every process has; flatten them into its own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Common {
    /// A TOML file with further settings; flags and environment variables win over it.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// What is logged: a level, or levels by module as `info,trestle_edge=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", global = true)]
    pub log: String,
    /// How it is logged.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, global = true)]
    pub log_format: crate::log::Format,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag is wrong, or `--help` or `--version` was asked for: `clap` says it.
    #[error(transparent)]
    Flags(#[from] clap::Error),
    /// A value from the environment or the file was refused by its flag's parser.
    #[error("{place}: {reason}")]
    Value {
        /// The variable, or the key and file.
        place: String,
        /// What the flag's parser said.
        reason: String,
    },
    /// The file cannot be read or is no TOML.
    #[error("--config: {0}")]
    File(#[from] Box<figment::Error>),
}

/// Reads flags, environment and file; on an error prints it and exits with 64.
pub fn load<C: Parser>() -> C {
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let result = env
        .filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .map(|(name, value)| {
            value
                .into_string()
                .map(|value| (name.clone(), value))
                .map_err(|_| ConfigError::Value { place: name, reason: "is not UTF-8".to_owned() })
        })
        .collect::<Result<HashMap<_, _>, _>>()
        .and_then(|env| parse(std::env::args_os(), &env));
    result.unwrap_or_else(|error| {
        let code = match &error {
            // `--help` and `--version` are no failure.
            ConfigError::Flags(error) if error.exit_code() == 0 => {
                let _ = error.print();
                0
            }
            ConfigError::Flags(error) => {
                let _ = error.print();
                exit::USAGE
            }
            _ => {
                eprintln!("error: {error}");
                exit::USAGE
            }
        };
        process::exit(code.into())
    })
}

/// [`load`] with the arguments and the environment as values.
///
/// # Errors
/// [`ConfigError`], naming the flag, variable or key.
pub fn parse<C: Parser>(
    args: impl IntoIterator<Item = impl Into<OsString>>,
    env: &HashMap<String, String>,
) -> Result<C, ConfigError> {
    let command = C::command();
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let flags = command.clone().try_get_matches_from(&args)?;
    let layers = Layers::read(&command, &flags, env)?;
    let mut all = args.clone();
    // Behind the words of a subcommand its flags follow; only its own and global ones can be injected there.
    for (place, words) in layers.missing_words(innermost(&command, &flags))? {
        let alone = args.iter().take(subcommand_words(&flags)).cloned().chain(words.iter().map(Into::into));
        if let Err(error) = command.clone().ignore_errors(false).try_get_matches_from(alone)
            && blames_value(&error)
        {
            let reason = error.to_string().lines().next().unwrap_or_default().replace("error: ", "");
            return Err(ConfigError::Value { place, reason });
        }
        all.extend(words.into_iter().map(Into::into));
    }
    let matches = command.clone().try_get_matches_from(all)?;
    Ok(C::from_arg_matches(&matches)?)
}

/// The names of subcommands, and the program's, that stand in front of flags.
fn subcommand_words(flags: &ArgMatches) -> usize {
    1 + flags.subcommand().map_or(0, |(_, inner)| subcommand_words(inner))
}

fn innermost<'a>(command: &'a Command, flags: &'a ArgMatches) -> (&'a Command, &'a ArgMatches) {
    match flags.subcommand() {
        Some((name, inner)) => innermost(command.find_subcommand(name).expect("clap found it"), inner),
        None => (command, flags),
    }
}

/// Whether the error is the value's own fault and not that other flags are missing beside it.
fn blames_value(error: &clap::Error) -> bool {
    use clap::error::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::InvalidValue
            | ErrorKind::ValueValidation
            | ErrorKind::InvalidUtf8
            | ErrorKind::TooManyValues
    )
}

/// What the environment and the file say, by flag name, each with where it stands.
struct Layers {
    values: BTreeMap<String, (String, Value)>,
}

impl Layers {
    fn read(
        command: &Command,
        flags: &ArgMatches,
        env: &HashMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        let (inner, inner_flags) = innermost(command, flags);
        let from_flag = inner_flags.try_get_one::<PathBuf>("config").ok().flatten().cloned();
        let file = from_flag.or_else(|| env.get("TRESTLE_CONFIG").map(PathBuf::from));
        if let Some(path) = file {
            let figment = Figment::from(Toml::file_exact(&path));
            let dict: Dict = figment.select(Profile::Default).extract().map_err(Box::new)?;
            for (key, value) in dict {
                let name = key.replace('_', "-");
                let place = format!("`{key}` in {}", path.display());
                if !long_flags(inner).any(|arg| arg.get_long() == Some(&name)) {
                    return Err(ConfigError::Value { place, reason: "unknown setting".to_owned() });
                }
                values.insert(name, (place, value));
            }
        }
        for arg in long_flags(inner) {
            let name = arg.get_long().expect("only long flags are listed").to_owned();
            let variable = format!("{ENV_PREFIX}{}", name.replace('-', "_").to_ascii_uppercase());
            let Some(text) = env.get(&variable) else { continue };
            let value = if is_list(arg) { json_list(&variable, text)? } else { Value::from(text.as_str()) };
            values.insert(name, (variable, value));
        }
        Ok(Self { values })
    }

    /// For each flag that the command line leaves open, the words that set it as the layers say.
    fn missing_words(
        &self,
        (command, flags): (&Command, &ArgMatches),
    ) -> Result<Vec<(String, Vec<String>)>, ConfigError> {
        let mut words = Vec::new();
        for arg in long_flags(command) {
            let id = arg.get_id().as_str();
            let given = flags.try_contains_id(id).is_ok_and(|known| known)
                && flags.value_source(id) == Some(ValueSource::CommandLine);
            let Some((place, value)) = arg.get_long().and_then(|name| self.values.get(name)) else {
                continue;
            };
            if given {
                continue;
            }
            match value {
                Value::Array(_, tables)
                    if is_list(arg) && tables.iter().any(|item| item.as_dict().is_some()) =>
                {
                    for (nth, table) in (1..).zip(tables) {
                        let place = format!("table {nth} of {place}");
                        let table = flag_words(arg, &place, &Value::from(vec![table_word(&place, table)?]))?;
                        words.push((place, table));
                    }
                }
                _ => words.push((place.clone(), flag_words(arg, place, value)?)),
            }
        }
        Ok(words)
    }
}

fn long_flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !matches!(arg.get_long(), None | Some("help" | "version")))
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

fn json_list(variable: &str, text: &str) -> Result<Value, ConfigError> {
    let refuse = |reason| ConfigError::Value { place: variable.to_owned(), reason };
    let list: Vec<serde_json::Value> = serde_json::from_str(text)
        .map_err(|error| refuse(format!("not a JSON array of strings, such as [\"a\", \"b\"]: {error}")))?;
    let word = |item: serde_json::Value| match item {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Object(_) => Ok(item.to_string()),
        other => Err(refuse(format!("not a JSON array of strings: it holds {other}"))),
    };
    Ok(Value::from(list.into_iter().map(word).collect::<Result<Vec<_>, _>>()?))
}

fn flag_words(arg: &Arg, place: &str, value: &Value) -> Result<Vec<String>, ConfigError> {
    let long = arg.get_long().expect("only long flags are listed");
    let refuse = |reason: &str| ConfigError::Value { place: place.to_owned(), reason: reason.to_owned() };
    let word = |value: &Value| {
        scalar(value).map(|text| format!("--{long}={text}")).ok_or_else(|| refuse("not a plain value"))
    };
    match (arg.get_action(), value) {
        (ArgAction::Append, Value::Array(_, items)) => items.iter().map(word).collect(),
        (ArgAction::SetTrue, value) => match scalar(value).as_deref() {
            Some("true" | "1") => Ok(vec![format!("--{long}")]),
            Some("false" | "0" | "") => Ok(Vec::new()),
            _ => Err(refuse("neither true nor false")),
        },
        (_, value) => Ok(vec![word(value)?]),
    }
}

/// A table of the file as the flag's parser has it.
fn table_word(place: &str, table: &Value) -> Result<String, ConfigError> {
    let refuse = |reason: String| ConfigError::Value { place: place.to_owned(), reason };
    table.as_dict().ok_or_else(|| refuse("not a table".to_owned()))?;
    serde_json::to_string(table).map_err(|error| refuse(error.to_string()))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, char) => Some(char.to_string()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, number) => {
            Some(number.to_i128().map(|n| n.to_string()).or_else(|| number.to_f64().map(|n| n.to_string()))?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            replaced.source,
            ["flag"],
            "a repeatable flag replaces lower layers, it does not add to them"
        );
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
        let expected =
            [serde_json::json!({"name": "a \\ \"", "number": 1}), serde_json::json!({"list": [true]})];
        assert_eq!(check(&[], &[], toml).unwrap().table, expected);
        let env = [("TRESTLE_TABLE", r#"[{"list":[]},"{\"name\":\"b\"}"]"#)];
        let expected = [serde_json::json!({"list": []}), serde_json::json!({"name": "b"})];
        assert_eq!(check(&[], &env, toml).unwrap().table, expected);
        assert_eq!(check(&["--table", "{}"], &env, toml).unwrap().table, [serde_json::json!({})]);

        let error = |env: &[(&str, &str)], toml| check(&[], env, toml).unwrap_err();
        let second = error(&[], "[[table]]\n[[table]]\nbad = 1");
        assert!(
            second.starts_with("table 2 of `table` in FILE: ") && second.contains("it is bad"),
            "{second}"
        );
        assert_eq!(error(&[], "table = [{}, 1]"), "table 2 of `table` in FILE: not a table");
        assert!(error(&[("TRESTLE_TABLE", "[1]")], "").contains("it holds 1"));
    }

    #[test]
    fn errors_name_the_place() {
        let error = |args: &[&str], env: &[(&str, &str)], toml| check(args, env, toml).unwrap_err();
        assert!(error(&["--port", "x"], &[], "").contains("--port"));
        let variable = error(&[], &[("TRESTLE_PORT", "seven")], "");
        assert!(variable.starts_with("TRESTLE_PORT: ") && variable.contains("seven"), "{variable}");
        assert!(
            error(&[], &[("TRESTLE_SOURCE", "tcp://x")], "").starts_with("TRESTLE_SOURCE: not a JSON array")
        );
        assert!(error(&[], &[("TRESTLE_NO_RECORD", "maybe")], "").starts_with("TRESTLE_NO_RECORD: "));
        let key = error(&[], &[], "port = 'x'");
        assert!(key.starts_with("`port` in FILE: "), "{key}");
        assert_eq!(error(&[], &[], "prot = 1"), "`prot` in FILE: unknown setting");
        assert!(error(&[], &[], "port = ").contains("--config"));
    }
}
