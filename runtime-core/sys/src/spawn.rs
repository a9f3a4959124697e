//! Starting programs: everything the child gets is named, nothing is inherited by accident.
//!
//! The child has the default SIGPIPE disposition and an empty signal mask, as from a shell. Where the caller blocks no
//! signal, the C library's posix_spawn does it, which copies no page tables.

mod into_cgroup;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::pidfd;

/// A standard stream of the child.
#[derive(Debug)]
pub enum Stdio {
    /// `/dev/null`.
    Null,
    /// A descriptor that the child gets instead.
    Fd(OwnedFd),
}

/// A program to start.
#[derive(Debug)]
pub struct Spawn {
    program: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    cgroup: Option<OwnedFd>,
    end: End,
}

/// How long a child lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Own,
    WithCaller,
}

/// A started process. Dropping it leaves the process alone; someone has to reap it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Child {
    /// Its pid. Names it only as long as nobody has reaped it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Names it for ever.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Gives the descriptor away.
    #[must_use]
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }
}

impl Spawn {
    /// A program with an empty environment, streams on `/dev/null`, and a process group of its own. A name without a
    /// slash is looked up in the caller's PATH.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            environment: Vec::new(),
            directory: None,
            stdin: Stdio::Null,
            stdout: Stdio::Null,
            stderr: Stdio::Null,
            cgroup: None,
            end: End::Own,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Sets a variable of the child's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Passes a variable of the caller on, when it is set.
    #[must_use]
    pub fn inherit_env(self, name: &str) -> Self {
        match std::env::var_os(name) {
            Some(value) => self.env(name, value),
            None => self,
        }
    }

    /// Working directory.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().into());
        self
    }

    /// Standard input.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdio) -> Self {
        self.stdin = stdin;
        self
    }

    /// Standard output.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.stdout = stdout;
        self
    }

    /// Standard error.
    #[must_use]
    pub fn stderr(mut self, stderr: Stdio) -> Self {
        self.stderr = stderr;
        self
    }

    /// Folder of the v2 cgroup that the child is born in. On kernels before 5.7 it is moved there, before this answers.
    #[must_use]
    pub fn into_cgroup(mut self, folder: OwnedFd) -> Self {
        self.cgroup = Some(folder);
        self
    }

    /// Has the kernel kill the child when the thread that started it ends, however that is. Not together with
    /// [`Self::into_cgroup`].
    #[must_use]
    pub fn ends_with_caller(mut self) -> Self {
        self.end = End::WithCaller;
        self
    }

    /// Starts it. The caller's copies of the descriptors are closed.
    ///
    /// # Errors
    /// When the program cannot be executed; then there is no child.
    pub fn start(mut self) -> io::Result<Child> {
        let Some(cgroup) = self.cgroup.take() else {
            return self.start_here();
        };
        if let Some(child) = into_cgroup::start(&self, cgroup.as_fd())? {
            return Ok(child);
        }
        let child = self.start_here()?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        // The child runs already; that it stays where it is fails nobody.
        if let Ok(members) = rustix::fs::openat(&cgroup, "cgroup.procs", flags, Mode::empty()) {
            let _ = rustix::io::write(members, child.pid().as_raw_nonzero().to_string().as_bytes());
        }
        Ok(child)
    }

    fn start_here(self) -> io::Result<Child> {
        #[expect(clippy::disallowed_methods, reason = "this is the door that others use")]
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.environment);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(stdio(self.stdin)).stdout(stdio(self.stdout)).stderr(stdio(self.stderr));
        command.process_group(0);
        if self.end == End::WithCaller {
            let caller = rustix::process::getpid();
            // SAFETY: runs between fork and exec in the child: two system calls, nothing allocates or locks.
            unsafe { command.pre_exec(move || end_with(caller)) };
        }
        if blocks_signals() {
            // SAFETY: runs between fork and exec in the child: only sigprocmask is called, nothing allocates or locks.
            unsafe { command.pre_exec(unblock_signals) };
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        // Nobody has waited for it, so the pid is still this child.
        let pidfd = pidfd::open(pid)?;
        Ok(Child { pid, pidfd })
    }
}

/// Asks for SIGKILL when the parent ends, which it may have done before this was asked.
fn end_with(caller: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() == Some(caller) { Ok(()) } else { Err(Errno::SRCH.into()) }
}

/// Clears the signal mask of the calling thread.
fn unblock_signals() -> io::Result<()> {
    let none = empty_set();
    // SAFETY: `none` is initialised; a null old set is allowed.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: all-zero bytes are a valid sigset_t.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live, exclusively borrowed sigset_t.
    unsafe { libc::sigemptyset(&raw mut set) };
    set
}

/// Whether this thread blocks a signal that a program may block.
fn blocks_signals() -> bool {
    let mut set = empty_set();
    // SAFETY: a null new set only asks; `set` is a live, exclusively borrowed sigset_t.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set) };
    (1..=64).any(|number| {
        // SAFETY: `set` is initialised and the number is that of a signal.
        unsafe { libc::sigismember(&raw const set, number) == 1 }
    })
}

