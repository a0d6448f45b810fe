//! Configuration: a flag over an environment variable over a TOML file over the default.
//!
//! A process declares its flags once, as a `clap::Parser`. Each long flag `--some-flag` is also `TRESTLE_SOME_FLAG` in
//! the environment (a repeatable one as a JSON array) and `some-flag` or `some_flag` in the file that `--config` names.
//! All three are read by the flag's own parser, so that they mean and refuse the same. One whose values are JSON objects
//! may be an array of tables in the file, `[[some_flag]]`.

mod explain;
mod layers;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process;

use clap::{ArgMatches, Command, Parser};

use crate::exit;
pub use explain::{Origin, Setting, SettingValue, explain};
use layers::Layers;

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
    /// The file has a key that is none of the flags.
    #[error("{place}: unknown setting")]
    Unknown {
        /// The key and file.
        place: String,
    },
    /// The file cannot be read or is no TOML.
    #[error("--config {}: {error}", file.display())]
    File {
        /// What --config says.
        file: PathBuf,
        /// What is wrong.
        error: Box<figment::Error>,
    },
}

impl ConfigError {
    /// Whether a flag or key is none of this process's.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Unknown { .. } => true,
            Self::Flags(error) => error.kind() == clap::error::ErrorKind::UnknownArgument,
            _ => false,
        }
    }
}

/// The variables of this process that are settings.
///
/// # Errors
/// [`ConfigError`], naming one that is not UTF-8.
pub fn environment() -> Result<HashMap<String, String>, ConfigError> {
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    env.filter(|(name, _)| name.starts_with(ENV_PREFIX))
        .map(|(name, value)| {
            value
                .into_string()
                .map(|value| (name.clone(), value))
                .map_err(|_| ConfigError::Value { place: name, reason: "is not UTF-8".to_owned() })
        })
        .collect()
}

/// Reads flags, environment and file; on an error prints it and exits with 64.
pub fn load<C: Parser>() -> C {
    let result = environment().and_then(|env| parse(std::env::args_os(), &env));
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
    Ok(C::from_arg_matches(&Resolved::of(C::command(), args, env)?.all)?)
}

/// Flags before and after the layers below them were asked.
struct Resolved {
    command: Command,
    /// What the command line says.
    flags: ArgMatches,
    layers: Layers,
    /// What all say.
    all: ArgMatches,
}

impl Resolved {
    fn of(
        command: Command,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        env: &HashMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let flags = command.clone().try_get_matches_from(&args)?;
        let layers = Layers::read(&command, &flags, env)?;
        let mut all = args.clone();
        // Behind the words of a subcommand its flags follow; only its own and global ones can be injected there.
        for (place, words) in layers.missing_words(innermost(&command, &flags))? {
            let alone =
                args.iter().take(subcommand_words(&flags)).cloned().chain(words.iter().map(Into::into));
            if let Err(error) = command.clone().ignore_errors(false).try_get_matches_from(alone)
                && blames_value(&error)
            {
                let reason = error.to_string().lines().next().unwrap_or_default().replace("error: ", "");
                return Err(ConfigError::Value { place, reason });
            }
            all.extend(words.into_iter().map(Into::into));
        }
        let all = command.clone().try_get_matches_from(all)?;
        Ok(Self { command, flags, layers, all })
    }
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
