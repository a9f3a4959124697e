//! What a running container uses: read from its cgroup and its writable layer when asked. No shim is asked.

mod cgroup;

use runtime_core::clock::Timestamp;
use runtime_core::ids::Namespace;
use runtime_core::snapshot::Usage;

use crate::cgroup as paths;
use crate::service::PodService;
use crate::view::ContainerView;

pub use cgroup::{CpuStats, MemoryStats, SwapStats};

/// One look at a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStats {
    pub at: Timestamp,
    /// Of a container that runs.
    pub cpu: Option<CpuStats>,
    pub memory: Option<MemoryStats>,
    /// Where the kernel accounts swap.
    pub swap: Option<SwapStats>,
    /// What it has written to its root filesystem, if that can be told.
    pub writable: Option<Usage>,
}

impl PodService {
    /// What a container uses now.
    pub async fn stats(&self, view: &ContainerView) -> ContainerStats {
        let services = self.services();
        let group = self.pod(view.sandbox.as_str()).filter(|_| view.state.pid().is_some());
        let group = group.map(|pod| paths::container_path(&pod.id, &pod.spec, &view.id));
        let (cpu, memory, swap) = group.map_or((None, None, None), |group| cgroup::read(&group));
        let at = services.clock.now();
        let writable = services.snapshotter.usage(&Namespace::k8s(), &view.snapshot_key).await;
        ContainerStats { at, cpu, memory, swap, writable: writable.ok() }
    }
}
