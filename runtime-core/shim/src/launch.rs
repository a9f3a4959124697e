//! Starting a shim: containerd's `<shim> … start` protocol, from the daemon's side. Works with any v2 shim.
//!
//! The started program is a short-lived parent; it leaves the shim behind and prints where it is reached. Answers come
//! in three dialects: protobuf `BootstrapResult` (containerd 2.3 and newer), JSON, a bare address (version 2, ttrpc).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use runtime_sys::pidfd::{self, Exit};
use runtime_sys::spawn::{Spawn, Stdio};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;
use serde::Deserialize;
use thiserror::Error;

use crate::protocol::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use crate::spawner::Spawner;

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;
/// Bytes of the program's stderr that are kept for an error.
const MAX_STDERR: u64 = 4 << 10;

/// What to start.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// The shim's binary, absolute.
    pub binary: PathBuf,
    /// Bundle of the sandbox (or of the container, when it has a shim of its own); becomes the working directory.
    pub bundle: PathBuf,
    pub namespace: String,
    /// Id of the sandbox or container.
    pub id: String,
    /// The daemon's own socket.
    pub address: PathBuf,
    /// The daemon's own binary; foreign shims publish events with it.
    pub publish_binary: PathBuf,
    /// Folder for the shim's socket, see `layout::socket_folder`.
    pub socket_folder: PathBuf,
    /// Whether the shim should say more in its log.
    pub verbosity: Verbosity,
    /// Runtime options, as for Create.
    pub options: Option<prost_types::Any>,
    /// Starts it in the shims' cgroup; without one it is where the caller is.
    pub spawner: Option<Arc<Spawner>>,
    /// The whole start has to be done by then.
    pub limit: Duration,
}

/// How much a shim logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    Normal,
    Debug,
}

/// How a shim is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Ttrpc,
    Grpc,
}

/// Where and how a started shim is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    pub address: String,
    /// Of the task service: 2 or 3.
    pub version: u32,
    pub transport: Transport,
}

/// A shim could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The binary cannot be run.
    #[error("run the shim {binary}")]
    Spawn {
        binary: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It ran and failed.
    #[error("shim {binary} failed to start with exit code {code}: {stderr}")]
    Failed { binary: PathBuf, code: i32, stderr: String },
    /// It did not come to an end; it was killed.
    #[error("shim {binary} did not start within {limit:?}")]
    Timeout { binary: PathBuf, limit: Duration },
    /// Its answer is in none of the dialects.
    #[error("shim {binary} answered its start with {answer:?}")]
    Answer { binary: PathBuf, answer: String },
}

/// Starts a shim, or finds the one that is there.
///
/// # Errors
/// See [`LaunchError`].
pub async fn start_shim(spec: &LaunchSpec) -> Result<Launched, LaunchError> {
    let spec = spec.clone();
    let binary = spec.binary.clone();
    let started = tokio::task::spawn_blocking(move || start_blocking(&spec)).await;
    started.unwrap_or_else(|error| Err(LaunchError::Spawn { binary, source: io::Error::other(error) }))
}

fn start_blocking(spec: &LaunchSpec) -> Result<Launched, LaunchError> {
    let deadline = Instant::now() + spec.limit;
    let spawn_failed = |source| LaunchError::Spawn { binary: spec.binary.clone(), source };
    let timeout = || LaunchError::Timeout { binary: spec.binary.clone(), limit: spec.limit };
    let pipes = Pipes::new().map_err(spawn_failed)?;
    let command = command(spec)
        .stdin(Stdio::Fd(pipes.stdin.0))
        .stdout(Stdio::Fd(pipes.stdout.1))
        .stderr(Stdio::Fd(pipes.stderr.1));
    let started = match &spec.spawner {
        Some(spawner) => spawner.start(command, spec.limit),
        None => command.start(),
    };
    let child = started.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => timeout(),
        _ => spawn_failed(error),
    })?;
    // Less than a pipe holds, so this does not wait; a shim that does not read its input is not a failure.
    let _ = File::from(pipes.stdin.1).write_all(&parameters(spec).encode_to_vec());
    let ended = wait_until(child.pidfd(), deadline).map_err(spawn_failed)?;
    if !ended {
        let group = child.pid();
        // The program itself is not reaped yet, so that its group cannot be another's.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let exit = pidfd::wait(child.pidfd()).map_err(spawn_failed)?;
    if !ended {
        return Err(timeout());
    }
    // The shim may hold copies of the pipes for a while: what is there is read, the end is not waited for.
    let answer = read_available(pipes.stdout.0, MAX_ANSWER).map_err(spawn_failed)?;
    if exit != Exit::Code(0) {
        let stderr = read_available(pipes.stderr.0, MAX_STDERR).map_err(spawn_failed)?;
        return Err(LaunchError::Failed {
            binary: spec.binary.clone(),
            code: i32::from(exit.shell_code()),
            stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
        });
    }
    parse_answer(&answer).ok_or_else(|| LaunchError::Answer {
        binary: spec.binary.clone(),
        answer: String::from_utf8_lossy(&answer).chars().take(200).collect(),
    })
}

struct Pipes {
    stdin: (OwnedFd, OwnedFd),
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
}

impl Pipes {
    fn new() -> io::Result<Self> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
        Ok(Self { stdin: pipe()?, stdout: pipe()?, stderr: pipe()? })
    }
}

