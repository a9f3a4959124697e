//! One run of a program: input in, outputs out with caps, a deadline, and a process group that never outlives a failure.
//!
//! The program's process is not reaped before its group has been dealt with: until then its pid, which is also the
//! group's, cannot come to mean another one. A program that succeeded may leave processes behind, that is its business.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use runtime_sys::pidfd::{self, Exit};
use runtime_sys::spawn::{Child, Spawn, Stdio};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::{Instant, timeout_at};

use crate::error::Stream;

/// Most of stdout that a plugin may write, in bytes.
pub(super) const MAX_STDOUT: usize = 1 << 20;
/// The end of stderr that is kept, in bytes.
const KEPT_STDERR: usize = 64 << 10;
/// Most of stderr that a plugin may write, in bytes. Debug logs are long, an endless loop is longer.
pub(super) const MAX_STDERR: usize = 16 << 20;
/// How long outputs are read on when the program has ended but something it started holds them open.
const HELD_OPEN: Duration = Duration::from_millis(500);
/// How long a killed program is waited for: one in an uninterruptible call does not die at once.
const DYING: Duration = Duration::from_secs(5);
/// How long a program that is being replaced (ETXTBSY) is tried, and how often.
const BUSY: Duration = Duration::from_secs(5);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What to run.
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// All of it.
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) input: Vec<u8>,
    pub(super) limit: Duration,
}

/// How it went.
pub(super) struct Run {
    pub(super) end: End,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

pub(super) enum End {
    Exit(Exit),
    /// Killed.
    Timeout,
    /// Killed.
    TooMuch(Stream),
}

/// Why waiting ended without the program having ended.
enum Cut {
    TooMuch(Stream),
    Io(io::Error),
}

/// Runs the program to its end, or kills its group. Dropping the future kills it too.
///
/// # Errors
/// When it cannot be started or waited for.
pub(super) async fn run(program: Program) -> io::Result<Run> {
    let deadline = Instant::now() + program.limit;
    let (leader, streams) = start(&program, deadline).await?;
    let exited = leader.watch()?;
    let mut captured = Captured::default();
    let end = {
        let exchange = exchange(streams, &program.input, &mut captured);
        timeout_at(deadline, wait(&exited, exchange)).await
    };
    let end = match end {
        Ok(Ok(())) => None,
        Ok(Err(Cut::TooMuch(stream))) => Some(End::TooMuch(stream)),
        Ok(Err(Cut::Io(error))) => return Err(error),
        Err(_) => Some(End::Timeout),
    };
    let end = match end {
        None => End::Exit(leader.reap()?),
        Some(end) => {
            leader.kill();
            // Not longer: then it is reaped in the background.
            let _ = timeout_at(Instant::now() + DYING, exited.readable()).await;
            end
        }
    };
    Ok(Run { end, stdout: captured.stdout, stderr: captured.stderr })
}

/// Until the program has ended and its output is read.
async fn wait(
    exited: &AsyncFd<Arc<OwnedFd>>,
    exchange: impl Future<Output = Result<(), Cut>>,
) -> Result<(), Cut> {
    let mut exchange = pin!(exchange);
    tokio::select! {
        // Cancel-safe: it is polled on below when it loses.
        exchanged = &mut exchange => {
            exchanged?;
            let _ = exited.readable().await.map_err(Cut::Io)?;
        }
        // Cancel-safe: readiness only.
        ready = exited.readable() => {
            let _ = ready.map_err(Cut::Io)?;
            // Late output of what the program left behind is not waited for; what was captured stays.
            if let Ok(exchanged) = timeout_at(Instant::now() + HELD_OPEN, exchange).await {
                exchanged?;
            }
        }
    }
    Ok(())
}

/// The program's ends of these pipes are its own.
struct Streams {
    stdin: Sender,
    stdout: Receiver,
    stderr: Receiver,
}

#[derive(Default)]
struct Captured {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

async fn exchange(streams: Streams, input: &[u8], captured: &mut Captured) -> Result<(), Cut> {
    let Streams { stdin, stdout, stderr } = streams;
    tokio::try_join!(
        feed(stdin, input),
        collect(stdout, &mut captured.stdout),
        keep_end(stderr, &mut captured.stderr),
    )?;
    Ok(())
}

/// A program that does not read its input may be right not to.
async fn feed(mut stdin: Sender, input: &[u8]) -> Result<(), Cut> {
    match stdin.write_all(input).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Cut::Io(error)),
        _ => Ok(()),
    }
}

