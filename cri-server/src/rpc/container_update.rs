//! UpdateContainerResources. Hints in annotations are not for us.

use cri_proto::v1;
use tonic::Status;

use crate::convert::resources::update;
use crate::cri::Cri;
use crate::status::status;

pub(crate) async fn resources(
    cri: Cri,
    request: v1::UpdateContainerResourcesRequest,
) -> Result<v1::UpdateContainerResourcesResponse, Status> {
    let wish = update(request.linux).map_err(status)?;
    cri.pods.update_container(&request.container_id, wish).await.map_err(status)?;
    Ok(v1::UpdateContainerResourcesResponse {})
}
