//! Setting a pod up: climbing the stages, each recorded before it is entered.
//!
//! A failure here undoes nothing: the driver runs the one teardown from the stage that was reached.

use runtime_core::error::ErrorKind;
use runtime_core::task::{PodNamespaces, ShimError, ShimSpec};

use super::files::{FilesError, ensure_files};
use crate::facts::{Fact, Stage};
use crate::journal::JournalError;
use crate::pod::{Pod, ShimSlot};
use crate::services::Services;
use crate::spec::IpcMode;
use crate::timing::{Stopwatch, Timings};

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("cannot record the set-up of pod {pod}")]
    Journal {
        pod: String,
        #[source]
        source: JournalError,
    },
    #[error("cannot write the files of pod {pod}")]
    Files {
        pod: String,
        #[source]
        source: FilesError,
    },
    #[error("cannot start the shim of pod {pod}")]
    Shim {
        pod: String,
        #[source]
        source: ShimError,
    },
    #[error("cannot make the namespaces of pod {pod}")]
    Namespaces {
        pod: String,
        #[source]
        source: ShimError,
    },
}

impl SetupError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Journal { .. } | Self::Files { .. } => ErrorKind::Internal,
            Self::Shim { source, .. } | Self::Namespaces { source, .. } => source.kind(),
        }
    }
}

/// Climbs to `NamespacesMade`; `reached` always names the last stage that was recorded.
pub(super) async fn climb(
    services: &Services,
    pod: &Pod,
    reached: &mut Stage,
) -> Result<Timings, SetupError> {
    let name = || format!("{}/{}", pod.spec.metadata.namespace, pod.spec.metadata.name);
    let mut stopwatch = Stopwatch::start();

    enter(pod, Stage::Files, reached)?;
    let hostname =
        ensure_files(&pod.files, &pod.spec).map_err(|source| SetupError::Files { pod: name(), source })?;
    stopwatch.lap("files");

    enter(pod, Stage::ShimUp, reached)?;
    let spec = ShimSpec { id: pod.id.as_str(), binary: &pod.handler.shim };
    let shim =
        services.shims.start(&spec).await.map_err(|source| SetupError::Shim { pod: name(), source })?;
    pod.set_shim(ShimSlot::Up(shim.clone()));
    let process = shim.process();
    record(pod, &Fact::Shim { pid: process.pid, start_time: process.start_time })?;
    stopwatch.lap("shim");

    enter(pod, Stage::NamespacesMade, reached)?;
    let namespaces = PodNamespaces { hostname, own_ipc: pod.spec.ipc == IpcMode::Pod };
    shim.create_sandbox(&namespaces)
        .await
        .map_err(|source| SetupError::Namespaces { pod: name(), source })?;
    stopwatch.lap("namespaces");
    Ok(stopwatch.finish())
}

fn enter(pod: &Pod, stage: Stage, reached: &mut Stage) -> Result<(), SetupError> {
    record(pod, &Fact::Entering(stage))?;
    *reached = stage;
    Ok(())
}

fn record(pod: &Pod, fact: &Fact) -> Result<(), SetupError> {
    pod.record(fact).map_err(|source| SetupError::Journal { pod: pod.id.to_string(), source })
}
