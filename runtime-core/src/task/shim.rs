//! One living shim: pod namespaces and tasks by typed calls, and the end of its process.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime_shim::client::{CallError, KillTarget, ShimClient};
use runtime_shim::identity::{ProcessIdentity, is_absent};
use runtime_shim::protocol::{
    LINUX_RESOURCES, io as wire_io, runc, sandbox, task, task_types, to_any, types,
};
use tokio::io::unix::AsyncFd;

use super::{RuntimeOptions, ShimError, Stdin};
use crate::clock::Timestamp;
use crate::snapshot::Mount;

/// Bound on calls that only touch the shim's memory.
const QUICK: Duration = Duration::from_secs(10);
/// Bound on calls that run the OCI runtime. It is generous: a slow disk is no reason to give a start up, and a
/// kill gets through meanwhile.
const RUNTIME: Duration = Duration::from_secs(240);
/// How long a shim may take to end once it was told to.
const END: Duration = Duration::from_secs(10);
/// containerd's default for a pod's `/dev/shm`.
const SHM_BYTES: u64 = 64 * 1024 * 1024;

/// A process that cannot be mistaken for a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks since boot, field 22 of /proc/pid/stat.
    pub start_time: u64,
}

/// Which namespaces a pod has of its own. A pod always has its own UTS namespace.
#[derive(Clone, Debug)]
pub struct PodNamespaces {
    pub hostname: String,
    pub own_ipc: bool,
    /// Where the pod's network namespace is to be pinned; absent is the node's network.
    pub net_pin: Option<PathBuf>,
    /// Each must belong to a namespace of the pod, see `runtime_shim::sysctl`.
    pub sysctls: BTreeMap<String, String>,
}

/// A task to be created from a bundle.
#[derive(Debug)]
pub struct TaskRequest<'a> {
    pub container: &'a str,
    pub bundle: &'a Path,
    pub rootfs: &'a [Mount],
    /// The CRI log; absent writes none.
    pub log: Option<&'a Path>,
    pub stdin: Stdin,
    /// As `process.terminal` of the bundle's specification.
    pub terminal: bool,
    pub options: &'a RuntimeOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskExit {
    pub code: i32,
    pub at: Timestamp,
}

/// What the shim says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    /// The OCI runtime is at it.
    Creating,
    Created,
    Running {
        pid: i32,
    },
    Stopped,
    Absent,
}

/// Handle on a shim; clones are the same shim.
#[derive(Clone)]
pub struct Shim {
    inner: Arc<Inner>,
}

struct Inner {
    id: String,
    bundle: PathBuf,
    client: ShimClient,
    process: Process,
    pidfd: AsyncFd<OwnedFd>,
}

impl std::fmt::Debug for Shim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shim").field("id", &self.inner.id).field("process", &self.inner.process).finish()
    }
}

