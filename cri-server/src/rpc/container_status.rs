//! ContainerStatus and ListContainers: reads of what the drivers publish.

use cri_proto::v1;
use pod_sandbox::ContainerView;
use tonic::Status;

use crate::convert::inspect::{self, ContainerFacts};
use crate::convert::{container, filter};
use crate::cri::Cri;
use crate::status::status;

pub(crate) fn show(
    cri: &Cri,
    request: &v1::ContainerStatusRequest,
) -> Result<v1::ContainerStatusResponse, Status> {
    let view = cri.pods.container(&request.container_id).map_err(status)?;
    let info =
        if request.verbose { inspect::container(&view, facts(cri, &view)) } else { Default::default() };
    Ok(v1::ContainerStatusResponse { status: Some(container::status(&view)), info })
}

fn facts(cri: &Cri, view: &ContainerView) -> ContainerFacts {
    let pod = view.sandbox.as_str();
    ContainerFacts {
        pod: cri.pods.sandbox(pod).ok().map(|pod| pod.spec),
        handler: cri.pods.handler_of(pod),
        oci_spec: cri.pods.oci_spec(&view.id),
    }
}

pub(crate) fn list(cri: &Cri, request: v1::ListContainersRequest) -> v1::ListContainersResponse {
    let views = filter::containers(request.filter, cri.pods.containers());
    v1::ListContainersResponse { containers: views.iter().map(container::summary).collect() }
}
