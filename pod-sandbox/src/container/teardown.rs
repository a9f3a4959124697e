//! The one way down for a container: task, bundle, snapshot, record. Every step may come twice.

use std::time::Duration;

use runtime_core::error::ErrorKind;
use runtime_core::ids::{ContainerId, Namespace};
use runtime_core::snapshot::SnapshotError;
use runtime_core::task::{Shim, ShimError};

use super::ContainerError;
use crate::pod::{NoShim, Pod};
use crate::services::{Services, StoreFailed};
use crate::signal::SIGKILL;
use crate::view::ContainerView;

/// How long a process may take to die of SIGKILL; one that hangs in the kernel takes longer.
const DEATH: Duration = Duration::from_secs(60);
/// Between two tries of a step that failed.
pub(super) const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error("its bundle cannot be removed")]
    Bundle(#[source] ShimError),
    #[error("its snapshot cannot be removed")]
    Snapshot(#[source] SnapshotError),
    #[error("its record cannot be removed")]
    Record(#[source] StoreFailed),
}

/// Deletes the ended task: its cgroup and its root mount are gone afterwards.
pub(crate) async fn delete_task(
    services: &Services,
    pod: &Pod,
    id: &ContainerId,
) -> Result<(), ContainerError> {
    let failed = |source| ContainerError::Delete { id: id.clone(), source };
    match pod.shim().await {
        Ok(shim) => match shim.delete(id.as_str()).await {
            Err(error) if error.disconnected() => {}
            // It runs, whatever was believed of it.
            Err(error) if error.kind() == ErrorKind::FailedPrecondition => {
                return abandon(&shim, id.as_str()).await.map_err(failed);
            }
            other => return other.map_err(failed),
        },
        Err(NoShim::Gone { .. }) => {}
        // It lives, and so does what it holds.
        Err(source @ NoShim::NotAttached { .. }) => {
            return Err(ContainerError::NoShim { id: id.clone(), source });
        }
    }
    services.shims.clean(id.as_str(), &pod.handler.shim).await.map_err(failed)
}

/// Kills and deletes a task that is not to run on.
pub(crate) async fn abandon(shim: &Shim, id: &str) -> Result<(), ShimError> {
    match shim.kill(id, SIGKILL).await {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match tokio::time::timeout(DEATH, shim.wait(id)).await {
        Err(_) => return Err(ShimError::StillThere { id: id.to_owned(), seconds: DEATH.as_secs() }),
        Ok(Err(error)) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(_) => {}
    }
    shim.delete(id).await
}

/// Takes away what is left of a container that nobody knows of, however long a disk makes trouble.
pub(crate) async fn remove_in_the_end(services: &Services, view: &ContainerView) {
    while let Err(error) = remove(services, view).await {
        tracing::error!(container = %view.id, error = %runtime_core::error::chain(&error), "left behind, to be tried again");
        tokio::time::sleep(RETRY).await;
    }
}

/// Takes away what is left of a container whose task is deleted.
pub(crate) async fn remove(services: &Services, view: &ContainerView) -> Result<(), ContainerError> {
    let failed = |source| ContainerError::Remove { id: view.id.clone(), source };
    services.shims.remove_bundle(view.id.as_str()).map_err(|e| failed(RemoveError::Bundle(e)))?;
    match services.snapshotter.remove(&Namespace::k8s(), &view.snapshot_key).await {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed(RemoveError::Snapshot(error)));
        }
        Ok(()) | Err(_) => {}
    }
    services.forget_container(&view.id).await.map_err(|e| failed(RemoveError::Record(e)))
}
