//! `io.containerd.runtime.v2.task`: where shims come from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Shims, ShimsConfig};
use crate::ids::Namespace;
use crate::plugin::{Exports, InitContext, NodePaths, Registration, kinds};

/// Makes the shims of a namespace reachable.
#[derive(Clone, Debug)]
pub struct Runtime {
    node: NodePaths,
    binary: PathBuf,
    cgroup: String,
}

impl Runtime {
    pub fn shims(&self, namespace: &Namespace) -> Shims {
        Shims::new(ShimsConfig {
            state: self.node.state.clone(),
            namespace: namespace.to_string(),
            address: self.node.address.clone(),
            binary: self.binary.clone(),
            cgroup: self.cgroup.clone(),
        })
    }

    /// The running daemon's own binary.
    pub fn daemon_binary(&self) -> &Path {
        &self.binary
    }
}

pub fn registration() -> Registration {
    Registration::new(kinds::RUNTIME, "task", &[], |context: InitContext, config: TaskConfig| async move {
        let binary = std::env::current_exe()?;
        Ok(Exports::of(Runtime { node: context.node, binary, cgroup: config.shim_cgroup }))
    })
}

/// `plugins."io.containerd.runtime.v2.task"`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
struct TaskConfig {
    /// orlop's own: the cgroup of every shim, below the root of each hierarchy. Never a pod's: the kubelet kills what
    /// it finds there.
    shim_cgroup: String,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self { shim_cgroup: "/orlop/shims".to_owned() }
    }
}
