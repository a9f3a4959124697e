//! Exec, Attach and PortForward: each answers with the URL of a stream that can be used once.

use cri_proto::v1;
use streaming::{AttachRequest, ExecRequest, PortForwardRequest};
use tonic::Status;

use crate::cri::Cri;
use crate::status::status;

pub(crate) fn exec(cri: &Cri, request: v1::ExecRequest) -> Result<v1::ExecResponse, Status> {
    let v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request;
    let wish = ExecRequest { container: container_id, command: cmd, tty, stdin, stdout, stderr };
    wish.validate().map_err(status)?;
    cri.pods.check_running(&wish.container).map_err(status)?;
    Ok(v1::ExecResponse { url: cri.streams.exec(wish).map_err(status)? })
}

pub(crate) fn attach(cri: &Cri, request: v1::AttachRequest) -> Result<v1::AttachResponse, Status> {
    let v1::AttachRequest { container_id, stdin, tty, stdout, stderr } = request;
    let wish = AttachRequest { container: container_id, tty, stdin, stdout, stderr };
    wish.validate().map_err(status)?;
    cri.pods.check_running(&wish.container).map_err(status)?;
    Ok(v1::AttachResponse { url: cri.streams.attach(wish).map_err(status)? })
}

pub(crate) fn port_forward(
    cri: &Cri,
    request: v1::PortForwardRequest,
) -> Result<v1::PortForwardResponse, Status> {
    let wish = PortForwardRequest { sandbox: request.pod_sandbox_id, ports: request.port };
    wish.validate().map_err(status)?;
    cri.pods.check_ready(&wish.sandbox).map_err(status)?;
    Ok(v1::PortForwardResponse { url: cri.streams.port_forward(wish).map_err(status)? })
}
