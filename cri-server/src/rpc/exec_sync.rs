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
    let (stdout, stderr) = fitting(output.stdout, output.stderr);
    Ok(v1::ExecSyncResponse { stdout, stderr, exit_code: output.exit_code.unwrap_or_default() })
}

/// What a client can take in one message: a kubelet refuses more than 16 MiB, and would lose all of it.
const MAX_OUTPUT: usize = 16 * 1024 * 1024 - 1024;

/// Both streams cut so that they fit together; the longer one gives way first.
fn fitting(mut stdout: Vec<u8>, mut stderr: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let half = MAX_OUTPUT / 2;
    if stdout.len() + stderr.len() > MAX_OUTPUT {
        let for_stdout = stdout.len().min(half.max(MAX_OUTPUT - stderr.len().min(half)));
        stdout.truncate(for_stdout);
        stderr.truncate(MAX_OUTPUT - for_stdout);
    }
    (stdout, stderr)
}

pub(crate) async fn reopen_log(
    cri: Cri,
    request: v1::ReopenContainerLogRequest,
) -> Result<v1::ReopenContainerLogResponse, Status> {
    cri.pods.reopen_log(&request.container_id).await.map_err(status)?;
    Ok(v1::ReopenContainerLogResponse {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_fits_into_one_message() {
        let cases = [
            (10, 20, 10, 20),
            (MAX_OUTPUT + 9, 0, MAX_OUTPUT, 0),
            (0, MAX_OUTPUT + 9, 0, MAX_OUTPUT),
            (MAX_OUTPUT, 100, MAX_OUTPUT - 100, 100),
            (MAX_OUTPUT, MAX_OUTPUT, MAX_OUTPUT / 2, MAX_OUTPUT - MAX_OUTPUT / 2),
        ];
        for (out, err, kept_out, kept_err) in cases {
            let (stdout, stderr) = fitting(vec![b'o'; out], vec![b'e'; err]);
            assert_eq!((stdout.len(), stderr.len()), (kept_out, kept_err), "{out} {err}");
        }
    }
}
