//! From written values to usable ones: paths that work, levels that exist, flags over the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::root::RawConfig;
use super::schema::Problem;

/// `sockaddr_un.sun_path` less its closing NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// What a shim's sockets add to the state folder: `/s/`, 16 hex digits, and `.io`.
const SHIM_SOCKET_SUFFIX: usize = 3 + 16 + 3;

/// The daemon's configuration, valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What must survive a reboot.
    pub root: PathBuf,
    /// What lives as long as the boot.
    pub state: PathBuf,
    /// The socket of the CRI.
    pub address: PathBuf,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    pub disabled_plugins: BTreeSet<String>,
    pub required_plugins: BTreeSet<String>,
    /// Each known plugin's table, defaults filled in, by `<type>.<id>`.
    pub plugins: BTreeMap<String, toml::Table>,
}

/// Values of flags; they win over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    pub address: Option<PathBuf>,
    pub root: Option<PathBuf>,
    pub state: Option<PathBuf>,
    pub log_level: Option<LogLevel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not one of trace, debug, info, warn, error")]
pub struct NoLogLevel {
    value: String,
}

impl FromStr for LogLevel {
    type Err = NoLogLevel;

    /// containerd's names: `fatal` and `panic` are errors here.
    fn from_str(value: &str) -> Result<Self, NoLogLevel> {
        match value {
            "error" | "fatal" | "panic" => Ok(Self::Error),
            "warn" | "warning" => Ok(Self::Warn),
            "info" | "" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(NoLogLevel { value: value.to_owned() }),
        }
    }
}

impl LogLevel {
    pub(crate) fn as_tracing(self) -> tracing::Level {
        match self {
            Self::Error => tracing::Level::ERROR,
            Self::Warn => tracing::Level::WARN,
            Self::Info => tracing::Level::INFO,
            Self::Debug => tracing::Level::DEBUG,
            Self::Trace => tracing::Level::TRACE,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

/// A mistake in the file, or in a flag when `flag` names one.
pub(super) struct Misplaced {
    pub(super) problem: Problem,
    pub(super) flag: Option<&'static str>,
}

/// The valid configuration, with defaults in the place of mistakes, and the mistakes.
pub(super) fn resolve(raw: &RawConfig, overrides: &Overrides) -> (Config, Vec<Misplaced>) {
    let mut mistakes = Vec::new();
    let defaults = RawConfig::default();
    let mut path = |key: &[&str], flag, given: &Option<PathBuf>, written: &str, default: &str, limit| {
        let value = given.clone().unwrap_or_else(|| PathBuf::from(written));
        match check_path(&value, limit) {
            None => value,
            Some(message) => {
                let flag = given.as_ref().map(|_| flag);
                mistakes.push(Misplaced { problem: Problem::invalid(key, message), flag });
                PathBuf::from(default)
            }
        }
    };
    let root = path(&["root"], "--root", &overrides.root, &raw.root, &defaults.root, usize::MAX);
    let state_limit = MAX_SOCKET_PATH - SHIM_SOCKET_SUFFIX;
    let state = path(&["state"], "--state", &overrides.state, &raw.state, &defaults.state, state_limit);
    let address = path(
        &["grpc", "address"],
        "--address",
        &overrides.address,
        &raw.grpc.address,
        &defaults.grpc.address,
        MAX_SOCKET_PATH,
    );
    if root == state {
        let message = format!("is the same folder as root, {}; it must be another one", root.display());
        mistakes.push(Misplaced { problem: Problem::invalid(&["state"], message), flag: None });
    }
    let mut values = |problem| mistakes.push(Misplaced { problem, flag: None });
    let config = Config {
        root,
        state,
        address,
        log_level: overrides.log_level.unwrap_or_else(|| level(&raw.debug.level, &mut values)),
        log_format: format_of(&raw.debug.format, &mut values),
        disabled_plugins: plugin_ids("disabled_plugins", &raw.disabled_plugins, &mut values),
        required_plugins: plugin_ids("required_plugins", &raw.required_plugins, &mut values),
        plugins: BTreeMap::new(),
    };
    (config, mistakes)
}

fn check_path(path: &Path, limit: usize) -> Option<String> {
    let length = path.as_os_str().len();
    if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
        Some(format!("{path:?} is not an absolute path without .."))
    } else if path.as_os_str().as_encoded_bytes().iter().any(u8::is_ascii_control) {
        Some(format!("{path:?} has control characters"))
    } else if length > limit {
        Some(format!(
            "{path:?} has {length} bytes; with more than {limit} a unix socket's path gets too long"
        ))
    } else {
        None
    }
}

fn level(value: &str, mistake: &mut impl FnMut(Problem)) -> LogLevel {
    value.parse().unwrap_or_else(|error: NoLogLevel| {
        mistake(Problem::invalid(&["debug", "level"], error.to_string()));
        LogLevel::Info
    })
}

fn format_of(value: &str, mistake: &mut impl FnMut(Problem)) -> LogFormat {
    match value {
        "text" | "" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => {
            mistake(Problem::invalid(&["debug", "format"], format!("{value:?} is not one of text, json")));
            LogFormat::Text
        }
    }
}

/// Version 1's short names ("cri") would silently disable nothing.
fn plugin_ids(key: &str, ids: &[String], mistake: &mut impl FnMut(Problem)) -> BTreeSet<String> {
    for id in ids.iter().filter(|id| !id.contains('.')) {
        let message = format!("{id:?} is not a plugin's full id, such as \"io.containerd.grpc.v1.cri\"");
        mistake(Problem::invalid(&[key], message));
    }
    ids.iter().cloned().collect()
}
