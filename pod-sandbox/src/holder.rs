//! The holder: the one process that a pod has of ours, as PID 1 of a PID namespace for the whole pod.
//!
//! Only containers with PID mode POD need it, and the first of them that is started brings it. It is an ordinary task of
//! the pod's shim, whose id is the pod's: the shim pins its namespace at the path that such containers' specifications
//! name, and StopPodSandbox ends it after them. Whoever brings it holds [`Pod::holder`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use runtime_core::error::ErrorKind;
use runtime_core::task::{Shim, ShimError, Stdin, TaskRequest, TaskStatus};

use crate::cgroup;
use crate::container::{BundleFailed, create_anew, write_bundle};
use crate::oci_spec::{HolderInputs, OciSpecError, holder};
use crate::pod::{NoShim, Pod};
use crate::sandbox::SandboxState;
use crate::service::PodService;
use crate::services::Services;
use crate::view::SandboxView;

/// Beside the shim.
const BINARY: &str = "orlop-pause";
/// Between two looks at a start that the daemon before this one began.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long that start may take.
const INTERRUPTED_START: Duration = Duration::from_secs(60);
/// A pid and a newline.
const MAX_PID_FILE: u64 = 32;

#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    #[error("its pod has no shim")]
    NoShim(#[from] NoShim),
    #[error("PID mode POD needs {path}, which cannot be found")]
    Binary {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("its specification cannot be made")]
    Spec(#[from] OciSpecError),
    #[error("its specification cannot be encoded")]
    Encode(#[source] serde_json::Error),
    #[error("its bundle cannot be written")]
    Bundle(#[from] BundleFailed),
    #[error("its bundle cannot be made")]
    MakeBundle(#[source] ShimError),
    #[error("its task did not start")]
    Task(#[source] ShimError),
    #[error("its start does not end")]
    Stuck,
}

impl HolderError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoShim(_) => ErrorKind::Unavailable,
            Self::Binary { .. } => ErrorKind::FailedPrecondition,
            Self::Spec(source) => source.kind(),
            Self::Task(source) | Self::MakeBundle(source) => source.kind(),
            Self::Stuck => ErrorKind::DeadlineExceeded,
            Self::Encode(_) | Self::Bundle(_) => ErrorKind::Internal,
        }
    }
}

/// The holder runs when this returns. One that has died is made anew: those who lived in its namespace died with it.
pub(crate) async fn ensure(services: &Services, pod: &Pod) -> Result<(), HolderError> {
    let _one_at_a_time = pod.holder.lock().await;
    let id = pod.id.as_str();
    let shim = pod.shim().await?;
    match settled(&shim, id).await? {
        TaskStatus::Running { .. } => return Ok(()),
        TaskStatus::Created => return start(&shim, id).await,
        TaskStatus::Stopped => shim.delete(id).await.map_err(HolderError::Task)?,
        TaskStatus::Absent => {}
        TaskStatus::Creating => return Err(HolderError::Stuck),
    }
    let bundle = services.shims.make_bundle(id).map_err(HolderError::MakeBundle)?;
    write_bundle(&bundle, &config(services, pod)?)?;
    services.shims.forget_exit(id).map_err(HolderError::MakeBundle)?;
    let request = TaskRequest {
        container: id,
        bundle: bundle.path(),
        rootfs: &[],
        log: None,
        stdin: Stdin::None,
        terminal: false,
        options: &pod.handler.options,
    };
    create_anew(&shim, &request).await.map_err(HolderError::Task)?;
    start(&shim, id).await
}

async fn start(shim: &Shim, id: &str) -> Result<(), HolderError> {
    shim.start(id).await.map(|_pid| ()).map_err(HolderError::Task)
}

/// The task's state, waited for while the OCI runtime is at it: that start was an earlier daemon's.
async fn settled(shim: &Shim, id: &str) -> Result<TaskStatus, HolderError> {
    let deadline = tokio::time::Instant::now() + INTERRUPTED_START;
    loop {
        match shim.status(id).await.map_err(HolderError::Task)? {
            TaskStatus::Creating if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            status => return Ok(status),
        }
    }
}

fn config(services: &Services, pod: &Pod) -> Result<Vec<u8>, HolderError> {
    let program = binary(pod);
    let found = program
        .metadata()
        .and_then(|found| if found.is_file() { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) });
    found.map_err(|source| HolderError::Binary { path: program, source })?;
    spec(services, pod)
}

fn binary(pod: &Pod) -> PathBuf {
    pod.handler.shim.with_file_name(BINARY)
}

/// The holder's `config.json`, whether or not there is one.
fn spec(services: &Services, pod: &Pod) -> Result<Vec<u8>, HolderError> {
    let pins = services.shims.pins(pod.id.as_str());
    let spec = holder(&HolderInputs {
        pod: &pod.spec,
        sandbox_id: &pod.id,
        program: &binary(pod),
        ipc: &pins.ipc,
        uts: &pins.uts,
        net: pod.netns(),
        cgroups_path: &cgroup::holder_path(&pod.id, &pod.spec),
        restrict_oom_score_adj: services.settings.restrict_oom_score_adj,
        host: &services.settings.host,
    })?;
    serde_json::to_vec(&spec).map_err(HolderError::Encode)
}

impl PodService {
    /// A process in the pod's namespaces: the holder's, or else the one of the container that has run longest.
    pub fn sandbox_pid(&self, view: &SandboxView) -> Option<i32> {
        if !matches!(view.state, SandboxState::Ready { .. }) {
            return None;
        }
        let containers = self.containers();
        let running = containers.iter().filter(|container| container.sandbox == view.id);
        let oldest = running.filter_map(|it| Some((it.state.started_at()?, it.state.pid()?))).min();
        self.holder_pid(view).or(oldest.map(|(_, pid)| pid))
    }

    /// As the OCI runtime wrote it, so that no shim is asked; an exit file says that it is over.
    fn holder_pid(&self, view: &SandboxView) -> Option<i32> {
        use io::Read;
        let shims = &self.services().shims;
        let over = shims.exit(view.id.as_str()).map_or(true, |exit| exit.is_some());
        let file = std::fs::File::open(shims.bundle(view.id.as_str()).init_pid()).ok().filter(|_| !over)?;
        let mut text = String::new();
        file.take(MAX_PID_FILE).read_to_string(&mut text).ok()?;
        text.trim().parse().ok().filter(|pid| *pid > 0)
    }

    /// What a holder of the pod is made of, or would be, for `crictl inspectp`.
    pub fn sandbox_oci_spec(&self, id: &str) -> Option<String> {
        let pod = self.pod(id)?;
        String::from_utf8(spec(self.services(), &pod).ok()?).ok()
    }
}
