//! Faults on purpose: barriers before and after each call of the OCI runtime, the shim and CNI plugins.
//!
//! The barrier's other half is `src/bin/fake_oci.rs`, or `fake_cni.rs`. A barrier is a FIFO: the wrapper opens it for reading when it
//! comes by, which the test sees because its own non-blocking open for writing then succeeds; the wrapper goes on
//! when the test closes it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::{fixture, process, wait};

/// Wrappers of the OCI runtime and the shim in a folder of a node.
pub struct Faults {
    folder: PathBuf,
}

impl Faults {
    /// Puts the wrappers into `folder`.
    pub fn install(folder: &Path, wrapper: &Path, runc: &Path, shim: &Path) -> Self {
        fixture::folder(&folder.join("control"));
        for (name, real) in [("runc", runc), ("shim", shim)] {
            let copy = folder.join(format!("{name}-wrapper"));
            place(wrapper, &copy);
            let link = folder.join(format!("{name}-real"));
            std::os::unix::fs::symlink(real, &link)
                .unwrap_or_else(|error| panic!("link {}: {error}", link.display()));
        }
        Self { folder: folder.to_path_buf() }
    }

    /// Path of the OCI runtime's wrapper.
    pub fn runc(&self) -> PathBuf {
        self.folder.join("runc-wrapper")
    }

    /// Path of the shim's wrapper.
    pub fn shim(&self) -> PathBuf {
        self.folder.join("shim-wrapper")
    }

    /// Makes the next call that comes by `stage` (such as `runc-create.before`) stop there.
    pub fn hold(&self, stage: &str) -> Barrier {
        Barrier::new(&self.folder.join("control").join(stage))
    }
}

/// Puts a program where it is to be run from. A link where the file system allows it: a copy that another thread's
/// fork still holds open for writing could not be executed (ETXTBSY).
pub fn place(program: &Path, at: &Path) {
    std::fs::hard_link(program, at)
        .or_else(|_| std::fs::copy(program, at).map(drop))
        .unwrap_or_else(|error| panic!("copy to {}: {error}", at.display()));
}

/// One stop. Dropping it lets the wrapper go on.
pub struct Barrier {
    fifo: PathBuf,
    held: Option<File>,
}

impl Barrier {
    /// The FIFO that the next wrapper that comes by stops at.
    pub fn new(fifo: &Path) -> Self {
        rustix::fs::mknodat(rustix::fs::CWD, fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap_or_else(|error| panic!("make FIFO {}: {error}", fifo.display()));
        Self { fifo: fifo.to_path_buf(), held: None }
    }

    /// Waits until a wrapper stands at the barrier. Later calls pass it.
    pub fn wait_reached(&mut self) {
        let what = format!("a wrapper comes by {}", self.fifo.display());
        let held = wait::for_some(&what, || self.try_reach());
        self.held = Some(held);
        self.forget();
    }

    /// Whether a wrapper stands at the barrier now; if so, it is held from here on.
    pub fn reached(&mut self) -> bool {
        if self.held.is_none() {
            self.held = self.try_reach();
            if self.held.is_some() {
                self.forget();
            }
        }
        self.held.is_some()
    }

    fn try_reach(&self) -> Option<File> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(&self.fifo, flags, Mode::empty()).ok().map(File::from)
    }

    fn forget(&self) {
        let _ = std::fs::remove_file(&self.fifo);
    }

    /// Lets the wrapper go on.
    pub fn release(self) {}
}

impl Drop for Barrier {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The wrapper's binary.
pub fn wrapper() -> PathBuf {
    process::built("debug/fake_oci")
}
