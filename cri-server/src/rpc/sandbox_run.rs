//! RunPodSandbox.

use cri_proto::v1;
use tonic::Status;

use crate::convert::pod::pod_spec;
use crate::cri::Cri;
use crate::status::status;

pub(crate) async fn run(
    cri: Cri,
    request: v1::RunPodSandboxRequest,
) -> Result<v1::RunPodSandboxResponse, Status> {
    let spec = pod_spec(request.config, request.runtime_handler).map_err(status)?;
    let id = cri.pods.run_sandbox(spec).await.map_err(status)?;
    Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id.into() })
}
