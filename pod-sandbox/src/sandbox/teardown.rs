//! The one way down: failed set-up, Stop, Remove and recovery all descend from the stage that was reached.
//!
//! Every step succeeds when its thing is already gone, so a teardown that failed half-way is simply run again.

use runtime_core::error::ErrorKind;
use runtime_core::task::{Shim, ShimError};

use super::files::{FilesError, remove_files};
use crate::cgroup::{CgroupError, has_own_parent, remove_own_parent};
use crate::facts::Stage;
use crate::journal::{self, JournalError};
use crate::network::NetworkError;
use crate::pod::{Pod, ShimSlot};
use crate::registry::LookupError;
use crate::services::{Services, StoreFailed};

#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("cannot take down the namespaces of pod {pod}")]
    Namespaces {
        pod: String,
        #[source]
        source: ShimError,
    },
    #[error("cannot take pod {pod} off its network")]
    Network {
        pod: String,
        #[source]
        source: NetworkError,
    },
    #[error("cannot end the shim of pod {pod}")]
    Shim {
        pod: String,
        #[source]
        source: ShimError,
    },
    #[error("cannot remove the cgroup of pod {pod}")]
    Cgroup {
        pod: String,
        #[source]
        source: CgroupError,
    },
    #[error("cannot remove the files of pod {pod}")]
    Files {
        pod: String,
        #[source]
        source: FilesError,
    },
    #[error("cannot remove the journal of pod {pod}")]
    Journal {
        pod: String,
        #[source]
        source: JournalError,
    },
    #[error("cannot forget pod {pod}")]
    Record {
        pod: String,
        #[source]
        source: StoreFailed,
    },
    #[error("containers of pod {pod} did not end: {containers}")]
    Containers { pod: String, containers: String },
}

impl TeardownError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Namespaces { source, .. } | Self::Shim { source, .. } => source.kind(),
            Self::Cgroup { .. } | Self::Files { .. } | Self::Journal { .. } | Self::Record { .. } => {
                ErrorKind::Internal
            }
            Self::Network { source, .. } => source.kind(),
            Self::Lookup(source) => source.kind(),
            Self::Containers { .. } => ErrorKind::DeadlineExceeded,
        }
    }
}

/// Takes the pod off its networks. Its containers have ended before; its namespaces are still there, or nobody's.
pub(super) async fn leave_network(services: &Services, pod: &Pod) -> Result<(), TeardownError> {
    let Some(network) = &pod.network else { return Ok(()) };
    let results = network.results.get().map(Vec::as_slice);
    let detached = services.networks.detach(&network.intent, results).await;
    detached.map_err(|source| TeardownError::Network { pod: pod.id.to_string(), source })
}

/// What StopPodSandbox takes away: everything that runs. The pod has left its networks before.
pub(super) async fn stop(services: &Services, pod: &Pod, reached: Stage) -> Result<(), TeardownError> {
    let name = || pod.id.to_string();
    if reached >= Stage::ShimUp {
        let ended = match pod.shim_now() {
            Some(shim) => end_shim(&shim, pod, reached).await?,
            None => Ended::Gone,
        };
        if let Ended::Gone = ended {
            let cleaned = services.shims.clean(pod.id.as_str(), &pod.handler.shim).await;
            cleaned.map_err(|source| TeardownError::Shim { pod: name(), source })?;
        }
        pod.set_shim(ShimSlot::Gone);
    }
    if has_own_parent(&pod.spec) {
        remove_own_parent(&pod.id).await.map_err(|source| TeardownError::Cgroup { pod: name(), source })?;
    }
    Ok(())
}

/// What became of what a shim held.
enum Ended {
    /// It took everything down itself.
    Clean,
    /// It had died: everything is to be cleaned up behind it.
    Gone,
}

async fn end_shim(shim: &Shim, pod: &Pod, reached: Stage) -> Result<Ended, TeardownError> {
    let name = || pod.id.to_string();
    if reached >= Stage::NamespacesMade {
        match shim.stop_sandbox().await {
            Err(error) if error.disconnected() && shim.is_over() => return Ok(Ended::Gone),
            stopped => stopped.map_err(|source| TeardownError::Namespaces { pod: name(), source })?,
        }
    }
    shim.shutdown().await.map_err(|source| TeardownError::Shim { pod: name(), source })?;
    Ok(Ended::Clean)
}

/// What RemovePodSandbox takes away beyond that: bundle and files.
pub(super) async fn remove(services: &Services, pod: &Pod) -> Result<(), TeardownError> {
    let name = || pod.id.to_string();
    services
        .shims
        .remove_sandbox(pod.id.as_str())
        .await
        .map_err(|source| TeardownError::Shim { pod: name(), source })?;
    remove_files(&pod.files).map_err(|source| TeardownError::Files { pod: name(), source })
}

/// The very last step, after the durable record: a journal without a record is nobody's, a record without a
/// journal would look like a pod of an earlier boot.
pub(super) fn close_journal(services: &Services, pod: &Pod) -> Result<(), TeardownError> {
    journal::remove(&services.paths.journal(&pod.id))
        .map_err(|source| TeardownError::Journal { pod: pod.id.to_string(), source })
}