fn stdio(stream: Stdio) -> std::process::Stdio {
    match stream {
        Stdio::Null => std::process::Stdio::null(),
        Stdio::Fd(descriptor) => File::from(descriptor).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::pidfd::Exit;

    fn run(spawn: Spawn) -> (String, Exit) {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let child = spawn.stdout(Stdio::Fd(writer)).start().unwrap();
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        (text, pidfd::wait(child.pidfd()).unwrap())
    }

    #[test]
    fn environment_directory_and_streams_are_only_what_is_named() {
        let spawn =
            Spawn::new("/bin/sh").args(["-c", "pwd; env | grep -v '^_=\\|^PWD=\\|^SHLVL\\|^OLDPWD'; cat"]);
        let (text, exit) = run(spawn.env("A", "b").directory("/usr"));
        assert_eq!(text, "/usr\nA=b\n");
        assert_eq!(exit, Exit::Code(0));
    }

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let start = || Spawn::new("/bin/sleep").arg("600").ends_with_caller().start().unwrap();
        let child = std::thread::spawn(start).join().unwrap();
        assert_eq!(pidfd::wait(child.pidfd()).unwrap(), Exit::Signal(9));
    }

    #[test]
    fn signals_are_as_from_a_shell() {
        let (text, _) = run(Spawn::new("/bin/grep").args(["-E", "^Sig(Blk|Ign)", "/proc/self/status"]));
        let masks: Vec<_> = text.lines().map(|line| u64::from_str_radix(&line[8..], 16).unwrap()).collect();
        assert_eq!(masks[0], 0);
        // Rust's runtime ignores SIGPIPE in this process. What others were ignored by our own parent is not ours.
        assert_eq!(masks[1] & (1 << (libc::SIGPIPE - 1)), 0);
    }

    #[test]
    fn what_cannot_be_executed_is_an_error() {
        let error = Spawn::new("/nonexistent/program").start().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    fn own_cgroup(name: &str) -> (crate::cgroup::Place, String) {
        let path = format!("/orlop-test-{}-{name}/below", rustix::process::getpid().as_raw_nonzero());
        (crate::cgroup::Place::new(&path).unwrap(), path)
    }

    #[test]
    fn needs_root_a_child_is_born_in_a_cgroup_with_only_what_is_named() {
        let (mut place, path) = own_cgroup("process");
        let Some(folder) = place.unified().unwrap() else {
            return assert!(!Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
        };
        let script = "grep ^0:: /proc/self/cgroup; pwd; echo $A; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; cat";
        let spawn = Spawn::new("sh").args(["-c", script]).env("A", "b").inherit_env("PATH").directory("/usr");
        let (text, exit) = run(spawn.into_cgroup(folder.try_clone().unwrap()));
        assert_eq!(exit, Exit::Code(0));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..3], [format!("0::{path}").as_str(), "/usr", "b"]);
        assert_eq!(lines[3], "SigBlk:\t0000000000000000");
        let ignored = u64::from_str_radix(&lines[4][8..], 16).unwrap();
        assert_eq!(ignored & (1 << (libc::SIGPIPE - 1)), 0);
        // No descriptor more than without a cgroup.
        let (elsewhere, _) = run(Spawn::new("/bin/sh").args(["-c", script]).inherit_env("PATH"));
        assert_eq!(lines[5..], elsewhere.lines().skip(5).collect::<Vec<_>>());
        let error = Spawn::new("/nonexistent/program").into_cgroup(folder).start().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        place.remove();
        assert!(place.unified().unwrap().is_some());
        place.remove();
    }

    #[test]
    fn needs_root_a_cgroup_that_is_gone_hinders_nobody() {
        let (mut place, _) = own_cgroup("gone");
        let Some(folder) = place.unified().unwrap() else {
            return assert!(!Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
        };
        place.remove();
        let (text, exit) = run(Spawn::new("/bin/echo").arg("ran").into_cgroup(folder));
        assert_eq!((text.as_str(), exit), ("ran\n", Exit::Code(0)));
    }

    #[test]
    fn needs_root_a_thread_in_a_cgroup_has_its_children_there() {
        let (mut place, path) = own_cgroup("thread");
        let thread = std::thread::spawn(move || {
            let failures = place.enter_thread();
            assert!(failures.is_empty(), "{failures:?}");
            assert!(place.enter_thread().is_empty());
            let (text, _) = run(Spawn::new("/bin/cat").arg("/proc/self/cgroup"));
            (text, place)
        });
        let (text, place) = thread.join().unwrap();
        for line in text.lines().filter(|line| !line.starts_with("0::")) {
            assert!(line.ends_with(&format!(":{path}")), "{line}");
        }
        let here = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        assert!(!here.contains(&path));
        place.remove();
    }
}
