//! Waiting for children of the whole process: subreaper, SIGCHLD as a descriptor, waitid(2).
//!
//! The rule that keeps pids safe is the caller's: exactly one place reaps, and a pid is only signalled while that place
//! has not reaped it.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::EventfdFlags;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::pidfd::Exit;

/// Makes orphaned descendants the children of this process.
///
/// # Errors
/// Never on Linux 3.4 and newer.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Where the handler of SIGCHLD leaves its mark; -1 before [`sigchld_descriptor`].
static CHILD_EVENT: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_sigchld(_signal: libc::c_int) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: returns the address of this thread's errno, which is valid as long as the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: see above.
    let before = unsafe { *errno };
    // SAFETY: write(2) is async-signal-safe; the buffer lives on this stack. A full counter is as good as one more.
    unsafe { libc::write(CHILD_EVENT.load(Ordering::Relaxed), one.as_ptr().cast(), one.len()) };
    // SAFETY: see above; the interrupted code must not see our errno.
    unsafe { *errno = before };
}

extern "C" fn on_ignored(_signal: libc::c_int) {}

/// A non-blocking descriptor (eventfd) that is readable after a SIGCHLD. To be called once in a process.
///
/// The signal is handled, not blocked: a handler does not survive exec, a mask would, and reach containers.
///
/// # Errors
/// When descriptors run out.
pub fn sigchld_descriptor() -> io::Result<OwnedFd> {
    let event = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    // The handler's own copy is never closed.
    let copy = rustix::io::fcntl_dupfd_cloexec(&event, 3)?;
    CHILD_EVENT.store(copy.into_raw_fd(), Ordering::Relaxed);
    handle(libc::SIGCHLD, on_sigchld)?;
    Ok(event)
}

/// Makes a signal do nothing to this process, and what it always does to programs that it starts.
///
/// # Errors
/// EINVAL for a number that is no signal or cannot be handled.
pub fn disregard(number: i32) -> io::Result<()> {
    handle(number, on_ignored)
}

fn handle(number: i32, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sigaction: default handler, empty mask, no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised, its handler only does what is async-signal-safe; no old action is asked for.
    let result = unsafe { libc::sigaction(number, &raw const action, std::ptr::null_mut()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a signal by number, real-time signals included, to a child that has not been reaped.
///
/// # Errors
/// EINVAL for a number that is no signal, ESRCH when there is no such process.
pub fn signal_child(pid: Pid, number: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes two integers and touches no memory. A `Pid` is positive, so no group is meant.
    let result = unsafe { libc::kill(pid.as_raw_nonzero().get(), number) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reaps one child if it has ended; `None` while it lives.
///
/// # Errors
/// ECHILD when it is no child (any more).
pub fn try_reap(pid: Pid) -> io::Result<Option<Exit>> {
    reap(WaitId::Pid(pid)).map(|reaped| reaped.map(|(_, exit)| exit))
}

/// Reaps any child that has ended; `None` when there is none.
///
/// # Errors
/// Those of waitid(2); having no children is none of them.
pub fn try_reap_any() -> io::Result<Option<(Pid, Exit)>> {
    match reap(WaitId::All) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        reaped => reaped,
    }
}

fn reap(whom: WaitId<'_>) -> io::Result<Option<(Pid, Exit)>> {
    // rustix's waitid does not tell the pid, so the call is made here.
    let (kind, id) = match whom {
        WaitId::Pid(pid) => {
            (libc::P_PID, libc::id_t::try_from(pid.as_raw_nonzero().get()).map_err(io::Error::other)?)
        }
        _ => (libc::P_ALL, 0),
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    // SAFETY: all-zero bytes are a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is a live, exclusively borrowed siginfo_t.
        let result = unsafe { libc::waitid(kind, id, &raw mut info, options.bits().cast_signed()) };
        if result == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(Errno::INTR.raw_os_error()) {
            return Err(error);
        }
    }
    // SAFETY: waitid succeeded, so the fields of a SIGCHLD are filled in, or all zero when nothing ended.
    let pid = unsafe { info.si_pid() };
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let byte = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
    let exit = if info.si_code == libc::CLD_EXITED { Exit::Code(byte) } else { Exit::Signal(byte) };
    Ok(Some((pid, exit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::Spawn;

    #[test]
    fn a_live_child_is_not_reaped_and_a_dead_one_once() {
        let child = Spawn::new("/bin/sh").args(["-c", "read x; exit 3"]).stdin(crate::spawn::Stdio::Null);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let child = child.stdin(crate::spawn::Stdio::Fd(reader)).start().unwrap();
        let pid = child.pid();
        assert_eq!(try_reap(pid).unwrap(), None);
        rustix::io::write(&writer, b"\n").unwrap();
        let mut polled =
            [rustix::event::PollFd::from_borrowed_fd(child.pidfd(), rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut polled, None).unwrap();
        assert_eq!(try_reap(pid).unwrap(), Some(Exit::Code(3)));
        assert_eq!(try_reap(pid).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}