async fn collect(mut stdout: Receiver, kept: &mut Vec<u8>) -> Result<(), Cut> {
    while stdout.read_buf(kept).await.map_err(Cut::Io)? > 0 {
        if kept.len() > MAX_STDOUT {
            return Err(Cut::TooMuch(Stream::Stdout));
        }
    }
    Ok(())
}

async fn keep_end(mut stderr: Receiver, kept: &mut Vec<u8>) -> Result<(), Cut> {
    let mut total: usize = 0;
    loop {
        let read = stderr.read_buf(kept).await.map_err(Cut::Io)?;
        if read == 0 {
            return Ok(());
        }
        total = total.saturating_add(read);
        if kept.len() > KEPT_STDERR {
            kept.drain(..kept.len() - KEPT_STDERR);
        }
        if total > MAX_STDERR {
            return Err(Cut::TooMuch(Stream::Stderr));
        }
    }
}

/// Starts the program, once nobody writes to its file any more.
async fn start(program: &Program, deadline: Instant) -> io::Result<(Leader, Streams)> {
    let until = deadline.min(Instant::now() + BUSY);
    loop {
        match start_once(program).await {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < until => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            started => return started,
        }
    }
}

async fn start_once(program: &Program) -> io::Result<(Leader, Streams)> {
    let (stdin, to_stdin) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (from_stdout, stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (from_stderr, stderr) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut spawn = Spawn::new(&program.path).directory("/");
    for (name, value) in &program.environment {
        spawn = spawn.env(name, value);
    }
    let spawn = spawn.stdin(Stdio::Fd(stdin)).stdout(Stdio::Fd(stdout)).stderr(Stdio::Fd(stderr));
    // An exec waits for the disk. When the caller goes away meanwhile, the leader is dropped, and killed, at its end.
    let started = tokio::task::spawn_blocking(move || spawn.start().map(Leader::new)).await;
    let leader = started.map_err(io::Error::other)??;
    let streams = Streams {
        stdin: Sender::from_owned_fd(to_stdin)?,
        stdout: Receiver::from_owned_fd(from_stdout)?,
        stderr: Receiver::from_owned_fd(from_stderr)?,
    };
    Ok((leader, streams))
}

/// The started process, first of its group. Dropped before it was reaped, it is killed with the group.
struct Leader {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    reaped: bool,
}

impl Leader {
    fn new(child: Child) -> Self {
        Self { pid: child.pid(), pidfd: Arc::new(child.into_pidfd()), reaped: false }
    }

    /// Readable once the process has ended.
    fn watch(&self) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
        #[expect(
            deprecated,
            reason = "the successor is unsafe; an `OwnedFd` keeps its descriptor open, which is all it asks"
        )]
        AsyncFd::with_interest(Arc::clone(&self.pidfd), Interest::READABLE)
    }

    /// Kills the group. Its number cannot have passed to another one, as the leader is not reaped.
    fn kill(&self) {
        // No such group: all of it has ended.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }

    /// Takes the exit of the process, which has ended. After a failure nothing of the group stays.
    fn reap(mut self) -> io::Result<Exit> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let ended = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), look)?;
        if ended.and_then(|status| status.exit_status()) != Some(0) {
            self.kill();
        }
        self.reaped = true;
        pidfd::wait(&*self.pidfd)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.kill();
        let pidfd = Arc::clone(&self.pidfd);
        let reap = move || drop(pidfd::wait(&*pidfd));
        // Dying takes a moment, or long in an uninterruptible call: no place to wait for it here.
        if let Err(error) = std::thread::Builder::new().name("reap-plugin".to_owned()).spawn(reap) {
            tracing::warn!(pid = %self.pid, %error, "a killed CNI plugin is not reaped");
        }
    }
}
