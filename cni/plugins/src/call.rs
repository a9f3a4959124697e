//! One call as the runtime makes it: variables of the environment and a configuration on stdin, capped and checked.
//!
//! Nothing else reads the environment or stdin. Names are checked here once, as the specification says.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::config::{self, ConfigError};
use crate::error::Code;
use crate::version::Version;

/// Most of a configuration, in bytes: the runtime's own limit is the same.
const LARGEST_INPUT: u64 = 1 << 20;
/// Longest value of a variable.
const LONGEST_VARIABLE: usize = 64 << 10;
/// The kernel's IFNAMSIZ without the end.
const LONGEST_IFNAME: usize = 15;
/// A network's name is a folder's, a container's id a line in files and comments.
const LONGEST_NAME: usize = 200;

/// What a process was started for.
pub(crate) enum Request {
    /// No command: somebody looks what this is.
    Nothing,
    Version,
    Call(Call),
}

/// A call of a plugin.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    pub(crate) version: Version,
    /// Name of the network.
    pub(crate) network: String,
    /// The plugin's configuration.
    pub(crate) input: Value,
    /// `CNI_ARGS`.
    pub(crate) args: String,
    /// Folders with plugins.
    pub(crate) path: Vec<PathBuf>,
}

/// A command of the specification with what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add(Attachment, PathBuf),
    Check(Attachment, PathBuf),
    /// The namespace may be gone.
    Del(Attachment, Option<PathBuf>),
    Gc,
    Status,
}

/// An interface of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) container: String,
    pub(crate) ifname: String,
}

/// There is no call to make.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    #[error("required environment variables [{}] are missing", .0.join(","))]
    Missing(Vec<&'static str>),
    #[error("environment variable {0} is too long or not UTF-8")]
    Variable(&'static str),
    #[error("unknown CNI_COMMAND {0:?}")]
    Command(String),
    #[error("{what} {text:?} is not valid: {why}")]
    Name { what: &'static str, text: String, why: &'static str },
    #[error("cannot read the configuration from stdin")]
    Read(#[source] io::Error),
    #[error("the configuration is larger than {LARGEST_INPUT} bytes")]
    TooLarge,
    #[error("the configuration is no JSON object")]
    NotAnObject,
    #[error("the configuration is no JSON as the specification says")]
    Json(#[source] serde_json::Error),
    #[error("the configuration has no valid network name: {why}")]
    NetworkName { why: &'static str },
    #[error("incompatible CNI versions: config is {found:?}, plugin supports {:?}", Version::names())]
    Version { found: String },
    #[error("config version {version} does not allow {command}")]
    TooOld { version: &'static str, command: &'static str },
}

impl CallError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Missing(_) | Self::Variable(_) | Self::Command(_) | Self::Name { .. } => {
                Code::InvalidEnvironment
            }
            Self::Read(_) => Code::Io,
            Self::Json(_) | Self::NotAnObject => Code::Decoding,
            Self::TooLarge | Self::NetworkName { .. } => Code::InvalidConfig,
            Self::Version { .. } | Self::TooOld { .. } => Code::IncompatibleVersion,
        }
    }
}

/// The fields that every plugin's configuration has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    name: Option<String>,
    cni_version: Option<String>,
}

impl Request {
    /// Reads the request of this process.
    pub(crate) fn read() -> Result<Self, CallError> {
        let variable = |name: &'static str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::from(variable, std::io::stdin().lock())
    }

    fn from(
        variable: impl Fn(&'static str) -> Option<OsString>,
        stdin: impl Read,
    ) -> Result<Self, CallError> {
        let get = |name: &'static str| match variable(name) {
            None => Ok(None),
            Some(value) => match value.into_string() {
                Ok(text) if text.len() <= LONGEST_VARIABLE => Ok(Some(text)),
                _ => Err(CallError::Variable(name)),
            },
        };
        let Some(command) = get("CNI_COMMAND")? else { return Ok(Self::Nothing) };
        if command == "VERSION" {
            return Ok(Self::Version);
        }
        let verb = verb(&command, &get)?;
        let path = get("CNI_PATH")?.ok_or_else(|| CallError::Missing(vec!["CNI_PATH"]))?;
        let (input, network, version) = configuration(stdin)?;
        let allowed = match verb {
            Verb::Add(..) | Verb::Del(..) => true,
            Verb::Check(..) => version >= Version::V0_4_0,
            Verb::Gc | Verb::Status => version >= Version::V1_1_0,
        };
        if !allowed {
            let command = match verb {
                Verb::Check(..) => "CHECK",
                Verb::Gc => "GC",
                Verb::Add(..) | Verb::Del(..) | Verb::Status => "STATUS",
            };
            return Err(CallError::TooOld { version: version.as_str(), command });
        }
        let args = get("CNI_ARGS")?.unwrap_or_default();
        let path = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
        Ok(Self::Call(Call { verb, version, network, input, args, path }))
    }
}

