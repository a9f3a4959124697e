//! ContainerStats and ListContainerStats: what running containers use.

use cri_proto::v1;
use tonic::Status;

use crate::convert::{filter, stats};
use crate::cri::Cri;
use crate::status::status;

pub(crate) async fn show(
    cri: &Cri,
    request: v1::ContainerStatsRequest,
) -> Result<v1::ContainerStatsResponse, Status> {
    let view = cri.pods.container(&request.container_id).map_err(status)?;
    let used = cri.pods.stats(std::slice::from_ref(&view)).await;
    let snapshots = cri.pods.services().snapshotter.root();
    Ok(v1::ContainerStatsResponse { stats: used.first().map(|used| stats::message(&view, used, &snapshots)) })
}

/// Of those that run: crictl and the kubelet take figures without a time for a failure.
pub(crate) async fn list(
    cri: &Cri,
    request: v1::ListContainerStatsRequest,
) -> v1::ListContainerStatsResponse {
    let wanted = request.filter.map(|filter| v1::ContainerFilter {
        id: filter.id,
        state: None,
        pod_sandbox_id: filter.pod_sandbox_id,
        label_selector: filter.label_selector,
    });
    let snapshots = cri.pods.services().snapshotter.root();
    let mut views = filter::containers(wanted, cri.pods.containers());
    views.retain(|view| view.state.pid().is_some());
    let used = cri.pods.stats(&views).await;
    // One may have ended meanwhile.
    let found = views.iter().zip(&used).filter(|(_, used)| used.cpu.is_some());
    let stats = found.map(|(view, used)| stats::message(view, used, &snapshots)).collect();
    v1::ListContainerStatsResponse { stats }
}
