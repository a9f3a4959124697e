//! runc and programs with its command line (crun, youki).
//!
//! Errors come as JSON lines in a log file; the last one is told. What the runtime prints goes to the container's
//! streams, as it shares them.

use std::fs;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use runtime_sys::pidfd::Exit;
use runtime_sys::spawn::{Spawn, Stdio};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};
use serde::Deserialize;

use super::console::Console;
use super::{Begun, ExecArgs, OciRuntime, Refusal, RuntimeError, RuntimeFuture, Streams, Target};
use crate::job::Job;
use crate::reaper::Reaper;

/// Bytes of the runtime's log that are read, from its end.
const MAX_LOG: usize = 64 * 1024;
/// Bytes of a message that are passed on.
const MAX_MESSAGE: usize = 4 * 1024;

/// A runc-like program.
#[derive(Clone)]
pub(crate) struct Runc {
    pub(crate) reaper: Rc<Reaper>,
    /// Path, or a name to look up in PATH.
    pub(crate) binary: PathBuf,
    /// State folder (`--root`).
    pub(crate) root: PathBuf,
    pub(crate) systemd_cgroup: bool,
    pub(crate) no_pivot_root: bool,
    pub(crate) no_new_keyring: bool,
}

/// What a call that leaves a process behind tells it with.
struct Files {
    pid: PathBuf,
    console: Option<Console>,
}

/// One invocation.
struct Call {
    verb: &'static str,
    target: Target,
    log: PathBuf,
}

impl Runc {
    fn call(&self, verb: &'static str, target: &Target, log: PathBuf) -> (Call, Spawn) {
        let mut spawn = Spawn::new(&self.binary)
            .directory(target.bundle.path())
            .inherit_env("PATH")
            .inherit_env("XDG_RUNTIME_DIR")
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json"]);
        if self.systemd_cgroup {
            spawn = spawn.arg("--systemd-cgroup");
        }
        (Call { verb, target: target.clone(), log }, spawn.arg(verb))
    }

    async fn delete_with(self, options: &[&str], target: &Target, job: &Job) -> Result<(), RuntimeError> {
        let log = target.bundle.path().join("delete.json");
        let (call, spawn) = self.call("delete", target, log);
        let result = self.run(&call, spawn.args(options).arg(&target.id), job).await;
        let _ = fs::remove_file(&call.log);
        result
    }

    async fn run(self, call: &Call, spawn: Spawn, job: &Job) -> Result<(), RuntimeError> {
        let (verb, id) = (call.verb, &call.target.id);
        if job.is_aborted() {
            return Err(RuntimeError::Aborted { verb, id: id.clone() });
        }
        // Only the messages of this call are to be told.
        let _ = fs::remove_file(&call.log);
        let spawned = self.reaper.spawn(spawn);
        let mut running =
            spawned.map_err(|source| RuntimeError::Spawn { binary: self.binary.clone(), verb, source })?;
        job.began(running.pid);
        let ended = running.ended().await;
        job.ended();
        if ended.exit == Exit::Code(0) {
            return Ok(());
        }
        if job.is_aborted() {
            return Err(RuntimeError::Aborted { verb, id: id.clone() });
        }
        let message = last_message(&call.log)
            .unwrap_or_else(|| format!("{} ended with {:?}", self.binary.display(), ended.exit));
        Err(RuntimeError::Refused { verb, id: id.clone(), refusal: classify(ended.exit, &message), message })
    }

    /// Runs a call that leaves a process behind.
    async fn run_and_adopt(
        self,
        call: Call,
        spawn: Spawn,
        files: Files,
        job: Rc<Job>,
    ) -> Result<Begun, RuntimeError> {
        let (verb, id, reaper) = (call.verb, call.target.id.clone(), self.reaper.clone());
        let _ = fs::remove_file(&files.pid);
        let claim = reaper.claim();
        self.run(&call, spawn, &job).await?;
        let file = |step| {
            let id = id.clone();
            move |source| RuntimeError::File { step, verb, id, source }
        };
        let pid = read_pid(&files.pid).map_err(file("read the pid file"))?;
        let adopted = reaper.adopt(&claim, pid);
        let running = adopted.map_err(|source| RuntimeError::Stray { verb, id: id.clone(), pid, source })?;
        drop(claim);
        let Some(console) = files.console else {
            return Ok(Begun { running, terminal: None });
        };
        match console.receive().await {
            Ok(terminal) => Ok(Begun { running, terminal: Some(terminal) }),
            Err(source) => {
                // Nobody could talk to it. It may have ended already.
                let _ = reaper.signal(pid, Signal::KILL.as_raw());
                Err(file("receive the terminal")(source))
            }
        }
    }

