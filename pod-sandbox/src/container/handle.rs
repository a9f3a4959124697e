//! The way to a container's driver: its verbs, and how they fail. A verb for a container that is gone meanwhile has
//! nothing left to do.

use std::sync::Arc;
use std::time::Duration;

use runtime_core::error::ErrorKind;
use runtime_core::ids::{ContainerId, SandboxId};
use runtime_core::task::ShimError;
use tokio::sync::{mpsc, oneshot, watch};

use super::driver::UpdateError;
use super::start::StartError;
use super::teardown::RemoveError;
use crate::journal::JournalError;
use crate::pod::{NoShim, Pod};
use crate::registry::LookupError;
use crate::services::StoreFailed;
use crate::spec::LinuxResources;
use crate::stats::CpuRate;
use crate::view::ContainerView;

#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("container {id} was removed meanwhile")]
    Removed { id: ContainerId },
    #[error("container {id} is {state} and cannot be started")]
    NotStartable { id: ContainerId, state: &'static str },
    #[error("container {id} cannot be started: pod sandbox {pod} is not ready")]
    PodNotReady { id: ContainerId, pod: SandboxId },
    #[error("cannot start container {id}")]
    Start {
        id: ContainerId,
        #[source]
        source: StartError,
    },
    #[error("cannot signal container {id}")]
    Kill {
        id: ContainerId,
        #[source]
        source: ShimError,
    },
    #[error("cannot reach container {id}")]
    NoShim {
        id: ContainerId,
        #[source]
        source: NoShim,
    },
    #[error("container {id} does not die of SIGKILL")]
    Unkillable { id: ContainerId },
    #[error("cannot delete the task of container {id}")]
    Delete {
        id: ContainerId,
        #[source]
        source: ShimError,
    },
    #[error("cannot take away the files of container {id}")]
    Remove {
        id: ContainerId,
        #[source]
        source: RemoveError,
    },
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error("cannot record what happened to container {id}")]
    Journal {
        id: ContainerId,
        #[source]
        source: JournalError,
    },
    #[error("cannot change the record of container {id}")]
    Record {
        id: ContainerId,
        #[source]
        source: StoreFailed,
    },
}

impl ContainerError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Lookup(source) => source.kind(),
            Self::Removed { .. } => ErrorKind::NotFound,
            Self::NotStartable { .. } | Self::PodNotReady { .. } => ErrorKind::FailedPrecondition,
            Self::Start { source, .. } => source.kind(),
            Self::Update(source) => source.kind(),
            Self::Kill { source, .. } | Self::Delete { source, .. } => source.kind(),
            Self::NoShim { .. } => ErrorKind::Unavailable,
            Self::Unkillable { .. } => ErrorKind::DeadlineExceeded,
            Self::Remove { .. } | Self::Journal { .. } | Self::Record { .. } => ErrorKind::Internal,
        }
    }
}

pub(crate) type Outcome = Result<(), Arc<ContainerError>>;
pub(super) type Reply = oneshot::Sender<Outcome>;

#[derive(Debug)]
pub(crate) enum Request {
    Start(Reply),
    /// The stop signal, then SIGKILL when the grace period is over.
    Stop(Duration, Reply),
    /// SIGKILL; answered when the task is deleted, too.
    End(Reply),
    Remove(Reply),
    /// New limits; what they leave out stays.
    Update(Box<LinuxResources>, Reply),
}

/// The way to a container's driver.
#[derive(Clone, Debug)]
pub(crate) struct ContainerHandle {
    pub(crate) id: ContainerId,
    pub(crate) pod: Arc<Pod>,
    pub(crate) view: watch::Receiver<ContainerView>,
    /// What those who ask for figures have seen before.
    pub(crate) cpu: Arc<CpuRate>,
    pub(super) requests: mpsc::Sender<Request>,
}

impl ContainerHandle {
    pub(crate) async fn start(&self) -> Outcome {
        self.ask(Request::Start).await
    }

    pub(crate) async fn stop(&self, grace: Duration) -> Outcome {
        self.gone_is_fine(self.ask(|reply| Request::Stop(grace, reply)).await)
    }

    pub(crate) async fn end(&self) -> Outcome {
        self.gone_is_fine(self.ask(Request::End).await)
    }

    pub(crate) async fn remove(&self) -> Outcome {
        self.gone_is_fine(self.ask(Request::Remove).await)
    }

    pub(crate) async fn update(&self, wish: LinuxResources) -> Outcome {
        self.ask(|reply| Request::Update(Box::new(wish), reply)).await
    }

    async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Outcome {
        let (reply, answer) = oneshot::channel();
        let gone = || Arc::new(ContainerError::Removed { id: self.id.clone() });
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    fn gone_is_fine(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
