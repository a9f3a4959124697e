//! ExecSync and ReopenContainerLog.

use std::time::Duration;

use cri_proto::v1;
use tonic::Status;

use crate::cri::Cri;
use crate::status::status;

pub(crate) async fn exec(cri: &Cri, request: v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse, Status> {
    // Zero and less mean no timeout.
    let timeout = u64::try_from(request.timeout).ok().filter(|t| *t > 0).map(Duration::from_secs);
    let output = cri.pods.exec_sync(&request.container_id, &request.cmd, timeout).await.map_err(status)?;
    Ok(v1::ExecSyncResponse {
        stdout: output.stdout,
        stderr: output.stderr,
        exit_code: output.exit_code.unwrap_or_default(),
    })
}

pub(crate) async fn reopen_log(
    cri: Cri,
    request: v1::ReopenContainerLogRequest,
) -> Result<v1::ReopenContainerLogResponse, Status> {
    cri.pods.reopen_log(&request.container_id).await.map_err(status)?;
    Ok(v1::ReopenContainerLogResponse {})
}
