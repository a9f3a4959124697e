//! What can go wrong in a call, and the specification's code for it.

use serde_json::{Value, json};
use thiserror::Error;

use crate::args::ArgsError;
use crate::bridge::BridgeError;
use crate::call::CallError;
use crate::config::ConfigError;
use crate::delegate::DelegateError;
use crate::firewall::FirewallError;
use crate::host_local::AddressError;
use crate::loopback::LoopbackError;
use crate::netlink::LinkError;
use crate::netns::NetnsError;
use crate::portmap::PortError;
use crate::result::ResultError;
use crate::sysctl::SysctlError;
use crate::version::Version;

/// Most characters of a message: it ends in an event of the pod.
const LONGEST: usize = 2048;

/// A call failed.
#[derive(Debug, Error)]
pub(crate) enum PluginError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Args(#[from] ArgsError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Result(#[from] ResultError),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Loopback(#[from] LoopbackError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error(transparent)]
    Delegate(#[from] DelegateError),
}

/// Codes of the specification; 999 is what the reference plugins say for all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    IncompatibleVersion,
    UnsupportedField,
    InvalidEnvironment,
    Io,
    Decoding,
    InvalidConfig,
    InvalidNetns,
    Internal,
}

impl Code {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decoding => 6,
            Self::InvalidConfig => 7,
            Self::InvalidNetns => 8,
            Self::Internal => 999,
        }
    }
}

impl PluginError {
    fn code(&self) -> u32 {
        let code = match self {
            Self::Call(error) => error.code(),
            Self::Args(_) => Code::InvalidEnvironment,
            Self::Config(error) => error.code(),
            Self::Result(error) => error.code(),
            Self::Netns(error) => error.code(),
            Self::Port(error) => error.code(),
            Self::Delegate(error) => return error.code(),
            Self::Sysctl(_) | Self::Link(_) | Self::Loopback(_) | Self::Address(_) => Code::Internal,
            Self::Bridge(_) | Self::Firewall(_) => Code::Internal,
        };
        code.number()
    }

    /// The specification's error object.
    pub(crate) fn to_json(&self, version: Version) -> Value {
        let message: String = with_sources(self).chars().take(LONGEST).collect();
        json!({ "cniVersion": version.as_str(), "code": self.code(), "msg": message, "details": "" })
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
