//! `io.containerd.runtime.v2.task`: where shims come from.

use std::path::{Path, PathBuf};

use super::{Shims, ShimsConfig};
use crate::ids::Namespace;
use crate::plugin::{Exports, InitContext, InitError, NodePaths, Registration, kinds};

/// Makes the shims of a namespace reachable.
#[derive(Clone, Debug)]
pub struct Runtime {
    node: NodePaths,
    binary: PathBuf,
}

impl Runtime {
    pub fn shims(&self, namespace: &Namespace) -> Shims {
        Shims::new(ShimsConfig {
            state: self.node.state.clone(),
            namespace: namespace.to_string(),
            address: self.node.address.clone(),
            binary: self.binary.clone(),
        })
    }

    /// The running daemon's own binary.
    pub fn daemon_binary(&self) -> &Path {
        &self.binary
    }
}

pub fn registration() -> Registration {
    Registration::new(kinds::RUNTIME, "task", &[], |context: InitContext, _: toml::Table| async move {
        init(context)
    })
}

fn init(context: InitContext) -> Result<Exports, InitError> {
    let binary = std::env::current_exe()?;
    Ok(Exports::of(Runtime { node: context.node, binary }))
}
