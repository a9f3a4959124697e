//! Where a shim's files lie: bundle, pins, socket, runtime state. Pure paths, shared by daemon and shim.
//!
//! Everything is computed from the state folder, the namespace and the id, so that a daemon finds a shim again without
//! any record of it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Folder of all bundles below the state folder; named as containerd names its plugin.
pub const BUNDLES: &str = "io.containerd.runtime.v2.task";

/// A namespace that the shim pins for a pod in its bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedNamespace {
    Ipc,
    Uts,
    /// That of the holder, the task with the sandbox's own id, if there is one.
    Pid,
}

/// Folder of a container or sandbox: `<state>/io.containerd.runtime.v2.task/<namespace>/<id>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle(PathBuf);

impl Bundle {
    /// Any folder as a bundle.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The bundle of an id.
    #[must_use]
    pub fn of(state: &Path, namespace: &str, id: &str) -> Self {
        Self(state.join(BUNDLES).join(namespace).join(id))
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// OCI runtime specification, JSON.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// Where the root filesystem is mounted.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// See `exit_file`.
    #[must_use]
    pub fn exit_file(&self) -> PathBuf {
        self.0.join("exit")
    }

    /// See `identity`; only in a sandbox's bundle, or in that of a container with a shim of its own.
    #[must_use]
    pub fn shim_pid(&self) -> PathBuf {
        self.0.join("shim.pid")
    }

    /// What the shim has to say.
    #[must_use]
    pub fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// Pin of a namespace of the pod.
    #[must_use]
    pub fn namespace(&self, namespace: PinnedNamespace) -> PathBuf {
        self.0.join("ns").join(match namespace {
            PinnedNamespace::Ipc => "ipc",
            PinnedNamespace::Uts => "uts",
            PinnedNamespace::Pid => "pid",
        })
    }

    /// Link to the pin of the pod's network namespace, which is in a folder that others see.
    #[must_use]
    pub fn net_record(&self) -> PathBuf {
        self.0.join("ns/net")
    }

    /// tmpfs that the pod's containers have at `/dev/shm`.
    #[must_use]
    pub fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }

    /// What the OCI runtime has to say, JSON lines.
    #[must_use]
    pub fn runtime_log(&self) -> PathBuf {
        self.0.join("log.json")
    }

    /// With which options the OCI runtime was called (`runc.v1.Options`, protobuf), for a later `delete`.
    #[must_use]
    pub fn runtime_options(&self) -> PathBuf {
        self.0.join("options.pb")
    }

    /// Where the OCI runtime writes the pid of the container's first process.
    #[must_use]
    pub fn init_pid(&self) -> PathBuf {
        self.0.join("init.pid")
    }

    /// The state folder, when the bundle lies where [`Bundle::of`] puts it.
    #[must_use]
    pub fn state(&self) -> Option<&Path> {
        let bundles = self.0.parent()?.parent()?;
        (bundles.file_name()? == BUNDLES).then(|| bundles.parent()).flatten()
    }
}

/// Folder of the shims' sockets, mode 0700.
#[must_use]
pub fn socket_folder(state: &Path) -> PathBuf {
    state.join("s")
}

/// Socket of a shim: the folder and the first 16 hex digits of SHA-256 over folder, namespace and id. Short, since a
/// socket's path must not exceed 107 bytes.
#[must_use]
pub fn socket(folder: &Path, namespace: &str, id: &str) -> PathBuf {
    let mut hash = Sha256::new();
    for part in [folder.as_os_str().as_encoded_bytes(), namespace.as_bytes(), id.as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    let mut name = String::new();
    for byte in hash.finalize().iter().take(8) {
        write!(name, "{byte:02x}").expect("writing to a string does not fail");
    }
    folder.join(name)
}

/// Socket of a shim's streams (see `stream`), beside its own.
#[must_use]
pub fn stream_socket(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".io");
    path.into()
}

/// The address that a shim serving `socket` tells.
#[must_use]
pub fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// State folder of the OCI runtime for all containers of a namespace.
#[must_use]
pub fn runtime_root(state: &Path, namespace: &str) -> PathBuf {
    state.join("runc").join(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_knows_its_state_folder_only_in_its_place() {
        let bundle = Bundle::of(Path::new("/run/x"), "k8s.io", "abc");
        assert_eq!(bundle.path(), Path::new("/run/x/io.containerd.runtime.v2.task/k8s.io/abc"));
        assert_eq!(bundle.state(), Some(Path::new("/run/x")));
        assert_eq!(Bundle::at("/tmp/a/b/c").state(), None);
        assert_eq!(Bundle::at("/").state(), None);
    }

    #[test]
    fn sockets_differ_by_folder_namespace_and_id() {
        let paths = [("/s", "a", "bc"), ("/s", "ab", "c"), ("/t", "a", "bc"), ("/s", "a", "bd")]
            .map(|(folder, namespace, id)| socket(Path::new(folder), namespace, id));
        for (index, path) in paths.iter().enumerate() {
            assert_eq!(path.file_name().unwrap().len(), 16);
            assert!(!paths[..index].contains(path));
        }
    }
}
