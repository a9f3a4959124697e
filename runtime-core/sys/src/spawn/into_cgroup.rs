//! Starting a program inside a v2 cgroup: clone3 with `CLONE_INTO_CGROUP`, so that it never was elsewhere and nobody
//! waits for it to be moved. What std's `Command` does otherwise is done here by hand.
//!
//! The child shares the caller's memory until it execs, and the calling thread waits for that, as with posix_spawn:
//! copying the page tables of a daemon takes milliseconds.

mod clone;

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use super::{Child, Spawn, Stdio, empty_set, unblock_signals};
use crate::pidfd;

/// Stack of the child, in bytes.
const STACK: usize = 64 << 10;
/// Linux 5.7; the C library's headers may be older.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Everything that the child needs, made before the fork: the child itself allocates nothing.
struct Plan {
    program: CString,
    // The pointers point into the strings, which live as long.
    _strings: [Vec<CString>; 2],
    args: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    directory: Option<CString>,
    /// For 0, 1 and 2; all above 2 themselves.
    streams: [OwnedFd; 3],
    /// Number of the error that kept the program from running; 0 is none. The child writes it.
    failure: AtomicI32,
}

/// Starts it. `Ok(None)` when the kernel cannot do that, or not there.
pub(super) fn start(spawn: &Spawn, cgroup: BorrowedFd<'_>) -> io::Result<Option<Child>> {
    let plan = Plan::new(spawn)?;
    let forked = with_signals_blocked(|| fork(&plan, cgroup))?;
    let Some((pid, pidfd)) = forked else {
        return Ok(None);
    };
    match plan.failure.load(Ordering::Acquire) {
        0 => Ok(Some(Child { pid, pidfd })),
        number => {
            pidfd::wait(&pidfd)?;
            Err(io::Error::from_raw_os_error(number))
        }
    }
}

impl Plan {
    fn new(spawn: &Spawn) -> io::Result<Self> {
        let mut args = vec![text(spawn.program.as_os_str())?];
        for arg in &spawn.args {
            args.push(text(arg)?);
        }
        let mut environment = Vec::new();
        for (name, value) in &spawn.environment {
            let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
            environment.push(CString::new(pair)?);
        }
        Ok(Self {
            program: text(look_up(&spawn.program)?.as_os_str())?,
            args: pointers(&args),
            environment: pointers(&environment),
            _strings: [args, environment],
            directory: spawn.directory.as_ref().map(|folder| text(folder.as_os_str())).transpose()?,
            streams: [stream(&spawn.stdin)?, stream(&spawn.stdout)?, stream(&spawn.stderr)?],
            failure: AtomicI32::new(0),
        })
    }

    /// Becomes the program, in the child. Returns only why not.
    fn become_program(&self) -> io::Error {
        match self.prepare() {
            Err(error) => error,
            Ok(()) => {
                // SAFETY: program, arguments and environment are strings of the plan, the lists end with null.
                unsafe { libc::execve(self.program.as_ptr(), self.args.as_ptr(), self.environment.as_ptr()) };
                io::Error::last_os_error()
            }
        }
    }

    fn prepare(&self) -> io::Result<()> {
        default_signals();
        rustix::process::setpgid(None, None)?;
        if let Some(directory) = &self.directory {
            rustix::process::chdir(directory.as_c_str())?;
        }
        for (descriptor, number) in self.streams.iter().zip(0..) {
            // SAFETY: dup2(2) takes two integers; what had the number before is the child's alone.
            if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        unblock_signals()
    }
}

/// Forks into the cgroup; returns when the child has become the program, or cannot.
fn fork(plan: &Plan, cgroup: BorrowedFd<'_>) -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut descriptor: RawFd = -1;
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    // SAFETY: all-zero bytes are a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    let flags = libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_VFORK;
    args.flags = u64::from(flags.cast_unsigned()) | CLONE_INTO_CGROUP;
    args.pidfd = (&raw mut descriptor) as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    args.stack = stack.as_mut_ptr() as u64;
    args.stack_size = STACK as u64;
    // SAFETY: the stack is the child's alone, aligned, and lives until it has execed or ended, as this thread waits for
    // that; `child` gets the plan that it expects, and does not return. What it does in the shared memory is to read
    // the plan and to set its atomic: it makes system calls only, nothing there allocates or locks.
    let result = unsafe { clone::clone(&mut args, child, std::ptr::from_ref(plan).cast()) };
    // Whatever keeps it from being born there (an older kernel, a filter, a cgroup that was removed meanwhile): better
    // elsewhere than not at all. What keeps it from being born anywhere comes back then.
    let Ok(pid) = result else {
        return Ok(None);
    };
    // SAFETY: the kernel has just made the descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((pid, pidfd)))
}

/// The child's life until it is the program.
extern "C" fn child(plan: *const libc::c_void) -> ! {
    // SAFETY: `fork` gives the address of a plan that lives as long as its thread waits.
    let plan = unsafe { &*plan.cast::<Plan>() };
    let number = plan.become_program().raw_os_error().unwrap_or(libc::EINVAL);
    plan.failure.store(number, Ordering::Release);
    // SAFETY: ends the child at once, without the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

/// Until it has its own dispositions, the child must not run the caller's handlers.
fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    let (mut all, mut before) = (empty_set(), empty_set());
    // SAFETY: `all` is a live, exclusively borrowed sigset_t.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both sets are live and initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    let result = work();
    // SAFETY: `before` was filled in above; a null old set is allowed.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    result
}

/// Takes handlers away, and the ignoring of SIGPIPE that Rust's runtime sets up.
fn default_signals() {
    for number in 1..=64 {
        // SAFETY: all-zero bytes are a valid sigaction: default handler, empty mask, no flags.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: a null new action only asks; `action` is live. What is no signal fails without effect.
        unsafe { libc::sigaction(number, std::ptr::null(), &raw mut action) };
        if action.sa_sigaction == libc::SIG_IGN && number != libc::SIGPIPE {
            continue;
        }
        action.sa_sigaction = libc::SIG_DFL;
        // SAFETY: as above, with nothing asked for.
        unsafe { libc::sigaction(number, &raw const action, std::ptr::null_mut()) };
    }
}

fn text(words: &OsStr) -> io::Result<CString> {
    Ok(CString::new(words.as_bytes())?)
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

fn stream(stream: &Stdio) -> io::Result<OwnedFd> {
    match stream {
        Stdio::Fd(descriptor) => above_streams(descriptor.as_fd()),
        Stdio::Null => {
            let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            above_streams(null.as_fd())
        }
    }
}

/// A copy that no standard stream's number collides with.
fn above_streams(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor, 3)?)
}

/// A name without a slash is looked up in PATH.
fn look_up(program: &Path) -> io::Result<PathBuf> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    places.find(|place| place.is_file()).ok_or_else(|| io::ErrorKind::NotFound.into())
}
