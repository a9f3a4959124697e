//! Making namespaces that outlive their maker: a short-lived thread enters new ones, a bind mount keeps each.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;
use rustix::thread::UnshareFlags;
use thiserror::Error;

use crate::mount;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ipc,
    Uts,
}

impl Kind {
    fn flag(self) -> UnshareFlags {
        match self {
            Self::Ipc => UnshareFlags::NEWIPC,
            Self::Uts => UnshareFlags::NEWUTS,
        }
    }

    fn proc_name(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Uts => "uts",
        }
    }
}

/// Namespaces to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinSpec {
    /// Each kind with the file that keeps it; files and their folder are made.
    pub pins: Vec<(Kind, PathBuf)>,
    /// Host name of the UTS namespace, when one is made.
    pub hostname: Option<String>,
}

/// Namespaces could not be made.
#[derive(Debug, Error)]
#[error("{step} {path}")]
pub struct NamespaceError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NamespaceError {
    move |source| NamespaceError { step, path: path.into(), source }
}

/// Makes and pins namespaces. On failure nothing is left pinned.
///
/// # Errors
/// Names the step and the pin's file.
pub fn make_and_pin(spec: &PinSpec) -> Result<(), NamespaceError> {
    let Some((_, first)) = spec.pins.first() else {
        return Ok(());
    };
    let result = std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, || in_own_thread(spec));
        let thread = thread.map_err(failed("start a thread for the namespace", first))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failed("make the namespace", first)(io::ErrorKind::Other.into())))
    });
    if result.is_err() {
        for (_, path) in &spec.pins {
            // The failure that is told is the first one.
            let _ = unpin(path);
        }
    }
    result
}

fn in_own_thread(spec: &PinSpec) -> Result<(), NamespaceError> {
    for (kind, path) in &spec.pins {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed("make the folder of the namespace pin", path))?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o444).open(path);
        file.map_err(failed("make the namespace pin", path))?;
        // SAFETY: only this thread changes, it shares nothing that the new namespaces affect (no CLONE_FILES, no
        // CLONE_FS), and it ends right after.
        unsafe { rustix::thread::unshare_unsafe(kind.flag()) }
            .map_err(|error| failed("make the namespace of", path)(error.into()))?;
        if let (Kind::Uts, Some(hostname)) = (kind, &spec.hostname) {
            rustix::system::sethostname(hostname.as_bytes())
                .map_err(|error| failed("set the host name in", path)(error.into()))?;
        }
        let source = PathBuf::from(format!("/proc/thread-self/ns/{}", kind.proc_name()));
        mount::bind(&source, path).map_err(failed("pin the namespace at", path))?;
    }
    Ok(())
}

/// Gives a pinned namespace back; success when that is already done.
///
/// # Errors
/// Names the pin's file.
pub fn unpin(path: &Path) -> Result<(), NamespaceError> {
    mount::unmount(path, UnmountFlags::DETACH).map_err(failed("unpin the namespace at", path))?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove the namespace pin", path)(error))
        }
        _ => Ok(()),
    }
}

/// Whether a file has a namespace pinned on it.
#[must_use]
pub fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == libc::NSFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_root_pins_are_new_namespaces_and_go_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join("ns").join(name);
        let spec = PinSpec {
            pins: vec![(Kind::Ipc, path("ipc")), (Kind::Uts, path("uts"))],
            hostname: Some("pod-name".into()),
        };
        let before = rustix::system::uname();
        make_and_pin(&spec).unwrap();
        assert!(is_pinned(&path("ipc")) && is_pinned(&path("uts")));
        let inode = |path: &Path| rustix::fs::stat(path).unwrap().st_ino;
        assert_ne!(inode(&path("uts")), inode(Path::new("/proc/self/ns/uts")));
        assert_eq!(rustix::system::uname().nodename(), before.nodename());
        for name in ["ipc", "uts", "ipc"] {
            unpin(&path(name)).unwrap();
            assert!(!path(name).exists());
        }
    }

    #[test]
    fn needs_root_a_failure_leaves_no_pin() {
        let folder = tempfile::tempdir().unwrap();
        let (uts, ipc) = (folder.path().join("uts"), folder.path().join("uts/below-a-file"));
        let spec = PinSpec { pins: vec![(Kind::Uts, uts.clone()), (Kind::Ipc, ipc)], hostname: None };
        assert!(make_and_pin(&spec).is_err());
        assert!(!uts.exists());
    }
}
