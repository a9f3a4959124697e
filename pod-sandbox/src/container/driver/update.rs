//! New limits for a container: one change at a time, in the order in which they were asked for.
//!
//! The OCI runtime is asked by a task of its own, so that Stop and Remove need not wait for it; the record is written
//! by the driver when the limits are in force. A container that does not run has them in its record alone.

use std::collections::VecDeque;
use std::sync::Arc;

use runtime_core::ids::ContainerId;
use runtime_core::task::ShimError;
use tokio::task::JoinHandle;

use super::super::handle::{ContainerError, Reply};
use super::super::{ContainerState, create};
use super::ContainerDriver;
use crate::oci_spec::{self, OciSpecError};
use crate::pod::{NoShim, Pod};
use crate::services::{Services, StoreFailed};
use crate::spec::LinuxResources;

#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("container {id} is {state}, its limits cannot be changed")]
    NotUpdatable { id: ContainerId, state: &'static str },
    #[error("the limits of container {id} are not possible")]
    Limits {
        id: ContainerId,
        #[source]
        source: OciSpecError,
    },
    #[error("cannot reach container {id} to change its limits")]
    NoShim {
        id: ContainerId,
        #[source]
        source: NoShim,
    },
    #[error("the limits of container {id} were not changed")]
    Runtime {
        id: ContainerId,
        #[source]
        source: ShimError,
    },
    #[error("the new limits of container {id} are in force and cannot be recorded")]
    Record {
        id: ContainerId,
        #[source]
        source: StoreFailed,
    },
    #[error("the record of container {id} is gone or cannot be understood")]
    NoRecord { id: ContainerId },
}

impl UpdateError {
    pub fn kind(&self) -> runtime_core::error::ErrorKind {
        use runtime_core::error::ErrorKind;
        match self {
            Self::NotUpdatable { .. } => ErrorKind::FailedPrecondition,
            Self::Limits { source, .. } => source.kind(),
            Self::NoShim { .. } => ErrorKind::Unavailable,
            // The container is there: what is not found is its task, which has just ended.
            Self::Runtime { source, .. } if source.kind() == ErrorKind::NotFound => {
                ErrorKind::FailedPrecondition
            }
            Self::Runtime { source, .. } => source.kind(),
            Self::Record { .. } | Self::NoRecord { .. } => ErrorKind::Internal,
        }
    }
}

type Outcome = Result<(), UpdateError>;

/// The changes of one container.
#[derive(Default)]
pub(super) struct Updates {
    waiting: VecDeque<(LinuxResources, Reply)>,
    running: Option<Change>,
}

struct Change {
    task: JoinHandle<Option<Outcome>>,
    /// What is in force when the task has succeeded.
    resources: LinuxResources,
    reply: Reply,
}

impl Updates {
    /// The OCI runtime's work, for the driver to wait for.
    pub(super) fn task(&mut self) -> Option<&mut JoinHandle<Option<Outcome>>> {
        self.running.as_mut().map(|change| &mut change.task)
    }
}

impl ContainerDriver {
    pub(super) async fn update(&mut self, wish: LinuxResources, reply: Reply) {
        self.updates.waiting.push_back((wish, reply));
        self.next_update().await;
    }

    /// Takes up what waits, unless a change or a start is under way, whose end calls this again.
    pub(super) async fn next_update(&mut self) {
        while self.updates.running.is_none() && self.starting.is_none() {
            let Some((wish, reply)) = self.updates.waiting.pop_front() else { return };
            let mut resources = self.view.borrow().resources.updated(&wish);
            match self.state() {
                _ if self.is_unwanted() => self.refuse(reply, "being removed"),
                ContainerState::Unknown { .. } => self.refuse(reply, "in an unknown state"),
                ContainerState::Running { .. } | ContainerState::Stopping { .. } => {
                    // The score of a process that runs stays what it is.
                    resources.oom_score_adj = self.view.borrow().resources.oom_score_adj;
                    self.begin_update(resources, reply);
                }
                ContainerState::Created | ContainerState::Starting | ContainerState::Exited { .. } => {
                    let outcome = self.keep(resources).await;
                    let _ = reply.send(outcome.map_err(|error| Arc::new(ContainerError::Update(error))));
                }
            }
        }
    }

    fn refuse(&self, reply: Reply, state: &'static str) {
        let error = UpdateError::NotUpdatable { id: self.id.clone(), state };
        let _ = reply.send(Err(Arc::new(ContainerError::Update(error))));
    }

    fn begin_update(&mut self, resources: LinuxResources, reply: Reply) {
        let (services, pod, id) = (self.services.clone(), self.pod.clone(), self.id.clone());
        let wish = resources.clone();
        let work = async move { put_in_force(&services, &pod, id, &wish).await };
        let task = self.services.tasks.spawn_endless("container update", work);
        self.updates.running = Some(Change { task, resources, reply });
    }

    pub(super) async fn update_ended(&mut self, outcome: Outcome) {
        if let Some(Change { resources, reply, .. }) = self.updates.running.take() {
            let outcome = match outcome {
                // Its record is going, or gone.
                Ok(()) if self.is_unwanted() => Ok(()),
                Ok(()) => self.keep(resources).await,
                Err(error) => Err(error),
            };
            let _ = reply.send(outcome.map_err(|error| Arc::new(ContainerError::Update(error))));
        }
        self.next_update().await;
    }

    /// Writes the limits into the container's record, and shows them.
    async fn keep(&self, resources: LinuxResources) -> Outcome {
        let id = || self.id.clone();
        let unreadable = || UpdateError::NoRecord { id: id() };
        let settings = &self.services.settings;
        let record = self.services.container_record(&self.id);
        let record = record.map_err(|source| UpdateError::Record { id: id(), source })?;
        let mut record = record.ok_or_else(unreadable)?;
        let impossible = |source| UpdateError::Limits { id: id(), source };
        let score =
            oci_spec::oom_score_adj(resources.oom_score_adj, settings.restrict_oom_score_adj, &settings.host)
                .map_err(impossible)?;
        record.spec.value = oci_spec::with_limits(&record.spec.value, &resources, &settings.host, score)
            .map_err(impossible)?;
        create::set_resources(&mut record, &resources).map_err(|_| unreadable())?;
        record.updated_at = self.services.clock.now();
        let put = self.services.put_container(record).await;
        put.map_err(|source| UpdateError::Record { id: id(), source })?;
        self.view.send_modify(|view| view.resources = Arc::new(resources));
        Ok(())
    }
}

async fn put_in_force(services: &Services, pod: &Pod, id: ContainerId, wish: &LinuxResources) -> Outcome {
    let limits = oci_spec::limits_json(wish, &services.settings.host)
        .map_err(|source| UpdateError::Limits { id: id.clone(), source })?;
    let shim = pod.shim().await.map_err(|source| UpdateError::NoShim { id: id.clone(), source })?;
    let updated = shim.update(id.as_str(), &limits).await;
    updated.map_err(|source| UpdateError::Runtime { id, source })
}
