//! What a configuration comes to, setting by setting, and where each stands.

use std::collections::HashMap;
use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Parser};

use super::layers::{is_given, is_list, long_flags};
use super::{ConfigError, Resolved, innermost};

/// One flag of a process, with what it is after all layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name in the file, for example `ping-interval`.
    pub name: String,
    /// As typed.
    pub value: SettingValue,
    /// Who set it.
    pub origin: Origin,
}

/// What a flag holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// Nothing, and there is no default.
    Unset,
    /// Something that is not to be shown.
    Secret,
    /// Of a flag without a value.
    Switch(bool),
    /// Of one that is given once.
    One(String),
    /// Of a repeatable one.
    Many(Vec<String>),
}

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: the flag's own default holds.
    Default,
    /// On the command line.
    Flag,
    /// In this variable, or as this key of the file.
    Layer(String),
}

/// [`parse`](super::parse), and all settings of the innermost subcommand in the order of its help.
///
/// A flag with `hide_env_values` is a secret.
///
/// # Errors
/// [`ConfigError`], naming the flag, variable or key.
pub fn explain<C: Parser>(
    args: impl IntoIterator<Item = impl Into<OsString>>,
    env: &HashMap<String, String>,
) -> Result<(C, Vec<Setting>), ConfigError> {
    let Resolved { command, flags, layers, all } = Resolved::of(C::command(), args, env)?;
    let config = C::from_arg_matches(&all)?;
    let (command, flags) = innermost(&command, &flags);
    let mut all = &all;
    while let Some((_, inner)) = all.subcommand() {
        all = inner;
    }
    let setting = |arg: &Arg| {
        let name = arg.get_long().expect("only long flags are listed").to_owned();
        let origin = match layers.place(&name) {
            _ if is_given(flags, arg) => Origin::Flag,
            Some(place) => Origin::Layer(place.to_owned()),
            None => Origin::Default,
        };
        Setting { value: value(all, arg), name, origin }
    };
    Ok((config, long_flags(command).map(setting).collect()))
}

fn value(all: &ArgMatches, arg: &Arg) -> SettingValue {
    let id = arg.get_id().as_str();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return SettingValue::Switch(all.get_flag(id));
    }
    let raw = all.get_raw(id).into_iter().flatten().map(|word| word.to_string_lossy().into_owned());
    let mut words: Vec<_> = raw.collect();
    match () {
        () if words.is_empty() && !is_list(arg) => SettingValue::Unset,
        () if arg.is_hide_env_values_set() => SettingValue::Secret,
        () if is_list(arg) => SettingValue::Many(words),
        () => SettingValue::One(words.swap_remove(0)),
    }
}
