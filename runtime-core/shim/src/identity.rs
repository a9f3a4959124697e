//! Which process a shim is: pid, start time and boot, so that a pid that was used again is never taken for it.
//!
//! `<bundle>/shim.pid` is one line, `<pid> <start time in clock ticks since boot> <boot id>`, written by the shim before
//! `start` answers.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use runtime_sys::proc;
use thiserror::Error;

/// A process of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessIdentity {
    pub pid: u32,
    /// Clock ticks between boot and start (field 22 of /proc/pid/stat).
    pub start_time: u64,
    pub boot_id: String,
}

/// An identity cannot be read or written.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// Input or output failed.
    #[error("{step} {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not in the format.
    #[error("{path} does not name a process: {content:?}")]
    Damaged { path: PathBuf, content: String },
}

/// There is no such process, or file.
#[must_use]
pub fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

impl ProcessIdentity {
    /// The identity of a process that is alive.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, start_time: proc::start_time(pid)?, boot_id: proc::boot_id()? })
    }

    /// Whether that very process is still alive; a zombie is not. One that cannot be looked at, with no descriptor
    /// left for it, is alive: whoever takes it for dead kills what it holds.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let of_this_boot = proc::boot_id().map_or(true, |boot| boot == self.boot_id);
        of_this_boot
            && match proc::stat(self.pid) {
                Ok(stat) => stat.start_time == self.start_time && !stat.is_zombie(),
                Err(error) => !is_absent(&error),
            }
    }

    /// Reads a `shim.pid`.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        let content = std::fs::read_to_string(path).map_err(|source| IdentityError::Io {
            step: "read",
            path: path.into(),
            source,
        })?;
        Self::parse(&content).ok_or_else(|| IdentityError::Damaged { path: path.into(), content })
    }

    /// Writes a `shim.pid`, replacing an older one in one step.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn write(&self, path: &Path) -> Result<(), IdentityError> {
        let failed = |step| move |source| IdentityError::Io { step, path: path.into(), source };
        let fresh = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(failed("create"))?;
        writeln!(file, "{} {} {}", self.pid, self.start_time, self.boot_id).map_err(failed("write"))?;
        std::fs::rename(&fresh, path).map_err(failed("rename"))
    }

    fn parse(content: &str) -> Option<Self> {
        let mut words = content.strip_suffix('\n')?.split(' ');
        let identity = Self {
            pid: words.next()?.parse().ok()?,
            start_time: words.next()?.parse().ok()?,
            boot_id: words.next()?.to_owned(),
        };
        words.next().is_none().then_some(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_impostors_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shim.pid");
        let own = ProcessIdentity::of(std::process::id()).unwrap();
        own.write(&path).unwrap();
        assert_eq!(ProcessIdentity::read(&path).unwrap(), own);
        assert!(own.is_alive());
        assert!(!ProcessIdentity { start_time: own.start_time + 1, ..own.clone() }.is_alive());
        assert!(!ProcessIdentity { boot_id: "another".into(), ..own }.is_alive());
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        for content in ["", "1 2", "x 2 boot\n", "1 2 boot 3\n"] {
            assert_eq!(ProcessIdentity::parse(content), None, "{content:?}");
        }
    }
}
