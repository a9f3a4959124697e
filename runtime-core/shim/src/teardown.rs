//! The inverse of what a shim makes for its pod. The shim calls it when it stops a pod, the daemon when the shim is dead.
//!
//! Everything succeeds when it is already done, and may be repeated after a failure. Blocking.

use std::fs;
use std::io;
use std::path::PathBuf;

use runtime_sys::mount;
use runtime_sys::namespace::{self, NamespaceError};
use thiserror::Error;

use crate::layout::{Bundle, PinnedNamespace};

/// A step of the teardown failed.
#[derive(Debug, Error)]
pub enum TeardownError {
    /// A mount is still there.
    #[error("unmount {path}")]
    Unmount {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A namespace is still pinned.
    #[error("give a namespace of the pod back")]
    Namespace {
        #[source]
        source: NamespaceError,
    },
    /// A folder is still there.
    #[error("remove {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Unmounts the pod's shared memory, unpins its namespaces, removes their folders.
///
/// # Errors
/// See [`TeardownError`].
pub fn pod(bundle: &Bundle) -> Result<(), TeardownError> {
    let shm = bundle.shm();
    unmount(shm.clone())?;
    for pinned in [PinnedNamespace::Ipc, PinnedNamespace::Uts, PinnedNamespace::Pid] {
        let unpinned = namespace::unpin(&bundle.namespace(pinned));
        unpinned.map_err(|source| TeardownError::Namespace { source })?;
    }
    let unpinned = namespace::unpin_recorded(&bundle.net_record());
    unpinned.map_err(|source| TeardownError::Namespace { source })?;
    for path in [shm, bundle.path().join("ns")] {
        match fs::remove_dir(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(TeardownError::Folder { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Unmounts a container's root filesystem.
///
/// # Errors
/// See [`TeardownError`].
pub fn rootfs(bundle: &Bundle) -> Result<(), TeardownError> {
    unmount(bundle.rootfs())
}

fn unmount(path: PathBuf) -> Result<(), TeardownError> {
    mount::unmount_detached(&path).map_err(|source| TeardownError::Unmount { path, source })
}
