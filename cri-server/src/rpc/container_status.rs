//! ContainerStatus and ListContainers: reads of what the drivers publish.

use cri_proto::v1;
use tonic::Status;

use crate::convert::{container, filter};
use crate::cri::Cri;
use crate::status::status;

pub(crate) fn show(
    cri: &Cri,
    request: &v1::ContainerStatusRequest,
) -> Result<v1::ContainerStatusResponse, Status> {
    let view = cri.pods.container(&request.container_id).map_err(status)?;
    let info = if request.verbose {
        container::info(&view, cri.pods.oci_spec(&view.id))
    } else {
        Default::default()
    };
    Ok(v1::ContainerStatusResponse { status: Some(container::status(&view)), info })
}

pub(crate) fn list(cri: &Cri, request: v1::ListContainersRequest) -> v1::ListContainersResponse {
    let views = filter::containers(request.filter, cri.pods.containers());
    v1::ListContainersResponse { containers: views.iter().map(container::summary).collect() }
}