    /// Adds the options of a process's streams.
    fn with_streams(
        spawn: Spawn,
        streams: Streams,
        call: &Call,
        socket: &str,
    ) -> Result<(Spawn, Option<Console>), RuntimeError> {
        let stream = |descriptor: Option<_>| descriptor.map_or(Stdio::Null, Stdio::Fd);
        match streams {
            Streams::Each { stdin, stdout, stderr } => {
                Ok((spawn.stdin(stream(stdin)).stdout(stream(stdout)).stderr(stream(stderr)), None))
            }
            Streams::Terminal => {
                let bound = Console::bind(call.target.bundle.path(), socket);
                let console = bound.map_err(|source| RuntimeError::File {
                    step: "make the console socket",
                    verb: call.verb,
                    id: call.target.id.clone(),
                    source,
                })?;
                Ok((spawn.arg("--console-socket").arg(socket), Some(console)))
            }
        }
    }
}

impl OciRuntime for Runc {
    fn create(&self, target: &Target, streams: Streams, job: Rc<Job>) -> RuntimeFuture<Begun> {
        let pid = target.bundle.init_pid();
        let (call, mut spawn) = self.call("create", target, target.bundle.runtime_log());
        spawn = spawn.arg("--bundle").arg(target.bundle.path()).arg("--pid-file").arg(&pid);
        if self.no_pivot_root {
            spawn = spawn.arg("--no-pivot");
        }
        if self.no_new_keyring {
            spawn = spawn.arg("--no-new-keyring");
        }
        let (this, id) = (self.clone(), target.id.clone());
        Box::pin(async move {
            let (spawn, console) = Self::with_streams(spawn, streams, &call, "console.sock")?;
            this.run_and_adopt(call, spawn.arg(id), Files { pid, console }, job).await
        })
    }

    fn start(&self, target: &Target, job: Rc<Job>) -> RuntimeFuture<()> {
        let (call, spawn) = self.call("start", target, target.bundle.runtime_log());
        let (this, spawn) = (self.clone(), spawn.arg(&target.id));
        Box::pin(async move { this.run(&call, spawn, &job).await })
    }

    fn delete(&self, target: &Target, job: Rc<Job>) -> RuntimeFuture<()> {
        let (this, target) = (self.clone(), target.clone());
        Box::pin(async move {
            // The process has ended. `--force` finds the rest, and nothing of what is gone already, but runc waits
            // 100 ms for it whatever there is.
            match this.clone().delete_with(&[], &target, &job).await {
                Err(RuntimeError::Refused { .. }) => this.delete_with(&["--force"], &target, &job).await,
                result => result,
            }
        })
    }

    fn update(&self, target: &Target, resources: &[u8], job: Rc<Job>) -> RuntimeFuture<()> {
        let (call, spawn) = self.call("update", target, target.bundle.path().join("update.json"));
        let (this, input) = (self.clone(), in_memory(resources));
        let spawn = spawn.args(["--resources", "-"]).arg(&target.id);
        Box::pin(async move {
            let input = input.map_err(|source| RuntimeError::File {
                step: "keep the resources",
                verb: call.verb,
                id: call.target.id.clone(),
                source,
            })?;
            let result = this.run(&call, spawn.stdin(Stdio::Fd(input)), &job).await;
            let _ = fs::remove_file(&call.log);
            result
        })
    }

