//! The one way down for a container: task, bundle, snapshot, record. Every step may come twice.

use runtime_core::error::ErrorKind;
use runtime_core::ids::{ContainerId, Namespace};
use runtime_core::snapshot::SnapshotError;
use runtime_core::task::{Shim, ShimError};

use super::ContainerError;
use crate::pod::Pod;
use crate::services::{Services, StoreFailed};
use crate::view::ContainerView;

const SIGKILL: i32 = 9;

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
    let failed = |source| ContainerError::Delete {
        id: id.clone(),
        source,
    };
    if let Ok(shim) = pod.shim().await {
        match shim.delete(id.as_str()).await {
            Err(error) if error.disconnected() => {}
            other => return other.map_err(failed),
        }
    }
    services
        .shims
        .clean(id.as_str(), &pod.handler.shim)
        .await
        .map_err(failed)
}

/// Gives up a task that was created and not started.
pub(crate) async fn abandon(shim: &Shim, id: &str) -> Result<(), ShimError> {
    match shim.kill(id, SIGKILL).await {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match shim.wait(id).await {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(_) | Err(_) => {}
    }
    shim.delete(id).await
}

/// Takes away what is left of a container whose task is deleted.
pub(crate) async fn remove(services: &Services, view: &ContainerView) -> Result<(), ContainerError> {
    let failed = |source| ContainerError::Remove {
        id: view.id.clone(),
        source,
    };
    services
        .shims
        .remove_bundle(view.id.as_str())
        .map_err(|e| failed(RemoveError::Bundle(e)))?;
    match services
        .snapshotter
        .remove(&Namespace::k8s(), &view.snapshot_key)
        .await
    {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed(RemoveError::Snapshot(error)));
        }
        Ok(()) | Err(_) => {}
    }
    services
        .forget_container(&view.id)
        .await
        .map_err(|e| failed(RemoveError::Record(e)))
}