impl Shim {
    /// Takes hold of the process behind `client`.
    pub(super) fn new(
        id: &str,
        bundle: PathBuf,
        client: ShimClient,
        identity: &ProcessIdentity,
    ) -> Result<Self, ShimError> {
        let at = |source: std::io::Error| ShimError::Process { id: id.to_owned(), source };
        let pid = i32::try_from(identity.pid).unwrap_or_default();
        let raw = rustix::process::Pid::from_raw(pid)
            .ok_or_else(|| at(std::io::Error::from(std::io::ErrorKind::InvalidData)))?;
        let fd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::NONBLOCK)
            .map_err(|errno| at(errno.into()))?;
        // The pid may have passed to another process before it was opened.
        if !identity.is_alive() {
            return Err(at(std::io::Error::from(std::io::ErrorKind::NotFound)));
        }
        #[expect(
            deprecated,
            reason = "the successor is unsafe; an `OwnedFd` keeps its descriptor open, which is all it asks"
        )]
        let pidfd = AsyncFd::with_interest(fd, tokio::io::Interest::READABLE).map_err(at)?;
        let process = Process { pid, start_time: identity.start_time };
        Ok(Self { inner: Arc::new(Inner { id: id.to_owned(), bundle, client, process, pidfd }) })
    }

    pub fn process(&self) -> Process {
        self.inner.process
    }

    /// Resolves when the shim's process has ended.
    pub async fn ended(&self) {
        // A pidfd becomes readable at the end and stays so; an error of the poll can only mean the same.
        let _ = self.inner.pidfd.readable().await;
    }

    /// Whether the shim answers at all.
    pub async fn ping(&self) -> bool {
        let request = sandbox::PingRequest { sandbox_id: self.inner.id.clone() };
        self.quick().ping_sandbox(&request).await.is_ok()
    }

    /// Makes and pins the pod's namespaces and its `/dev/shm`. Twice is once.
    pub async fn create_sandbox(&self, wish: &PodNamespaces) -> Result<(), ShimError> {
        let ipc = if wish.own_ipc { wire_io::NamespaceMode::Pod } else { wire_io::NamespaceMode::Node };
        let options = wire_io::PodNamespaces {
            hostname: wish.hostname.clone(),
            ipc: ipc.into(),
            uts: wire_io::NamespaceMode::Pod.into(),
            shm_size: SHM_BYTES,
            net_pin: wish.net_pin.as_ref().map_or_else(String::new, |pin| pin.to_string_lossy().into_owned()),
            sysctls: wish.sysctls.clone(),
        };
        let request = sandbox::CreateSandboxRequest {
            sandbox_id: self.inner.id.clone(),
            bundle_path: self.inner.bundle.to_string_lossy().into_owned(),
            options: Some(to_any(&options)),
            ..Default::default()
        };
        // Nothing is waited for, but on a loaded node the kernel takes its time with namespaces.
        self.runtime().create_sandbox(&request).await.map_err(self.failed("make the pod's namespaces"))?;
        Ok(())
    }

    /// Kills and deletes every task, unpins the namespaces. A shim that has died has done none of it.
    pub async fn stop_sandbox(&self) -> Result<(), ShimError> {
        let request = sandbox::StopSandboxRequest { sandbox_id: self.inner.id.clone(), ..Default::default() };
        let answer = self.runtime().stop_sandbox(&request).await;
        match answer.map_err(self.failed("stop the pod")) {
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Ends the shim and waits until its process is gone.
    pub async fn shutdown(&self) -> Result<(), ShimError> {
        let request = sandbox::ShutdownSandboxRequest { sandbox_id: self.inner.id.clone() };
        let answer = self.runtime().shutdown_sandbox(&request).await;
        match answer.map_err(self.failed("shut down")) {
            // The connection may be lost before the answer is read.
            Err(error) if !error.disconnected() => return Err(error),
            Ok(_) | Err(_) => {}
        }
        tokio::time::timeout(END, self.ended())
            .await
            .map_err(|_| ShimError::StillThere { id: self.inner.id.clone(), seconds: END.as_secs() })
    }

    /// `runc create`: the task exists and waits to be started. Its log file exists, too.
    pub async fn create(&self, wish: &TaskRequest<'_>) -> Result<(), ShimError> {
        let options = runc::Options {
            binary_name: wish.options.binary_name.to_string_lossy().into_owned(),
            root: wish.options.root.as_ref().map_or_else(String::new, |r| r.to_string_lossy().into_owned()),
            systemd_cgroup: wish.options.systemd_cgroup,
            ..Default::default()
        };
        let request = task::CreateTaskRequest {
            id: wish.container.to_owned(),
            bundle: wish.bundle.to_string_lossy().into_owned(),
            rootfs: wish.rootfs.iter().map(wire_mount).collect(),
            terminal: wish.terminal,
            stdin: wish.stdin.uri().to_owned(),
            stdout: wish.log.map_or_else(String::new, |log| format!("cri://{}", log.display())),
            options: Some(to_any(&options)),
            ..Default::default()
        };
        self.runtime().create(&request).await.map_err(self.failed("create the task"))?;
        Ok(())
    }

    /// Starts a created task. Returns the pid of its init process.
    pub async fn start(&self, container: &str) -> Result<i32, ShimError> {
        let request = task::StartRequest { id: container.to_owned(), ..Default::default() };
        let answer = self.runtime().start(&request).await.map_err(self.failed("start the task"))?;
        Ok(i32::try_from(answer.pid).unwrap_or_default())
    }

    pub async fn status(&self, container: &str) -> Result<TaskStatus, ShimError> {
        let request = task::StateRequest { id: container.to_owned(), ..Default::default() };
        let answer = match self.quick().state(&request).await {
            Ok(answer) => answer,
            Err(error) => {
                let error = self.failed("tell the task's state")(error);
                return match error.kind() {
                    crate::error::ErrorKind::NotFound => Ok(TaskStatus::Absent),
                    _ => Err(error),
                };
            }
        };
        let pid = i32::try_from(answer.pid).unwrap_or_default();
        Ok(match answer.status() {
            task_types::Status::Created => TaskStatus::Created,
            task_types::Status::Running | task_types::Status::Paused | task_types::Status::Pausing => {
                TaskStatus::Running { pid }
            }
            task_types::Status::Stopped => TaskStatus::Stopped,
            task_types::Status::Unknown => TaskStatus::Creating,
        })
    }

    /// Sends `signal` to the task's init process; one that has gone is NotFound.
    pub async fn kill(&self, container: &str, signal: i32) -> Result<(), ShimError> {
        let signal = u32::try_from(signal).unwrap_or_default();
        self.quick().signal(container, signal, KillTarget::Init).await.map_err(self.failed("signal the task"))
    }

    /// Resolves when the task has ended; the exit file is there by then.
    pub async fn wait(&self, container: &str) -> Result<TaskExit, ShimError> {
        let exit = self.inner.client.wait_exit(container).await.map_err(self.failed("wait for the task"))?;
        let code = i32::try_from(exit.code).unwrap_or_default();
        Ok(TaskExit { code, at: Timestamp(exit.at_unix_nanos) })
    }

    /// Deletes an ended task: cgroup and root mount are gone afterwards. Gone already is fine.
    pub async fn delete(&self, container: &str) -> Result<(), ShimError> {
        let request = task::DeleteRequest { id: container.to_owned(), ..Default::default() };
        match self.runtime().delete(&request).await.map_err(self.failed("delete the task")) {
            Err(error) if error.kind() == crate::error::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Changes a task's limits: `LinuxResources` of the OCI runtime-spec as JSON.
    pub async fn update(&self, container: &str, resources: &[u8]) -> Result<(), ShimError> {
        let resources = prost_types::Any { type_url: LINUX_RESOURCES.to_owned(), value: resources.to_vec() };
        let request = task::UpdateTaskRequest {
            id: container.to_owned(),
            resources: Some(resources),
            ..Default::default()
        };
        self.runtime().update(&request).await.map_err(self.failed("update the task"))
    }

    /// Goes on writing the log to a new file at the old path.
    pub async fn reopen_log(&self, container: &str) -> Result<(), ShimError> {
        self.quick().reopen_log(container).await.map_err(self.failed("reopen the log"))
    }

    pub(super) fn client(&self) -> &ShimClient {
        &self.inner.client
    }

    pub(super) fn id(&self) -> &str {
        &self.inner.id
    }

    pub(super) fn failed(&self, call: &'static str) -> impl FnOnce(CallError) -> ShimError + use<> {
        let id = self.inner.id.clone();
        move |source| ShimError::Call { id, call, source }
    }

    fn quick(&self) -> ShimClient {
        self.inner.client.with_limit(QUICK)
    }

    fn runtime(&self) -> ShimClient {
        self.inner.client.with_limit(RUNTIME)
    }

    /// Whether its process is gone for certain.
    pub fn is_over(&self) -> bool {
        let pid = u32::try_from(self.inner.process.pid).unwrap_or_default();
        match ProcessIdentity::of(pid) {
            Ok(found) => found.start_time != self.inner.process.start_time,
            Err(error) => is_absent(&error),
        }
    }
}

fn wire_mount(mount: &Mount) -> types::Mount {
    types::Mount {
        r#type: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}
