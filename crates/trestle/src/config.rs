//! `trestle config`: whether a process would start as it is configured, and what that comes to.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use toml::Value;
use trestle_process::config::{self, ConfigError, Origin, Setting, SettingValue};
use trestle_process::exit::Exit;

/// What `trestle config` is asked.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Says whether a process would start with FILE, the variables of this environment and the flags behind `--`: all but
    /// whether its addresses are free. Files that it names are read. Exits with 0, or with 64 and why.
    Check {
        /// A TOML file, as a process's --config takes it.
        file: PathBuf,
        /// Whose file it is. Without it, of whichever process knows all its settings.
        #[arg(long, value_enum)]
        process: Option<Process>,
        /// Further flags of the process: `trestle config check edge.toml -- --listen 0.0.0.0:80`.
        #[arg(last = true)]
        flags: Vec<OsString>,
    },
    /// Prints each setting of a process with its value and whether a flag, a variable, the file of --config or the default
    /// says so: a TOML file itself, but for secrets, which are not shown.
    Show {
        /// Whose.
        #[arg(value_enum)]
        process: Process,
        /// Its flags: `trestle config show edge -- --link tcp://forwarder:5557`.
        #[arg(last = true)]
        flags: Vec<OsString>,
    },
}

/// The setting that names the file.
const CONFIG: &str = "config";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Process {
    Publisher,
    Forwarder,
    Edge,
}

impl Process {
    fn program(self) -> &'static str {
        match self {
            Self::Publisher => "trestle-publisher",
            Self::Forwarder => "trestle-forwarder",
            Self::Edge => "trestle-edge",
        }
    }

    /// Its settings, and whether they go together.
    fn explain(self, asked: &Asked<'_>) -> Result<(Vec<Setting>, anyhow::Result<()>), ConfigError> {
        let file = asked.file.iter().flat_map(|file| ["--config".into(), file.as_os_str().to_owned()]);
        let args = std::iter::once(self.program().into()).chain(file).chain(asked.flags.iter().cloned());
        Ok(match self {
            Self::Publisher => {
                let (flags, settings) = config::explain::<trestle_publisher::config::Flags>(args, asked.env)?;
                (settings, flags.into_config().and_then(|config| config.check()).map_err(Into::into))
            }
            Self::Forwarder => {
                let (config, settings) = config::explain::<trestle_forwarder::Config>(args, asked.env)?;
                (settings, config.check().map_err(Into::into))
            }
            Self::Edge => {
                let (config, settings) = config::explain::<trestle_edge::Config>(args, asked.env)?;
                (settings, config.check())
            }
        })
    }
}

/// What stands in each layer.
struct Asked<'a> {
    file: Option<&'a Path>,
    env: &'a HashMap<String, String>,
    flags: &'a [OsString],
}

/// Runs `trestle config`; `config` is what --config says.
///
/// # Errors
/// An [`Exit`] with code 64 that says what is wrong, and where it stands.
pub(crate) fn run(flags: &Flags, config: Option<&Path>) -> anyhow::Result<()> {
    let env = &config::environment().map_err(usage)?;
    match &flags.action {
        Action::Check { file, process, flags } => {
            let processes = process.as_ref().map_or(Process::value_variants(), std::slice::from_ref);
            let process = check(file, processes, &Asked { file: Some(file), env, flags })?;
            println!("{}: {} would start", file.display(), process.program());
            Ok(())
        }
        Action::Show { process, flags } => {
            let (settings, verdict) = process.explain(&Asked { file: config, env, flags }).map_err(usage)?;
            print!("{}", shown(*process, &settings));
            verdict
        }
    }
}

/// Whose file it is.
///
/// # Errors
/// An [`Exit`] where that process would not start, or where none or several know all that is set.
fn check(file: &Path, processes: &[Process], asked: &Asked<'_>) -> anyhow::Result<Process> {
    let (mut verdicts, mut strangers) = (Vec::new(), Vec::new());
    for process in processes {
        match process.explain(asked) {
            Ok((_, verdict)) => verdicts.push((*process, verdict)),
            Err(error @ ConfigError::File { .. }) => return Err(usage(error).into()),
            Err(error) if error.is_unknown() && processes.len() > 1 => {
                strangers.push(format!("\n  {}: {}", process.program(), first_line(&error)));
            }
            Err(error) => verdicts.push((*process, Err(usage(error).into()))),
        }
    }
    let several = || verdicts.iter().map(|(process, _)| process.program()).collect::<Vec<_>>().join(" or ");
    let reason = match verdicts.len() {
        0 => format!("no process knows all that is set:{}", strangers.concat()),
        1 => match verdicts.remove(0) {
            (process, Ok(())) => return Ok(process),
            (process, Err(fault)) => format!("{} would not start: {fault:#}", process.program()),
        },
        _ => format!("it may be of {}: say which by --process", several()),
    };
    Err(Exit::usage(format!("{}: {reason}", file.display())).into())
}

fn usage(error: ConfigError) -> Exit {
    Exit::usage(first_line(&error))
}

/// Without the usage that `clap` says behind it.
fn first_line(error: &ConfigError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// A TOML file of the settings that are there, with comments of where each stands, and of those that are not.
fn shown(process: Process, settings: &[Setting]) -> String {
    let mut file = format!("# {}\n", process.program());
    for Setting { name, value, origin } in settings.iter().filter(|setting| setting.name != CONFIG) {
        let value = match value {
            SettingValue::Unset => Err(""),
            SettingValue::Secret => Err("(a secret)"),
            SettingValue::Switch(on) => Ok(Value::from(*on)),
            SettingValue::One(text) => Ok(Value::from(text.as_str())),
            SettingValue::Many(texts) => Ok(Value::from(texts.clone())),
        };
        let place = match origin {
            Origin::Default => "",
            Origin::Flag => "  # a flag",
            Origin::Layer(place) => &format!("  # {place}"),
        };
        let _ = match value {
            Ok(value) => writeln!(file, "{name} = {value}{place}"),
            Err(instead) => writeln!(file, "{}{place}", format!("# {name} = {instead}").trim_end()),
        };
    }
    file
}
