//! What readers see: cheap snapshots that the drivers publish. Status and List never enter a driver.

use std::sync::Arc;

use runtime_core::clock::Timestamp;
use runtime_core::ids::{ContainerId, SandboxId, SnapshotKey};

use crate::container::ContainerState;
use crate::network::NetworkView;
use crate::sandbox::SandboxState;
use crate::spec::{ContainerSpec, ImageInput, LinuxResources, PodSpec};
use crate::timing::Timings;
use crate::user::ResolvedUser;

#[derive(Clone, Debug)]
pub struct SandboxView {
    pub id: SandboxId,
    pub spec: Arc<PodSpec>,
    pub created_at: Timestamp,
    pub state: SandboxState,
    pub shim_pid: Option<i32>,
    /// Absent with the node's network, and until the pod has one of its own.
    pub network: Option<Arc<NetworkView>>,
    pub timings: Timings,
}

#[derive(Clone, Debug)]
pub struct ContainerView {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub spec: Arc<ContainerSpec>,
    pub image: Arc<ImageInput>,
    pub created_at: Timestamp,
    pub state: ContainerState,
    /// What it may use now: as created, or as updated since.
    pub resources: Arc<LinuxResources>,
    /// Somebody asked to remove it.
    pub removing: bool,
    /// Whom its processes run as; unknown only while it is being created.
    pub user: Option<ResolvedUser>,
    pub snapshotter: String,
    pub snapshot_key: SnapshotKey,
}
