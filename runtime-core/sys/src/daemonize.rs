//! Leaving the caller behind: fork into a session of one's own.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use crate::proc;

/// On which side of the fork one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Parent { child: Pid },
    Child,
}

/// Forks; the child leads a session of its own.
///
/// # Errors
/// When this process has more than one thread (the child would have locks that nobody gives back), or when there may
/// be no more processes.
pub fn fork_session() -> io::Result<Side> {
    if proc::own_threads()? != 1 {
        return Err(io::Error::other("fork of a process with several threads"));
    }
    // SAFETY: this is the only thread, so no lock is held by another one and the child may go on as it likes.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if let Some(child) = Pid::from_raw(pid) {
        return Ok(Side::Parent { child });
    }
    rustix::process::setsid()?;
    Ok(Side::Child)
}

/// Replaces the standard streams: `/dev/null`, `/dev/null`, and `stderr`.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub fn replace_standard_streams(stderr: impl AsFd) -> io::Result<()> {
    let null = rustix::fs::open(Path::new("/dev/null"), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(())
}