    fn exec(&self, target: &Target, args: ExecArgs, job: Rc<Job>) -> RuntimeFuture<Begun> {
        let (this, target) = (self.clone(), target.clone());
        Box::pin(async move {
            let file = |kind: &str| target.bundle.path().join(format!("exec-{}.{kind}", args.number));
            let (process, pid_file, log) = (file("json"), file("pid"), file("log"));
            let result = this.exec_with(&target, args, [&process, &pid_file, &log], job).await;
            for path in [process, pid_file, log] {
                let _ = fs::remove_file(path);
            }
            result
        })
    }
}

impl Runc {
    async fn exec_with(
        self,
        target: &Target,
        args: ExecArgs,
        [process, pid_file, log]: [&Path; 3],
        job: Rc<Job>,
    ) -> Result<Begun, RuntimeError> {
        write_new(process, &args.process).map_err(|source| RuntimeError::File {
            step: "write the process file",
            verb: "exec",
            id: target.id.clone(),
            source,
        })?;
        let (call, mut spawn) = self.call("exec", target, log.into());
        spawn = spawn.arg("--detach").arg("--process").arg(process).arg("--pid-file").arg(pid_file);
        if let Some(cgroup) = &args.cgroup {
            spawn = spawn.arg("--cgroup").arg(cgroup);
        }
        let socket = format!("exec-{}.sock", args.number);
        let (spawn, console) = Self::with_streams(spawn, args.streams, &call, &socket)?;
        let files = Files { pid: pid_file.into(), console };
        self.run_and_adopt(call, spawn.arg(&target.id), files, job).await
    }
}

/// A file without a name, to be read from its beginning.
fn in_memory(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = fs::File::from(rustix::fs::memfd_create(c"input", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(content)
}

fn read_pid(path: &Path) -> io::Result<Pid> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    msg: String,
}

fn last_message(log: &Path) -> Option<String> {
    let bytes = fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MAX_LOG)..]).into_owned();
    let lines: Vec<LogLine> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let error = lines.iter().rev().find(|line| matches!(line.level.as_str(), "error" | "fatal"));
    let message = &error.or(lines.last())?.msg;
    let end = message.floor_char_boundary(MAX_MESSAGE.min(message.len()));
    Some(message[..end].to_owned())
}

/// runc tells the reason in words only; the words come from Go's `os/exec` and from the C library and are old.
fn classify(exit: Exit, message: &str) -> Refusal {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match exit {
        Exit::Code(127) => Refusal::CommandNotFound,
        Exit::Code(126) => Refusal::CommandNotExecutable,
        _ if says(&["flag provided but not defined", "unrecognized option", "unknown option"]) => {
            Refusal::UnknownOption
        }
        _ if !says(&["exec"]) => Refusal::Other,
        _ if says(&["executable file not found", "no such file or directory"]) => Refusal::CommandNotFound,
        _ if says(&["permission denied", "exec format error", "is a directory"]) => {
            Refusal::CommandNotExecutable
        }
        _ => Refusal::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told_and_classified() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.json");
        assert_eq!(last_message(&path), None);
        let text = concat!(
            r#"{"level":"warning","msg":"w","time":"t"}"#,
            "\n",
            r#"{"level":"error","msg":"runc create failed: exec: \"x\": executable file not found in $PATH"}"#,
            "\n",
            r#"{"level":"debug","msg":"later"}"#,
            "\ngarbage\n"
        );
        write_new(&path, text.as_bytes()).unwrap();
        let message = last_message(&path).unwrap();
        assert!(message.starts_with("runc create failed"));
        assert_eq!(classify(Exit::Code(1), &message), Refusal::CommandNotFound);
    }

    #[test]
    fn refusals() {
        for (message, refusal) in [
            (
                "unable to start container process: exec: \"/etc\": permission denied",
                Refusal::CommandNotExecutable,
            ),
            (
                "unable to start container process: exec: \"/x\": stat /x: no such file or directory",
                Refusal::CommandNotFound,
            ),
            ("flag provided but not defined: -cgroup", Refusal::UnknownOption),
            ("error mounting \"/a\": no such file or directory", Refusal::Other),
            ("container \"x\" already exists", Refusal::Other),
        ] {
            assert_eq!(classify(Exit::Code(1), message), refusal, "{message}");
        }
        assert_eq!(classify(Exit::Code(127), ""), Refusal::CommandNotFound);
    }
}
