//! StartContainer.

use cri_proto::v1;
use tonic::Status;

use crate::cri::Cri;
use crate::status::status;

pub(crate) async fn start(
    cri: Cri,
    request: v1::StartContainerRequest,
) -> Result<v1::StartContainerResponse, Status> {
    cri.pods.start_container(&request.container_id).await.map_err(status)?;
    Ok(v1::StartContainerResponse {})
}
