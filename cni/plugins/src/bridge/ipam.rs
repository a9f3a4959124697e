//! Who gives addresses: `host-local` of this binary without a process, any other plugin as one.

use std::os::unix::fs::MetadataExt;

use super::BridgeError;
use super::config::BridgeConfig;
use crate::call::{Attachment, Call};
use crate::delegate;
use crate::error::PluginError;
use crate::host_local;
use crate::program;
use crate::result::CniResult;

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source<'a> {
    /// None: the container's link is all that is wanted.
    Nobody,
    HostLocal,
    Plugin(&'a str),
}

impl<'a> Source<'a> {
    pub(super) fn of(call: &Call, config: &'a BridgeConfig) -> Self {
        match config.ipam.as_deref() {
            None => Self::Nobody,
            Some("host-local") if host_local_is_ours(call) => Self::HostLocal,
            Some(plugin) => Self::Plugin(plugin),
        }
    }

    pub(super) fn add(&self, call: &Call, at: &Attachment) -> Result<CniResult, PluginError> {
        let (name, result) = match self {
            Self::Nobody => return Ok(CniResult::default()),
            Self::HostLocal => ("host-local", host_local::add(call, at)?.told_in(call.version)?),
            Self::Plugin(plugin) => (*plugin, delegate::call(plugin, call)?.unwrap_or_default()),
        };
        if result.ips.is_empty() { Err(BridgeError::NoAddress(name.to_owned()).into()) } else { Ok(result) }
    }

    /// The command of the call goes to a plugin of its own, so this is for DEL.
    pub(super) fn del(&self, call: &Call, at: &Attachment) -> Result<(), PluginError> {
        match self {
            Self::Nobody => Ok(()),
            Self::HostLocal => host_local::del(call, at),
            Self::Plugin(plugin) => Ok(delegate::call(plugin, call).map(drop)?),
        }
    }

    /// Gives back what [`Self::add`] took in this call.
    pub(super) fn undo(&self, call: &Call, at: &Attachment) -> Result<(), PluginError> {
        match self {
            Self::Nobody => Ok(()),
            Self::HostLocal => host_local::del(call, at),
            Self::Plugin(plugin) => Ok(delegate::undo(plugin, call)?),
        }
    }

    pub(super) fn check(&self, call: &Call, at: &Attachment) -> Result<(), PluginError> {
        match self {
            Self::Nobody => Ok(()),
            Self::HostLocal => host_local::check(call, at),
            Self::Plugin(plugin) => Ok(delegate::call(plugin, call).map(drop)?),
        }
    }
}

pub(super) fn gc(call: &Call, config: &BridgeConfig) -> Result<(), PluginError> {
    match Source::of(call, config) {
        Source::Nobody => Ok(()),
        Source::HostLocal => host_local::gc(call),
        Source::Plugin(plugin) => Ok(delegate::call(plugin, call).map(drop)?),
    }
}

pub(super) fn status(call: &Call, config: &BridgeConfig) -> Result<(), PluginError> {
    match Source::of(call, config) {
        Source::Nobody => Ok(()),
        Source::HostLocal => host_local::run(call).map(drop),
        Source::Plugin(plugin) => Ok(delegate::call(plugin, call).map(drop)?),
    }
}

/// Whether the node's `host-local` is this binary, or there is none.
fn host_local_is_ours(call: &Call) -> bool {
    let mut files = call.path.iter().map(|folder| folder.join("host-local"));
    let Some(found) = files.find(|file| program::is_program(file)) else { return true };
    let identity = |path: &std::path::Path| std::fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    identity(&found).is_some_and(|found| identity("/proc/self/exe".as_ref()) == Some(found))
}
