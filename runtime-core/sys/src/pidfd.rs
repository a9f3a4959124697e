//! Processes by descriptor: a pidfd never comes to mean another process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

impl Exit {
    /// The code as a shell tells it: 128 + signal number after a signal.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }

    pub(crate) fn from_status(status: &WaitIdStatus) -> Option<Self> {
        let byte = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
        if let Some(code) = status.exit_status() {
            return Some(Self::Code(byte(code)));
        }
        status.terminating_signal().map(|signal| Self::Signal(byte(signal)))
    }
}

/// Opens a process. Whether the pid still names the process that is meant is the caller's knowledge (it is a child that
/// nobody has reaped, or its start time is compared afterwards).
///
/// # Errors
/// `NotFound`-like (ESRCH) when there is none.
pub fn open(pid: Pid) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal.
///
/// # Errors
/// ESRCH when it has been reaped.
pub fn send_signal(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
}

/// Sends a signal by number, real-time signals included.
///
/// # Errors
/// EINVAL for a number that is no signal, ESRCH when the process has been reaped.
pub fn send_signal_number(pidfd: impl AsFd, number: i32) -> io::Result<()> {
    let descriptor = pidfd.as_fd().as_raw_fd();
    let no_information = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed for the call; a null siginfo is allowed, the kernel then fills in its own.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, number, no_information, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for a child and reaps it.
///
/// # Errors
/// ECHILD when it is not a child, or was reaped.
pub fn wait(pidfd: impl AsFd) -> io::Result<Exit> {
    loop {
        let waited = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        match waited {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(status) => {
                return status
                    .as_ref()
                    .and_then(Exit::from_status)
                    .ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::Spawn;

    #[test]
    fn codes_and_signals_are_told_apart() {
        let child = Spawn::new("/bin/sh").args(["-c", "exit 7"]).start().unwrap();
        assert_eq!(wait(child.pidfd()).unwrap(), Exit::Code(7));
        let child = Spawn::new("/bin/sleep").arg("1000").start().unwrap();
        send_signal(child.pidfd(), Signal::KILL).unwrap();
        assert_eq!(wait(child.pidfd()).unwrap().shell_code(), 137);
        assert!(send_signal(child.pidfd(), Signal::KILL).is_err());
    }
}
