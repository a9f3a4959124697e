//! Plugins that a former daemon started and that outlived it. A DEL beside an ADD that still runs would leave whatever
//! that makes afterwards, so recovery ends such runs first.
//!
//! A run is known by what it was given: the container's id in its environment, and a program from the plugin folders.
//! Other processes that plugins start for good (DNS and DHCP servers) inherit the first but are no such program.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime_sys::pidfd;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};

/// Most that is read of an environment or a command line; the kernel's limit with usual stack sizes is 2 MiB.
const MAX_READ: u64 = 4 << 20;
/// How long all that was killed is waited for.
const DYING: Duration = Duration::from_secs(5);

/// Ends the plugin runs of a container and waits until they are gone. Gives their number.
pub(crate) fn end(container_id: &str, bin_dirs: &[PathBuf]) -> io::Result<usize> {
    let variable = format!("CNI_CONTAINERID={container_id}").into_bytes();
    let Some(ours) = pid_namespace("self") else { return Ok(0) };
    let mut killed = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // A process may go away at any point: then it is none of these.
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        let Ok(process) = pidfd::open(pid) else { continue };
        // In this order: reading a process's memory waits for whatever it does with it, and containers are no plugins.
        if pid_namespace(&pid.to_string()).as_ref() == Some(&ours)
            && is_plugin(pid, bin_dirs)
            && has_variable(pid, &variable)
            && kill(pid, &process)
        {
            tracing::info!(container = container_id, %pid, "ended a CNI plugin of a former daemon");
            killed.push(process);
        }
    }
    let deadline = Instant::now() + DYING;
    for process in &killed {
        wait(process, deadline)?;
    }
    Ok(killed.len())
}

/// The processes that it sees. Plugins are never put into such a namespace by us.
fn pid_namespace(process: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

fn has_variable(pid: Pid, variable: &[u8]) -> bool {
    read(pid, "environ").split(|byte| *byte == 0).any(|one| one == variable)
}

/// Whether its program, or the script that its program interprets, is in one of the folders.
fn is_plugin(pid: Pid, bin_dirs: &[PathBuf]) -> bool {
    let inside = |path: &Path| path.parent().is_some_and(|parent| bin_dirs.iter().any(|dir| dir == parent));
    let program = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| inside(&path));
    let command_line = read(pid, "cmdline");
    let mut arguments = command_line.split(|byte| *byte == 0).take(3);
    program || arguments.any(|one| std::str::from_utf8(one).is_ok_and(|one| inside(Path::new(one))))
}

fn read(pid: Pid, file: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/{file}")) {
        // What was read of a process that went away meanwhile does no harm.
        let _ = file.take(MAX_READ).read_to_end(&mut bytes);
    }
    bytes
}

/// Kills it, with its group when that is its own.
fn kill(pid: Pid, process: &OwnedFd) -> bool {
    let leads = rustix::process::getpgid(Some(pid)).is_ok_and(|group| group == pid);
    // All that was found out about the number is about this process only if it has not ended since.
    if ended(process, Duration::ZERO).unwrap_or(true) {
        return false;
    }
    if leads {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    // It may be gone by now, that is as good.
    let _ = pidfd::send_signal(process, Signal::KILL);
    true
}

fn wait(process: &OwnedFd, deadline: Instant) -> io::Result<()> {
    match ended(process, deadline.saturating_duration_since(Instant::now()))? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::TimedOut, "a killed CNI plugin does not end")),
    }
}

fn ended(process: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut polled, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            polled => return Ok(polled? > 0),
        }
    }
}
