//! Starting, finding and killing processes from tests: explicit environment, by pid only.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use rustix::process::{Pid, Signal};

/// A command with nothing but a system `PATH` in its environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests' one door to new processes; they link no product crate"
)]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Runs a command to its end and panics with all it printed when it failed.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} ended with {:?} (signal {:?})\nstdout: {}\nstderr: {}",
        output.status.code(),
        output.status.signal(),
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a command to its end, whatever that is.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"))
}

/// Bytes as text, for messages and comparisons.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Kills a child with SIGKILL and reaps it.
pub fn kill_and_reap(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends a signal to a process that this test started or made start. A process that is gone is fine.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid fits i32 and is not 0");
    let _ = rustix::process::kill_process(pid, signal);
}

/// The `target` folder that this test was built in; binaries under test lie below it.
pub fn target_dir() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its binary");
    let folder = own.parent().expect("a file has a folder");
    // Tests lie in target/<profile>/deps, programs in target/<profile>.
    let profile = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    profile.and_then(Path::parent).expect("a profile lies in target").to_path_buf()
}

/// A binary below the target folder, or a panic that says how to build it.
pub fn built(relative: &str) -> PathBuf {
    let path = target_dir().join(relative);
    assert!(path.exists(), "{} is missing: build it with `make build tools`", path.display());
    path
}

/// Panics unless the test runs as root: nodes make namespaces, mounts and cgroups.
pub fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "end-to-end tests make mounts and cgroups: run them as root"
    );
}

/// What `/proc` tells of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Clock ticks after boot: with the pid it names one process for ever.
    pub started: u64,
    pub state: char,
    pub command: String,
}

/// Reads a process, if it is there.
pub fn look(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let command = text(&fs::read(format!("/proc/{pid}/cmdline")).ok()?).replace('\0', " ").trim().to_owned();
    Some(Process {
        pid,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        command,
    })
}

/// The most memory that a process has had resident so far, in bytes.
pub fn peak_memory(pid: u32) -> u64 {
    let status = crate::fixture::read(Path::new(&format!("/proc/{pid}/status")));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_else(|| panic!("no peak in the status of process {pid}:\n{status}")) << 10
}

/// All processes of the machine that are not zombies.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("read /proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(look).filter(|process| process.state != 'Z').collect()
}

/// All processes that name `folder` in their command line or environment (as all CNI plugins of a node do), or have it
/// as their working directory or root.
pub fn under(folder: &Path) -> Vec<Process> {
    let name = folder.to_string_lossy().into_owned();
    let lives_there = |process: &Process| {
        let link = |what: &str| fs::read_link(format!("/proc/{}/{what}", process.pid)).ok();
        let environment = || fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        process.command.contains(&name)
            || String::from_utf8_lossy(&environment()).contains(&name)
            || [link("cwd"), link("root")].into_iter().flatten().any(|path| path.starts_with(folder))
    };
    all().into_iter().filter(lives_there).collect()
}
