//! The exit file of a container, `<bundle>/exit`: how its first process ended.
//!
//! The shim writes it before anyone is told; with the process's pidfd it is the truth about an exit. One line of text,
//! `orlop-exit 1 <code> <unix nanoseconds> <oom 0|1> <pid>`, put in place by a rename, so that a reader sees all or
//! nothing. It lives as long as the boot; nothing is synced.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

const MAGIC: &str = "orlop-exit";
const VERSION: &str = "1";
/// Longer than any valid file.
const MAX_SIZE: u64 = 128;

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// 0 to 255; 128 + signal number when a signal ended it.
    pub code: u8,
    /// Nanoseconds since the Unix epoch, when the shim reaped it.
    pub at_unix_nanos: i64,
    /// The kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// As the shim's pid namespace numbered it.
    pub pid: u32,
}

/// The exit file cannot be read or written.
#[derive(Debug, Error)]
pub enum ExitFileError {
    /// The container has not exited.
    #[error("there is no exit file {path}")]
    Absent { path: PathBuf },
    /// Not in the format, or of a newer version.
    #[error("exit file {path} is not understood: {content:?}")]
    Damaged { path: PathBuf, content: String },
    /// Input or output failed.
    #[error("{step} exit file {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Writes the exit file, replacing an older one in one step.
///
/// # Errors
/// When the folder is gone or full.
pub fn write(path: &Path, record: &ExitRecord) -> Result<(), ExitFileError> {
    let failed = |step| move |source| ExitFileError::Io { step, path: path.into(), source };
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(failed("create"))?;
    file.write_all(encode(record).as_bytes()).map_err(failed("write"))?;
    std::fs::rename(&fresh, path).map_err(failed("rename"))
}

/// Reads the exit file.
///
/// # Errors
/// See [`ExitFileError`].
pub fn read(path: &Path) -> Result<ExitRecord, ExitFileError> {
    let failed = |step| move |source| ExitFileError::Io { step, path: path.into(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ExitFileError::Absent { path: path.into() });
        }
        opened => opened.map_err(failed("open"))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut bytes).map_err(failed("read"))?;
    let content = String::from_utf8_lossy(&bytes);
    decode(&content)
        .ok_or_else(|| ExitFileError::Damaged { path: path.into(), content: content.into_owned() })
}

fn encode(record: &ExitRecord) -> String {
    let ExitRecord { code, at_unix_nanos, oom_killed, pid } = record;
    format!("{MAGIC} {VERSION} {code} {at_unix_nanos} {} {pid}\n", u8::from(*oom_killed))
}

fn decode(content: &str) -> Option<ExitRecord> {
    let mut words = content.strip_suffix('\n')?.split(' ');
    if words.next()? != MAGIC || words.next()? != VERSION {
        return None;
    }
    let record = ExitRecord {
        code: words.next()?.parse().ok()?,
        at_unix_nanos: words.next()?.parse().ok()?,
        oom_killed: match words.next()? {
            "0" => false,
            "1" => true,
            _ => return None,
        },
        pid: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_come_back(code: u8, at_unix_nanos: i64, oom_killed: bool, pid: u32) {
            let record = ExitRecord { code, at_unix_nanos, oom_killed, pid };
            let text = encode(&record);
            prop_assert!(text.len() < usize::try_from(MAX_SIZE).unwrap());
            prop_assert_eq!(decode(&text), Some(record));
            for end in 0..text.len() {
                prop_assert_eq!(decode(&text[..end]), None);
            }
        }
    }

    #[test]
    fn garbage_absence_and_newer_versions_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exit");
        assert!(matches!(read(&path), Err(ExitFileError::Absent { .. })));
        for text in [
            "",
            "\n",
            "orlop-exit 2 0 0 0 0\n",
            "orlop-exit 1 256 0 0 0\n",
            "orlop-exit 1 0 0 2 0\n",
            "\u{fffd}",
        ] {
            File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            assert!(matches!(read(&path), Err(ExitFileError::Damaged { .. })), "{text:?}");
        }
        let record = ExitRecord { code: 137, at_unix_nanos: 5, oom_killed: true, pid: 42 };
        write(&path, &record).unwrap();
        assert_eq!(read(&path).unwrap(), record);
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }
}
