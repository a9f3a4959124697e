//! The daemon's two folders: `<root>` for what survives a reboot, `<state>` for what lives as long as the boot.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::plugin::NodePaths;

/// Image data and metadata are nobody's business but root's.
const ROOT_MODE: u32 = 0o700;
/// Containers in user namespaces pass through it to their root filesystem.
const STATE_MODE: u32 = 0o711;
const PRIVATE_MODE: u32 = 0o700;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot {step} {path}")]
    Folder {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the host's boot id")]
    BootId(#[source] io::Error),
}

/// Makes both folders, and `<state>` a mount of its own with private propagation: root filesystems that are
/// mounted below it never show in anybody else's mount namespace.
pub fn prepare(node: &NodePaths) -> Result<(), StateError> {
    folder(&node.root, ROOT_MODE)?;
    folder(&node.state, STATE_MODE)?;
    runtime_sys::mount::make_private(&node.state).map_err(|source| StateError::Folder {
        step: "make a private mount of",
        path: node.state.clone(),
        source,
    })?;
    folder(&pods_folder(&node.state), PRIVATE_MODE)
}

/// Where the pods' journals are.
pub fn pods_folder(state: &Path) -> PathBuf {
    state.join("pods")
}

/// What tells this boot of the host from every other.
pub fn boot_id() -> Result<String, StateError> {
    runtime_sys::proc::boot_id().map_err(StateError::BootId)
}

fn folder(path: &Path, mode: u32) -> Result<(), StateError> {
    let failed = |step| move |source| StateError::Folder { step, path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("make"))?;
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("restrict"))
}