fn verb(
    command: &str,
    get: &impl Fn(&'static str) -> Result<Option<String>, CallError>,
) -> Result<Verb, CallError> {
    match command {
        "GC" => return Ok(Verb::Gc),
        "STATUS" => return Ok(Verb::Status),
        "ADD" | "CHECK" | "DEL" => {}
        _ => return Err(CallError::Command(command.chars().take(40).collect())),
    }
    let (container, netns, ifname) = (get("CNI_CONTAINERID")?, get("CNI_NETNS")?, get("CNI_IFNAME")?);
    match (command, container, netns, ifname) {
        ("DEL", Some(container), netns, Some(ifname)) => {
            Ok(Verb::Del(attachment(container, ifname)?, netns.map(PathBuf::from)))
        }
        ("ADD", Some(container), Some(netns), Some(ifname)) => {
            Ok(Verb::Add(attachment(container, ifname)?, netns.into()))
        }
        ("CHECK", Some(container), Some(netns), Some(ifname)) => {
            Ok(Verb::Check(attachment(container, ifname)?, netns.into()))
        }
        (_, container, netns, ifname) => {
            let needed = [
                ("CNI_CONTAINERID", container.is_some()),
                ("CNI_NETNS", netns.is_some() || command == "DEL"),
                ("CNI_IFNAME", ifname.is_some()),
            ];
            Err(CallError::Missing(
                needed.into_iter().filter(|(_, given)| !given).map(|(name, _)| name).collect(),
            ))
        }
    }
}

fn attachment(container: String, ifname: String) -> Result<Attachment, CallError> {
    let bad = |what, text: &str, why| CallError::Name { what, text: text.chars().take(80).collect(), why };
    if let Some(why) = wrong_name(&container) {
        return Err(bad("CNI_CONTAINERID", &container, why));
    }
    if let Some(why) = wrong_ifname(&ifname) {
        return Err(bad("CNI_IFNAME", &ifname, why));
    }
    Ok(Attachment { container, ifname })
}

fn configuration(stdin: impl Read) -> Result<(Value, String, Version), CallError> {
    let mut bytes = Vec::new();
    stdin.take(LARGEST_INPUT + 1).read_to_end(&mut bytes).map_err(CallError::Read)?;
    if u64::try_from(bytes.len()).is_ok_and(|size| size > LARGEST_INPUT) {
        return Err(CallError::TooLarge);
    }
    let input: Value = serde_json::from_slice(&bytes).map_err(CallError::Json)?;
    if !input.is_object() {
        return Err(CallError::NotAnObject);
    }
    let head = Head::deserialize(&input).map_err(CallError::Json)?;
    let name = head.name.unwrap_or_default();
    if let Some(why) = wrong_name(&name) {
        return Err(CallError::NetworkName { why });
    }
    // As the specification says: versions were not told at first.
    let found = head.cni_version.filter(|text| !text.is_empty()).unwrap_or_else(|| "0.1.0".to_owned());
    let version = Version::parse(&found)
        .ok_or_else(|| CallError::Version { found: found.chars().take(40).collect() })?;
    Ok((input, name, version))
}

/// What is wrong with the name of a network or the id of a container.
fn wrong_name(text: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match text.bytes().next() {
        None => Some("it is empty"),
        Some(first) if !first.is_ascii_alphanumeric() => Some("it has to begin with a letter or a digit"),
        Some(_) if text.len() > LONGEST_NAME => Some("it is too long"),
        Some(_) if !text.bytes().all(allowed) => Some("only letters, digits and `_.-` are allowed"),
        Some(_) => None,
    }
}

/// What is wrong with the name of an interface: the kernel's rules.
pub(crate) fn wrong_ifname(text: &str) -> Option<&'static str> {
    if text.is_empty() || text == "." || text == ".." {
        Some("it is no name")
    } else if text.len() > LONGEST_IFNAME {
        Some("it is longer than 15 bytes")
    } else if text.chars().any(|one| one == '/' || one == ':' || one.is_whitespace() || one.is_control()) {
        Some("slashes, colons, blanks and control characters are not allowed")
    } else {
        None
    }
}

impl Call {
    /// For GC: the interfaces that the runtime knows.
    pub(crate) fn valid_attachments(&self) -> Result<Vec<Attachment>, ConfigError> {
        let valid: Valid = config::parse(&self.input)?;
        let valid = valid.attachments.into_iter();
        Ok(valid.map(|one| Attachment { container: one.container, ifname: one.ifname }).collect())
    }
}

#[derive(Deserialize)]
struct Valid {
    #[serde(rename = "cni.dev/valid-attachments", default, deserialize_with = "config::or_default")]
    attachments: Vec<ValidAttachment>,
}

#[derive(Deserialize)]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

/// The original bytes of the configuration for a plugin that is called in turn.
pub(crate) fn input_for_delegate(call: &Call) -> Vec<u8> {
    call.input.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
