//! What can go wrong when plugins are run, told so that the reader of a pod's events knows whom to ask.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use runtime_sys::pidfd::Exit;
use thiserror::Error;

use crate::attachment::AttachmentError;
use crate::network::NetworkError;
use crate::result::ResultError;

/// Bytes of a plugin's stderr that an error's text shows.
const SHOWN_STDERR: usize = 1024;
/// Characters of other unwanted output that an error's text shows.
const SHOWN_STDOUT: usize = 200;

/// A verb of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
}

impl Command {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An output of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// The classes that callers act upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The attachment or the configuration can never work.
    Invalid,
    /// A plugin is not installed (yet).
    NotFound,
    /// A plugin took too long.
    Timeout,
    /// A plugin asks to be called later (code 11; 50 and 51 of STATUS).
    TryAgain,
    /// A plugin failed or misbehaved.
    Plugin,
    /// This host's processes or files.
    Host,
}

/// A verb did not succeed.
#[derive(Debug, Error)]
pub enum CniError {
    #[error("cannot attach to CNI network {network}")]
    Attachment {
        network: String,
        #[source]
        source: AttachmentError,
    },
    #[error("CNI network {network} cannot be used")]
    Network {
        network: String,
        #[source]
        source: NetworkError,
    },
    #[error("CNI plugin {plugin} is not installed; looked in {}", joined(searched))]
    NotFound { plugin: String, searched: Vec<PathBuf> },
    #[error("cannot run CNI plugin {plugin} for {command}")]
    Spawn {
        plugin: String,
        command: Command,
        #[source]
        source: io::Error,
    },
    #[error("CNI plugin {plugin} did not finish {command} within {limit:?} and was killed{}", Stderr(stderr))]
    Timeout { plugin: String, command: Command, limit: Duration, stderr: String },
    #[error(
        "CNI plugin {plugin} wrote more than {limit} bytes to its {stream:?} at {command} and was killed"
    )]
    TooMuchOutput { plugin: String, command: Command, stream: Stream, limit: usize },
    #[error(
        "CNI plugin {plugin} failed at {command} with code {code}: {msg}{}{}",
        Details(details),
        Stderr(stderr)
    )]
    Failed { plugin: String, command: Command, code: u64, msg: String, details: String, stderr: String },
    #[error("CNI plugin {plugin} {} at {command} without saying why{}{}", Ended(*exit), Said(stdout), Stderr(stderr))]
    Crashed { plugin: String, command: Command, exit: Exit, stdout: String, stderr: String },
    #[error(
        "CNI plugin {plugin} answered {command} with no CNI result: {}{}",
        Answer(stdout),
        Stderr(stderr)
    )]
    Garbage {
        plugin: String,
        command: Command,
        stdout: String,
        stderr: String,
        #[source]
        source: ResultError,
    },
    #[error("cannot keep the result of CNI network {network} in {path}")]
    Cache {
        network: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl CniError {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Attachment { .. } | Self::Network { .. } => Kind::Invalid,
            Self::NotFound { .. } => Kind::NotFound,
            Self::Timeout { .. } => Kind::Timeout,
            Self::Failed { code: 11 | 50 | 51, .. } => Kind::TryAgain,
            Self::Failed { .. } | Self::Crashed { .. } => Kind::Plugin,
            Self::Garbage { .. } | Self::TooMuchOutput { .. } => Kind::Plugin,
            Self::Spawn { .. } | Self::Cache { .. } => Kind::Host,
        }
    }

    /// The plugin's own error code, as the specification lists them.
    #[must_use]
    pub fn code(&self) -> Option<u64> {
        match self {
            Self::Failed { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// An error with all its sources on one line.
pub(crate) fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The beginning of what a plugin wrote, on one line.
pub(crate) fn beginning(stdout: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(stdout), SHOWN_STDOUT)
}

/// The end of a plugin's stderr on one line, where the reason mostly is.
pub(crate) fn ending(stderr: &[u8]) -> String {
    let shown = stderr.trim_ascii();
    let shown = &shown[shown.len().saturating_sub(SHOWN_STDERR)..];
    one_line(&String::from_utf8_lossy(shown), SHOWN_STDERR)
}

/// A foreign text at a length and in characters that fit a log line and a pod's event.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for letter in text.trim().chars().take(most) {
        if letter.is_control() { line.extend(letter.escape_debug()) } else { line.push(letter) }
    }
    line
}

fn joined(folders: &[PathBuf]) -> String {
    let folders: Vec<_> = folders.iter().map(|folder| folder.to_string_lossy()).collect();
    if folders.is_empty() { "no folder at all".to_owned() } else { folders.join(", ") }
}

/// Parts of a message that are left out when they are empty.
struct Stderr<'a>(&'a str);
struct Details<'a>(&'a str);
struct Said<'a>(&'a str);
struct Answer<'a>(&'a str);
struct Ended(Exit);

impl fmt::Display for Stderr<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, " (stderr: {})", self.0) }
    }
}

impl fmt::Display for Details<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, "; {}", self.0) }
    }
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, " (stdout: {})", self.0) }
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "it wrote nothing" } else { self.0 })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Exit::Code(code) => write!(formatter, "ended with exit code {code}"),
            Exit::Signal(signal) => write!(formatter, "was ended by signal {signal}"),
        }
    }
}
