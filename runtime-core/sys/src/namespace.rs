//! Making namespaces that outlive their maker: a short-lived thread enters new ones, a bind mount keeps each.

mod interior;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use thiserror::Error;

use crate::mount;

/// Stack of the threads that enter namespaces.
const STACK: usize = 64 << 10;
/// The same, of a thread that runs a caller's function.
const CALLER_STACK: usize = 512 << 10;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ipc,
    Uts,
    Net,
}

impl Kind {
    fn flag(self) -> UnshareFlags {
        match self {
            Self::Ipc => UnshareFlags::NEWIPC,
            Self::Uts => UnshareFlags::NEWUTS,
            Self::Net => UnshareFlags::NEWNET,
        }
    }

    fn proc_name(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Net => "net",
        }
    }
}

/// A namespace to make and the file that keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    pub kind: Kind,
    /// File and folder are made.
    pub path: PathBuf,
    /// For a pin in a folder that is shared with others: a link to `path`, made before it, by which it is found again
    /// (see [`unpin_recorded`]). Then a file that is at `path` already is somebody else's, and an error.
    pub record: Option<PathBuf>,
}

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// As the user wrote it, for messages.
    pub name: String,
    /// Below /proc/sys.
    pub path: PathBuf,
    pub value: String,
}

/// Namespaces to make. A network namespace gets its loopback interface set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinSpec {
    pub pins: Vec<Pin>,
    /// Host name of the UTS namespace, when one is made.
    pub hostname: Option<String>,
    /// Set inside. Whether a parameter belongs to one of the new namespaces is the caller's knowledge: one that does
    /// not changes the node.
    pub sysctls: Vec<Sysctl>,
}

/// Namespaces could not be made or given back.
#[derive(Debug, Error)]
pub enum NamespaceError {
    #[error("{step} {path}")]
    Step {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The kernel does not take a parameter.
    #[error("set sysctl {name} to {value:?}")]
    Sysctl {
        name: String,
        value: String,
        #[source]
        source: io::Error,
    },
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NamespaceError {
    move |source| NamespaceError::Step { step, path: path.into(), source }
}

/// Makes and pins namespaces. On failure nothing is left pinned.
///
/// # Errors
/// Names the step and the pin's file, or the sysctl.
pub fn make_and_pin(spec: &PinSpec) -> Result<(), NamespaceError> {
    let Some(first) = spec.pins.first() else {
        return Ok(());
    };
    let mut prepared = 0;
    let result = prepare_all(&spec.pins, &mut prepared)
        .and_then(|()| in_thread(STACK, || enter_and_pin(spec)).map_err(failed("enter", &first.path))?);
    if result.is_err() {
        for pin in spec.pins.iter().take(prepared) {
            // The failure that is told is the first one.
            let _ = unpin(&pin.path);
            let _ = pin.record.as_ref().map(fs::remove_file);
        }
    }
    result
}

/// Runs `f` in a short-lived thread that is in a pinned network namespace.
///
/// # Errors
/// When the pin is not one of a network namespace, or the thread cannot be had.
pub fn run_in<T: Send>(pin: &Path, f: impl FnOnce() -> T + Send) -> io::Result<T> {
    let pin = File::open(pin)?;
    in_thread(CALLER_STACK, move || {
        rustix::thread::move_into_link_name_space(pin.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(f())
    })?
}

/// Runs something that changes its thread in one that ends with it.
fn in_thread<T: Send>(stack: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| io::Error::other("the thread panicked"))
    })
}

fn prepare_all(pins: &[Pin], prepared: &mut usize) -> Result<(), NamespaceError> {
    for pin in pins {
        prepare(pin)?;
        *prepared += 1;
    }
    Ok(())
}

