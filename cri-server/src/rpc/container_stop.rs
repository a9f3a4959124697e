//! StopContainer and RemoveContainer: what does not exist is stopped and removed already.

use std::time::Duration;

use cri_proto::v1;
use tonic::Status;

use crate::cri::Cri;
use crate::status::status;

pub(crate) async fn stop(
    cri: Cri,
    request: v1::StopContainerRequest,
) -> Result<v1::StopContainerResponse, Status> {
    let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
    cri.pods.stop_container(&request.container_id, grace).await.map_err(status)?;
    Ok(v1::StopContainerResponse {})
}

pub(crate) async fn remove(
    cri: Cri,
    request: v1::RemoveContainerRequest,
) -> Result<v1::RemoveContainerResponse, Status> {
    cri.pods.remove_container(&request.container_id).await.map_err(status)?;
    Ok(v1::RemoveContainerResponse {})
}
