//! The few things of a bundle's `config.json` (OCI runtime specification) that the shim itself has to know.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// What the shim knows about a container's specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BundleConfig {
    /// Its first process has a pid namespace of its own: the kernel kills the others with it.
    pub(crate) own_pid_namespace: bool,
    /// It wants a terminal.
    pub(crate) terminal: bool,
    /// Its cgroup, as the OCI runtime was told; a path for cgroupfs, another syntax for systemd.
    pub(crate) cgroups_path: Option<String>,
}

/// A bundle's configuration cannot be read.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("open {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("parse {path}")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    process: Option<Process>,
    #[serde(default)]
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Process {
    #[serde(default)]
    terminal: bool,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Option<Vec<Namespace>>,
    #[serde(default, rename = "cgroupsPath")]
    cgroups_path: Option<String>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: Option<String>,
}

/// Reads `config.json`.
pub(crate) fn read(path: &Path) -> Result<BundleConfig, ConfigError> {
    let file = File::open(path).map_err(|source| ConfigError::Open { path: path.into(), source })?;
    let spec = serde_json::from_reader(BufReader::new(file))
        .map_err(|source| ConfigError::Parse { path: path.into(), source })?;
    Ok(summarise(&spec))
}

fn summarise(spec: &Spec) -> BundleConfig {
    let namespaces = spec.linux.as_ref().and_then(|linux| linux.namespaces.as_deref()).unwrap_or_default();
    let own = |namespace: &Namespace| {
        namespace.kind == "pid" && namespace.path.as_ref().is_none_or(String::is_empty)
    };
    BundleConfig {
        own_pid_namespace: namespaces.iter().any(own),
        terminal: spec.process.as_ref().is_some_and(|process| process.terminal),
        cgroups_path: spec.linux.as_ref().and_then(|linux| linux.cgroups_path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_namespace_is_own_only_when_it_is_made() {
        let own = |json: &str| summarise(&serde_json::from_str(json).unwrap()).own_pid_namespace;
        assert!(own(r#"{"linux":{"namespaces":[{"type":"ipc"},{"type":"pid"}]}}"#));
        assert!(own(r#"{"linux":{"namespaces":[{"type":"pid","path":""}]}}"#));
        assert!(!own(r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}"#));
        assert!(!own(r#"{"linux":{"namespaces":null}}"#));
        assert!(!own("{}"));
    }
}
