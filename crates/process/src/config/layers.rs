//! What stands below the command line: the environment and the file, as words that the flags' own parsers read.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile};

use super::{ConfigError, ENV_PREFIX, innermost};

/// What the environment and the file say, by flag name, each with where it stands.
pub(super) struct Layers {
    values: BTreeMap<String, (String, Value)>,
}

impl Layers {
    pub(super) fn read(
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
            let dict: Dict = figment
                .select(Profile::Default)
                .extract()
                .map_err(|error| ConfigError::File { file: path.clone(), error: Box::new(error) })?;
            for (key, value) in dict {
                let name = key.replace('_', "-");
                let place = format!("`{key}` in {}", path.display());
                if !long_flags(inner).any(|arg| arg.get_long() == Some(&name)) {
                    return Err(ConfigError::Unknown { place });
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

    /// Where the environment or the file sets this flag.
    pub(super) fn place(&self, flag: &str) -> Option<&str> {
        self.values.get(flag).map(|(place, _)| place.as_str())
    }

    /// For each flag that the command line leaves open, the words that set it as the layers say.
    pub(super) fn missing_words(
        &self,
        (command, flags): (&Command, &ArgMatches),
    ) -> Result<Vec<(String, Vec<String>)>, ConfigError> {
        let mut words = Vec::new();
        for arg in long_flags(command) {
            let Some((place, value)) = arg.get_long().and_then(|name| self.values.get(name)) else {
                continue;
            };
            if is_given(flags, arg) {
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

/// Whether the command line sets it.
pub(super) fn is_given(flags: &ArgMatches, arg: &Arg) -> bool {
    let id = arg.get_id().as_str();
    flags.try_contains_id(id).is_ok_and(|known| known)
        && flags.value_source(id) == Some(ValueSource::CommandLine)
}

pub(super) fn long_flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !matches!(arg.get_long(), None | Some("help" | "version")))
}

pub(super) fn is_list(arg: &Arg) -> bool {
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
