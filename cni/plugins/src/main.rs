//! CNI plugins for nodes that have none installed: one binary, the name it is called by picks the plugin.
//!
//! A process makes one call and ends: no task, no lock but the one on a network's addresses, no state but the kernel's
//! and the files of `host-local`. Every plugin answers as the reference plugin of the same name does, keeps the same
//! files and writes the same rules, so that a node can go from one set to the other with its pods running.
//! Configuration, earlier results and arguments are taken as hostile.

mod args;
mod bridge;
mod call;
mod config;
mod delegate;
mod error;
mod firewall;
mod host_local;
mod install;
mod loopback;
mod masquerade;
mod netlink;
mod netns;
mod portmap;
mod prefix;
mod program;
mod result;
mod sysctl;
mod version;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::call::{Call, Request};
use crate::error::PluginError;
use crate::version::Version;

const USAGE: &str = "usage: orlop-cni bridge|host-local|loopback|portmap   (a CNI call: variables and stdin)
       orlop-cni install DIR                       (links with these names in DIR)";

/// A plugin of this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugin {
    Bridge,
    HostLocal,
    Loopback,
    Portmap,
}

impl Plugin {
    const ALL: [Self; 4] = [Self::Bridge, Self::HostLocal, Self::Loopback, Self::Portmap];

    fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::HostLocal => "host-local",
            Self::Loopback => "loopback",
            Self::Portmap => "portmap",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }
}

/// What the command line asks for.
enum Task {
    Call(Plugin),
    Install(PathBuf),
}

fn main() -> ExitCode {
    match task(std::env::args_os()) {
        Some(Task::Call(plugin)) => answer(plugin),
        Some(Task::Install(folder)) => match install::install(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("orlop-cni: {}", error::with_sources(&error));
                ExitCode::FAILURE
            }
        },
        None => {
            eprintln!("{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn task(mut words: impl Iterator<Item = OsString>) -> Option<Task> {
    let called = words.next()?;
    let name = Path::new(&called).file_name()?.to_str()?.to_owned();
    if let Some(plugin) = Plugin::named(&name) {
        return Some(Task::Call(plugin));
    }
    let word = words.next()?;
    match (word.to_str()?, words.next()) {
        ("install", Some(folder)) => Some(Task::Install(folder.into())),
        (name, None) => Plugin::named(name).map(Task::Call),
        _ => None,
    }
}

/// Makes the call that the environment describes. The answer goes to stdout, also when it is an error.
fn answer(plugin: Plugin) -> ExitCode {
    let (answer, code) = match Request::read() {
        Ok(Request::Nothing) => {
            eprintln!("CNI plugin {} (orlop-cni {})", plugin.name(), env!("CARGO_PKG_VERSION"));
            eprintln!("CNI protocol versions supported: {}", Version::names().join(", "));
            (None, ExitCode::SUCCESS)
        }
        Ok(Request::Version) => (Some(version::supported()), ExitCode::SUCCESS),
        Ok(Request::Call(call)) => match run(plugin, &call) {
            Ok(answer) => (answer, ExitCode::SUCCESS),
            Err(error) => (Some(error.to_json(call.version)), ExitCode::FAILURE),
        },
        Err(error) => (Some(PluginError::from(error).to_json(Version::NEWEST)), ExitCode::FAILURE),
    };
    let text = answer.map(|answer| answer.to_string()).unwrap_or_default();
    // Nobody is left to tell when the reader is gone.
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// ADD has a result, the other verbs none.
fn run(plugin: Plugin, call: &Call) -> Result<Option<Value>, PluginError> {
    let result = match plugin {
        Plugin::Bridge => bridge::run(call),
        Plugin::HostLocal => host_local::run(call),
        Plugin::Loopback => loopback::run(call),
        Plugin::Portmap => portmap::run(call),
    }?;
    Ok(result.map(|result| result.to_json(call.version)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(words: &[&str]) -> Option<&'static str> {
        match task(words.iter().map(OsString::from))? {
            Task::Call(plugin) => Some(plugin.name()),
            Task::Install(_) => Some("install"),
        }
    }

    #[test]
    fn the_name_picks_the_plugin() {
        assert_eq!(picked(&["/opt/cni/bin/bridge"]), Some("bridge"));
        assert_eq!(picked(&["./host-local", "ignored"]), Some("host-local"));
        assert_eq!(picked(&["/usr/bin/orlop-cni", "portmap"]), Some("portmap"));
        assert_eq!(picked(&["orlop-cni", "install", "/opt/cni/bin"]), Some("install"));
        for words in [&["orlop-cni"][..], &["orlop-cni", "install"], &["orlop-cni", "ptp"], &[]] {
            assert_eq!(picked(words), None, "{words:?}");
        }
    }
}
