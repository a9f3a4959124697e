//! Running a shim's `delete` (containerd's shim v2 protocol): what cleans up when there is no shim left to ask.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use runtime_sys::pidfd::{self, Exit};
use runtime_sys::spawn::{Spawn, Stdio};
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{ShimError, ShimsConfig};

/// How long a `delete` may take; it kills, waits and unmounts.
const DELETE: Duration = Duration::from_secs(60);
/// The most of its complaint that is kept.
const MAX_STDERR: u64 = 4096;

pub(super) async fn run_delete(
    config: &ShimsConfig,
    id: &str,
    binary: &Path,
    bundle: &Path,
) -> Result<(), ShimError> {
    let failed = |message: String| ShimError::CleanUp { id: id.to_owned(), message };
    let (stderr, writer) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.to_string()))?;
    let child = Spawn::new(binary)
        .directory(bundle)
        .inherit_env("PATH")
        .args(["-namespace", &config.namespace, "-id", id, "-address"])
        .arg(&config.address)
        .arg("-publish-binary")
        .arg(&config.binary)
        .arg("-bundle")
        .arg(bundle)
        .arg("delete")
        .stdin(Stdio::Null)
        .stdout(Stdio::Null)
        .stderr(Stdio::Fd(writer))
        .start()
        .map_err(|error| failed(error.to_string()))?;
    match ended(child.into_pidfd()).await {
        Ok(Some(Exit::Code(0))) => Ok(()),
        Ok(Some(exit)) => Err(failed(format!("exit code {}: {}", exit.shell_code(), complaint(stderr)))),
        Ok(None) => Err(failed(format!("killed after {}s", DELETE.as_secs()))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The exit of the process; `None` when it took too long and was killed.
async fn ended(process: OwnedFd) -> io::Result<Option<Exit>> {
    #[expect(
        deprecated,
        reason = "the successor is unsafe; an `OwnedFd` keeps its descriptor open, which is all it asks"
    )]
    let process = AsyncFd::with_interest(process, Interest::READABLE)?;
    let in_time = tokio::time::timeout(DELETE, process.readable()).await.is_ok();
    if !in_time {
        pidfd::send_signal(process.get_ref(), Signal::KILL)?;
        let _ = process.readable().await;
    }
    let exit = pidfd::wait(process.get_ref())?;
    Ok(in_time.then_some(exit))
}

fn complaint(pipe: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // What is there is read; a process that inherited the pipe is not waited for.
    if rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK).is_ok() {
        let _ = File::from(pipe).take(MAX_STDERR).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}