/// Makes the pin's file, and before it the record of where it will be.
fn prepare(pin: &Pin) -> Result<(), NamespaceError> {
    let path = &pin.path;
    let Some(record) = &pin.record else {
        return make_file(path);
    };
    make_folder(path)?;
    make_folder(record)?;
    if path.symlink_metadata().is_ok() {
        return Err(failed("make the namespace pin", path)(io::ErrorKind::AlreadyExists.into()));
    }
    symlink(path, record).map_err(failed("record the namespace pin", path))?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path);
    made.map(drop).map_err(|error| {
        // What came in between is not ours to clear.
        let _ = fs::remove_file(record);
        failed("make the namespace pin", path)(error)
    })
}

fn make_file(path: &Path) -> Result<(), NamespaceError> {
    make_folder(path)?;
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o444).open(path);
    made.map(drop).map_err(failed("make the namespace pin", path))
}

fn make_folder(file: &Path) -> Result<(), NamespaceError> {
    let Some(folder) = file.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(failed("make the folder of the namespace pin", file))
}

fn enter_and_pin(spec: &PinSpec) -> Result<(), NamespaceError> {
    let flags = spec.pins.iter().fold(UnshareFlags::empty(), |flags, pin| flags | pin.kind.flag());
    let path = spec.pins.first().map_or(Path::new(""), |pin| &pin.path);
    // SAFETY: only this thread changes, it shares nothing that the new namespaces affect (no CLONE_FILES, no
    // CLONE_FS), and it ends right after.
    unsafe { rustix::thread::unshare_unsafe(flags) }
        .map_err(|error| failed("make the namespace of", path)(error.into()))?;
    if flags.contains(UnshareFlags::NEWNET) {
        interior::loopback_up().map_err(failed("set the loopback interface up for", path))?;
    }
    if let Some(hostname) = spec.hostname.as_ref().filter(|_| flags.contains(UnshareFlags::NEWUTS)) {
        rustix::system::sethostname(hostname.as_bytes())
            .map_err(|error| failed("set the host name in", path)(error.into()))?;
    }
    for Sysctl { name, path, value } in &spec.sysctls {
        interior::write_sysctl(path, value).map_err(|source| NamespaceError::Sysctl {
            name: name.clone(),
            value: value.clone(),
            source,
        })?;
    }
    for pin in &spec.pins {
        let source = PathBuf::from(format!("/proc/thread-self/ns/{}", pin.kind.proc_name()));
        mount::bind(&source, &pin.path).map_err(failed("pin the namespace at", &pin.path))?;
    }
    Ok(())
}

/// Pins the pid namespace of a process at a file that is made. That the pid still is the process's is the caller's
/// knowledge.
///
/// # Errors
/// Names the pin's file.
pub fn pin_pid_namespace(pid: Pid, path: &Path) -> Result<(), NamespaceError> {
    make_file(path)?;
    let source = PathBuf::from(format!("/proc/{}/ns/pid", pid.as_raw_nonzero()));
    mount::bind(&source, path).map_err(failed("pin the pid namespace at", path)).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Gives a pinned namespace back; success when that is already done.
///
/// # Errors
/// Names the pin's file.
pub fn unpin(path: &Path) -> Result<(), NamespaceError> {
    mount::unmount(path, UnmountFlags::DETACH).map_err(failed("unpin the namespace at", path))?;
    remove(path)
}

/// Gives a namespace back whose pin was recorded (see [`Pin::record`]), also when someone has unmounted or removed the
/// pin. What lies there instead, and is no pin, stays.
///
/// # Errors
/// Names the pin's file; the record is kept then.
pub fn unpin_recorded(record: &Path) -> Result<(), NamespaceError> {
    let path = match fs::read_link(record) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read the record of a namespace pin", record)(error)),
    };
    if is_pinned(&path) {
        mount::unmount(&path, UnmountFlags::DETACH).map_err(failed("unpin the namespace at", &path))?;
    }
    if path.symlink_metadata().is_ok_and(|data| data.is_file() && data.len() == 0) {
        remove(&path)?;
    }
    remove(record)
}

fn remove(path: &Path) -> Result<(), NamespaceError> {
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
mod tests;
