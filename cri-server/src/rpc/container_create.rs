//! CreateContainer: where an image and a pod meet.

use cri_proto::v1;
use tonic::Status;

use crate::convert::container::container_spec;
use crate::convert::image;
use crate::cri::Cri;
use crate::status::status;

pub(crate) async fn create(
    cri: Cri,
    request: v1::CreateContainerRequest,
) -> Result<v1::CreateContainerResponse, Status> {
    let pod = cri.pods.sandbox(&request.pod_sandbox_id).map_err(status)?;
    let spec = container_spec(request.config, &pod.spec).map_err(status)?;
    let resolved = cri.images.resolve(&spec.image.image).map_err(status)?;
    let image = image::input(resolved).map_err(status)?;
    let id = cri.pods.create_container(pod.id.as_str(), spec, image).await.map_err(status)?;
    Ok(v1::CreateContainerResponse { container_id: id.into() })
}
