//! The container's network namespace: named by the runtime, checked before anything is done in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use runtime_sys::namespace;
use thiserror::Error;

use crate::error::Code;

/// Magic numbers of the file systems that namespaces are files of: nsfs (a pin) and proc (`/proc/<pid>/ns/net`).
const NSFS: u64 = 0x6e73_6673;
const PROC: u64 = 0x9fa0;

/// The namespace cannot be used.
#[derive(Debug, Error)]
pub(crate) enum NetnsError {
    #[error("there is no network namespace at {0}")]
    Gone(PathBuf),
    #[error("cannot look at the network namespace {path}")]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0} is no namespace")]
    NotOne(PathBuf),
    #[error("{0} is the namespace of the plugin itself, so of the host")]
    Hosts(PathBuf),
    #[error("cannot enter the network namespace {path}")]
    Enter {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl NetnsError {
    pub(crate) fn code(&self) -> Code {
        Code::InvalidNetns
    }
}

/// A namespace that was there, and is not the host's: what DEL does there would take the node off the network.
#[derive(Debug)]
pub(crate) struct Netns {
    path: PathBuf,
    file: File,
}

impl Netns {
    pub(crate) fn open(path: &Path) -> Result<Self, NetnsError> {
        let look = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => NetnsError::Gone(path.into()),
            _ => NetnsError::Look { path: path.into(), source },
        };
        let file = File::open(path).map_err(look)?;
        let kind = rustix::fs::fstatfs(&file).map_err(|error| look(error.into()))?.f_type;
        if !u64::try_from(kind).is_ok_and(|kind| [NSFS, PROC].contains(&kind)) {
            return Err(NetnsError::NotOne(path.into()));
        }
        let identity = |data: std::fs::Metadata| (data.dev(), data.ino());
        let own = std::fs::metadata("/proc/thread-self/ns/net").map(identity).map_err(look)?;
        if file.metadata().map(identity).map_err(look)? == own {
            return Err(NetnsError::Hosts(path.into()));
        }
        Ok(Self { path: path.into(), file })
    }

    /// For DEL: a namespace that is gone has nothing to clean.
    pub(crate) fn open_if_there(path: Option<&Path>) -> Result<Option<Self>, NetnsError> {
        match path.map(Self::open) {
            None | Some(Err(NetnsError::Gone(_))) => Ok(None),
            Some(Ok(netns)) => Ok(Some(netns)),
            Some(Err(error)) => Err(error),
        }
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// As it stands in a result.
    pub(crate) fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Does it on a thread inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        // The file that was checked, whatever the path is by now.
        let opened = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        namespace::run_in(&opened, work)
            .map_err(|source| NetnsError::Enter { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_namespace_will_do() {
        let open = |path: &str| Netns::open(Path::new(path)).unwrap_err();
        assert!(matches!(open("/proc/self/ns/net"), NetnsError::Hosts(_)));
        assert!(matches!(open("/nonexistent/a"), NetnsError::Gone(_)));
        assert!(matches!(open("/etc/passwd"), NetnsError::NotOne(_)));
        assert!(Netns::open_if_there(Some(Path::new("/nonexistent/a"))).unwrap().is_none());
        assert!(Netns::open_if_there(None).unwrap().is_none());
    }
}
