//! StopPodSandbox and RemovePodSandbox: what does not exist is stopped and removed already.

use cri_proto::v1;
use tonic::Status;

use crate::cri::Cri;
use crate::status::status;

pub(crate) async fn stop(
    cri: Cri,
    request: v1::StopPodSandboxRequest,
) -> Result<v1::StopPodSandboxResponse, Status> {
    cri.pods.stop_sandbox(&request.pod_sandbox_id).await.map_err(status)?;
    Ok(v1::StopPodSandboxResponse {})
}

pub(crate) async fn remove(
    cri: Cri,
    request: v1::RemovePodSandboxRequest,
) -> Result<v1::RemovePodSandboxResponse, Status> {
    cri.pods.remove_sandbox(&request.pod_sandbox_id).await.map_err(status)?;
    Ok(v1::RemovePodSandboxResponse {})
}
