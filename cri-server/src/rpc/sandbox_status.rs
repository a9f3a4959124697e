//! PodSandboxStatus and ListPodSandbox: reads of what the drivers publish.

use cri_proto::v1;
use pod_sandbox::SandboxView;
use tonic::Status;

use crate::convert::inspect::{self, PodFacts};
use crate::convert::{filter, pod};
use crate::cri::Cri;
use crate::status::status;

pub(crate) fn show(
    cri: &Cri,
    request: &v1::PodSandboxStatusRequest,
) -> Result<v1::PodSandboxStatusResponse, Status> {
    let view = cri.pods.sandbox(&request.pod_sandbox_id).map_err(status)?;
    Ok(v1::PodSandboxStatusResponse {
        status: Some(pod::status(&view)),
        info: if request.verbose { inspect::pod(&view, facts(cri, &view)) } else { Default::default() },
        ..Default::default()
    })
}

fn facts(cri: &Cri, view: &SandboxView) -> PodFacts {
    PodFacts {
        pid: cri.pods.sandbox_pid(view),
        handler: cri.pods.handler_of(view.id.as_str()),
        oci_spec: cri.pods.sandbox_oci_spec(view.id.as_str()),
    }
}

pub(crate) fn list(cri: &Cri, request: v1::ListPodSandboxRequest) -> v1::ListPodSandboxResponse {
    let views = filter::sandboxes(request.filter, cri.pods.sandboxes());
    v1::ListPodSandboxResponse { items: views.iter().map(pod::summary).collect() }
}
