//! Starting a container's task, finding out how far an interrupted start came, and waiting for the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime_core::clock::Timestamp;
use runtime_core::error::ErrorKind;
use runtime_core::ids::{ContainerId, Namespace};
use runtime_core::snapshot::SnapshotError;
use runtime_core::task::{Bundle, Shim, ShimError, Stdin, TaskRequest, TaskStatus};

use super::pid::{self, TargetError};
use super::{KILLED, teardown};
use crate::facts::{ContainerExit, ExitReason};
use crate::holder::{self, HolderError};
use crate::pod::{NoShim, Pod};
use crate::registry::Registry;
use crate::services::{Services, StoreFailed};
use crate::spec::{ContainerSpec, PidMode};
use crate::view::ContainerView;

/// Between two looks at a start that the OCI runtime is still working on after a daemon restart.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long such a start may take before the container is reported as unknown.
const INTERRUPTED_START: Duration = Duration::from_secs(300);
/// Between two tries to reach a shim that lives but does not answer.
const RECONNECT: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("its pod has no shim")]
    NoShim(#[from] NoShim),
    #[error("its record cannot be read")]
    Record(#[from] StoreFailed),
    #[error("its record is gone")]
    NoRecord,
    #[error("its root filesystem cannot be found")]
    Snapshot(#[from] SnapshotError),
    #[error("its bundle cannot be written")]
    Bundle(#[from] BundleFailed),
    #[error("the pod's holder cannot be brought")]
    Holder(#[from] HolderError),
    #[error("whose processes it wants to see is gone")]
    Target(#[from] TargetError),
    #[error("its bundle cannot be made")]
    MakeBundle(#[source] ShimError),
    #[error("the log folder {path} cannot be made")]
    LogFolder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the OCI runtime refused it: {message}")]
    Refused { message: String },
    #[error("its task did not start")]
    Task(#[source] ShimError),
    #[error("its start does not end")]
    Stuck,
}

impl StartError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoShim(_) => ErrorKind::Unavailable,
            Self::Task(source) | Self::MakeBundle(source) => source.kind(),
            Self::Stuck => ErrorKind::DeadlineExceeded,
            Self::Holder(source) => source.kind(),
            Self::Target(source) => source.kind(),
            Self::Record(_)
            | Self::NoRecord
            | Self::Snapshot(_)
            | Self::Bundle(_)
            | Self::LogFolder { .. }
            | Self::Refused { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the container has had its one start, as containerd sees it. What only kept the start from being
    /// tried, or hides how it went, leaves the container to be started again.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::NoRecord
            | Self::Snapshot(_)
            | Self::Bundle(_)
            | Self::MakeBundle(_)
            | Self::Target(_)
            | Self::LogFolder { .. } => true,
            Self::Task(source) => !source.disconnected(),
            Self::NoShim(_) | Self::Record(_) | Self::Holder(_) | Self::Stuck => false,
        }
    }
}

/// A bundle's files could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct BundleFailed {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A task that has been started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) at: Timestamp,
}

pub(crate) async fn start(
    services: &Services,
    registry: &Registry,
    pod: &Pod,
    view: &ContainerView,
) -> Result<Running, StartError> {
    let id = &view.id;
    let shim = pod.shim().await?;
    ready_pid_namespace(services, registry, pod, &view.spec).await?;
    let record = services.container_record(id)?.ok_or(StartError::NoRecord)?;
    let rootfs = services.snapshotter.mounts(&Namespace::k8s(), &view.snapshot_key)?;
    let bundle = services.shims.make_bundle(id.as_str()).map_err(StartError::MakeBundle)?;
    write_bundle(&bundle, &record.spec.value)?;
    // The exit of an earlier try that was undone is not this one's.
    services.shims.forget_exit(id.as_str()).map_err(StartError::MakeBundle)?;
    let log = view.spec.log_path.as_deref();
    if let Some(folder) = log.and_then(Path::parent) {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(|source| StartError::LogFolder { path: folder.to_owned(), source })?;
    }
    let request = TaskRequest {
        container: id.as_str(),
        bundle: bundle.path(),
        rootfs: &rootfs,
        log,
        stdin: stdin(&view.spec),
        terminal: view.spec.tty,
        options: &pod.handler.options,
    };
    create_anew(&shim, &request).await.map_err(refused)?;
    // Taken before the process runs: it may have ended before the answer is here.
    let at = services.clock.now();
    let pid = shim.start(id.as_str()).await.map_err(refused)?;
    Ok(Running { pid, at })
}

fn stdin(spec: &ContainerSpec) -> Stdin {
    match (spec.stdin, spec.stdin_once) {
        (false, _) => Stdin::None,
        (true, false) => Stdin::Keep,
        (true, true) => Stdin::Once,
    }
}

/// What the specification names is there: the pod's holder, or the process of the target.
async fn ready_pid_namespace(
    services: &Services,
    registry: &Registry,
    pod: &Pod,
    spec: &ContainerSpec,
) -> Result<(), StartError> {
    match &spec.security.pid {
        PidMode::Container | PidMode::Host => Ok(()),
        PidMode::Pod => Ok(holder::ensure(services, pod).await?),
        PidMode::Target(_) => {
            pid::namespace(&services.shims, registry, &pod.id, spec)?;
            Ok(())
        }
    }
}

/// Creates the task; one that an interrupted start left behind is deleted first.
pub(crate) async fn create_anew(shim: &Shim, request: &TaskRequest<'_>) -> Result<(), ShimError> {
    match shim.create(request).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            teardown::abandon(shim, request.container).await?;
            shim.create(request).await
        }
        other => other,
    }
}

fn refused(error: ShimError) -> StartError {
    match error.refusal() {
        Some(message) => StartError::Refused { message },
        None => StartError::Task(error),
    }
}

pub(crate) fn write_bundle(bundle: &Bundle, spec: &[u8]) -> Result<(), BundleFailed> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let failed = |path: PathBuf| move |source| BundleFailed { path, source };
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true).mode(0o711);
    folder.create(bundle.rootfs()).map_err(failed(bundle.rootfs()))?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(bundle.config()).map_err(failed(bundle.config()))?;
    file.write_all(spec).map_err(failed(bundle.config()))
}