fn command(spec: &LaunchSpec) -> Spawn {
    let mut command = Spawn::new(&spec.binary)
        .directory(&spec.bundle)
        .arg("-namespace")
        .arg(&spec.namespace)
        .arg("-address")
        .arg(&spec.address)
        .arg("-publish-binary")
        .arg(&spec.publish_binary)
        .arg("-id")
        .arg(&spec.id);
    if spec.verbosity == Verbosity::Debug {
        command = command.arg("-debug");
    }
    let mut ttrpc_address = spec.address.clone().into_os_string();
    ttrpc_address.push(".ttrpc");
    command
        .arg("start")
        .inherit_env("PATH")
        .env("TTRPC_ADDRESS", ttrpc_address)
        .env("GRPC_ADDRESS", &spec.address)
        .env("NAMESPACE", &spec.namespace)
        .env("MAX_SHIM_VERSION", "3")
        // Bounds the threads of a shim that is written in Go.
        .env("GOMAXPROCS", "2")
}

fn parameters(spec: &LaunchSpec) -> BootstrapParams {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    BootstrapParams {
        instance_id: spec.id.clone(),
        namespace: spec.namespace.clone(),
        log_level: if spec.verbosity == Verbosity::Debug { -4 } else { 0 },
        containerd_version: String::new(),
        containerd_ttrpc_address: format!("{}.ttrpc", spec.address.display()),
        containerd_grpc_address: text(&spec.address),
        containerd_binary: text(&spec.publish_binary),
        extensions: spec.options.iter().map(|options| Extension { value: Some(options.clone()) }).collect(),
        socket_dir: Some(text(&spec.socket_folder)),
    }
}

/// Whether the process ended before the deadline.
fn wait_until(pidfd: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut polled = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_available(pipe: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    let mut bytes = Vec::new();
    match File::from(pipe).take(limit).read_to_end(&mut bytes) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(bytes),
    }
}

#[derive(Deserialize)]
struct JsonAnswer {
    version: u32,
    address: String,
    #[serde(default)]
    protocol: String,
}

fn parse_answer(answer: &[u8]) -> Option<Launched> {
    if let Ok(json) = serde_json::from_slice::<JsonAnswer>(answer) {
        return launched(json.address, json.version, &json.protocol);
    }
    if let Some(address) = std::str::from_utf8(answer).ok().map(str::trim).filter(|text| is_address(text)) {
        return launched(address.to_owned(), 2, "ttrpc");
    }
    let result = BootstrapResult::decode(answer).ok()?;
    launched(result.address, u32::try_from(result.version).ok()?, &result.protocol)
}

fn launched(address: String, version: u32, protocol: &str) -> Option<Launched> {
    let transport = match protocol {
        "ttrpc" | "" => Transport::Ttrpc,
        "grpc" => Transport::Grpc,
        _ => return None,
    };
    (is_address(&address) && matches!(version, 2 | 3)).then_some(Launched { address, version, transport })
}

/// A path, or a scheme and something after it, in printable characters.
fn is_address(text: &str) -> bool {
    let printable = !text.chars().any(|letter| letter.is_control() || letter.is_whitespace());
    printable && (text.starts_with('/') || text.split_once("://").is_some_and(|(_, rest)| !rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[test]
    fn three_dialects_are_understood() {
        let expected =
            |version, transport| Launched { address: "unix:///run/s/1".into(), version, transport };
        let result = BootstrapResult {
            version: 3,
            address: "unix:///run/s/1".into(),
            protocol: "ttrpc".into(),
            ..Default::default()
        };
        assert_eq!(parse_answer(&result.encode_to_vec()), Some(expected(3, Transport::Ttrpc)));
        let json = br#"{"version":3,"address":"unix:///run/s/1","protocol":"grpc","new":1}"#;
        assert_eq!(parse_answer(json), Some(expected(3, Transport::Grpc)));
        assert_eq!(parse_answer(b"unix:///run/s/1\n"), Some(expected(2, Transport::Ttrpc)));
    }

    #[test]
    fn other_answers_are_refused() {
        for answer in
            ["", "hello", "{}", r#"{"version":9,"address":"unix:///x"}"#, "\u{1}\u{2}", "unix://", "/a b"]
        {
            assert_eq!(parse_answer(answer.as_bytes()), None, "{answer:?}");
        }
    }

    fn spec_for(script: &str, folder: &Path, limit: Duration) -> LaunchSpec {
        let binary = folder.join("shim");
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o755)
            .open(&binary)
            .unwrap();
        file.write_all(script.as_bytes()).unwrap();
        LaunchSpec {
            binary,
            bundle: folder.into(),
            namespace: "ns".into(),
            id: "box".into(),
            address: "/run/x.sock".into(),
            publish_binary: "/bin/true".into(),
            socket_folder: folder.join("s"),
            verbosity: Verbosity::Normal,
            options: None,
            spawner: None,
            limit,
        }
    }

    #[test]
    fn a_program_that_leaves_a_child_behind_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let script = "#!/bin/sh\n(read x; sleep 1000) & echo $! > child; echo unix://$PWD/$4/$8\n";
        let spec = spec_for(script, folder.path(), Duration::from_secs(60));
        let launched = start_blocking(&spec).unwrap();
        let child: i32 =
            std::fs::read_to_string(folder.path().join("child")).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(child).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        assert_eq!(launched.address, format!("unix://{}//run/x.sock/box", folder.path().display()));
    }

    #[test]
    fn failures_carry_what_the_program_said() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec_for("#!/bin/sh\necho no luck >&2; exit 4\n", folder.path(), Duration::from_secs(60));
        let error = start_blocking(&spec).unwrap_err();
        assert!(
            matches!(&error, LaunchError::Failed { code: 4, stderr, .. } if stderr == "no luck"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec_for("#!/bin/sh\nsleep 1000\n", folder.path(), Duration::from_millis(50));
        assert!(matches!(start_blocking(&spec).unwrap_err(), LaunchError::Timeout { .. }));
    }
}