/// After a restart: what became of a start that was under way. `None`: nothing runs and nothing is left.
pub(crate) async fn find_out(
    services: &Services,
    pod: &Pod,
    id: &ContainerId,
) -> Result<Option<Running>, StartError> {
    let shim = loop {
        match pod.shim().await {
            Ok(shim) => break shim,
            // It died: what it left is taken away, and the container can be started no more.
            Err(NoShim::Gone { .. }) => return Ok(None),
            Err(NoShim::NotAttached { .. }) => {}
        }
    };
    let deadline = tokio::time::Instant::now() + INTERRUPTED_START;
    loop {
        match shim.status(id.as_str()).await.map_err(StartError::Task)? {
            TaskStatus::Creating if tokio::time::Instant::now() >= deadline => return Err(StartError::Stuck),
            TaskStatus::Creating => tokio::time::sleep(LOOK_AGAIN).await,
            TaskStatus::Running { pid } => {
                return Ok(Some(Running { pid, at: services.clock.now() }));
            }
            // It ran and ended meanwhile, or its start failed: the exit file knows.
            TaskStatus::Stopped => {
                let ran = matches!(services.shims.exit(id.as_str()), Ok(Some(_)));
                return Ok(ran.then(|| Running { pid: 0, at: services.clock.now() }));
            }
            // Gone on with, not undone: the start may be under way, and its process may run already. The shim
            // takes one start at a time and answers a second one like the first.
            TaskStatus::Created => {
                let at = services.clock.now();
                let pid = shim.start(id.as_str()).await.map_err(refused)?;
                return Ok(Some(Running { pid, at }));
            }
            TaskStatus::Absent => return Ok(None),
        }
    }
}

/// Resolves with the exit of a started task, however it comes to be known.
pub(crate) async fn wait(services: Arc<Services>, pod: Arc<Pod>, id: ContainerId) -> ContainerExit {
    loop {
        if let Some(exit) = recorded(&services, &id) {
            return exit;
        }
        let shim = match pod.shim().await {
            Ok(shim) => shim,
            // It lives and does not answer yet: nobody knows an exit of its containers.
            Err(NoShim::NotAttached { .. }) => continue,
            Err(NoShim::Gone { .. }) => {
                return recorded(&services, &id).unwrap_or_else(|| died_with_shim(&services));
            }
        };
        let waited = shim.wait(id.as_str()).await;
        if let Some(exit) = recorded(&services, &id) {
            return exit;
        }
        match waited {
            Ok(exit) => return finished(exit.code, false, exit.at),
            // Lost the connection: either the shim died, which its process tells, or it is tried again.
            Err(error) if error.disconnected() => {
                let over = tokio::time::timeout(RECONNECT, shim.ended()).await.is_ok();
                if over {
                    return recorded(&services, &id).unwrap_or_else(|| died_with_shim(&services));
                }
            }
            Err(error) => {
                tracing::error!(container = %id, error = %runtime_core::error::chain(&error), "exit is not known");
                return ContainerExit {
                    code: 255,
                    reason: ExitReason::Unknown,
                    message: runtime_core::error::chain(&error),
                    at: services.clock.now(),
                };
            }
        }
    }
}

/// What the shim wrote down before it told anybody.
pub(crate) fn recorded(services: &Services, id: &ContainerId) -> Option<ContainerExit> {
    match services.shims.exit(id.as_str()) {
        Ok(record) => record.map(|r| finished(i32::from(r.code), r.oom_killed, Timestamp(r.at_unix_nanos))),
        Err(error) => {
            tracing::warn!(container = %id, error = %runtime_core::error::chain(&error), "exit file not read");
            None
        }
    }
}

fn finished(code: i32, oom_killed: bool, at: Timestamp) -> ContainerExit {
    let reason = match code {
        _ if oom_killed => ExitReason::OomKilled,
        0 => ExitReason::Completed,
        _ => ExitReason::Error,
    };
    ContainerExit { code, reason, message: String::new(), at }
}

fn died_with_shim(services: &Services) -> ContainerExit {
    ContainerExit {
        code: KILLED,
        reason: ExitReason::ShimDied,
        message: "the pod's shim died".to_owned(),
        at: services.clock.now(),
    }
}
