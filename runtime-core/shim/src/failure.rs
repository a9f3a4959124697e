//! What goes wrong in the shim, as ttrpc statuses. The only place that turns errors into codes.

use runtime_shim::protocol::io::{StartFailure, StartFailureKind};
use runtime_shim::protocol::{Code, to_any};
use runtime_shim::ttrpc::server::Status;

use crate::log;
use crate::oci_runtime::{Refusal, RuntimeError};

/// There is no such container.
pub(crate) fn unknown(id: &str) -> Status {
    Status::new(Code::NotFound, format!("container {id} is not known to this shim"))
}

/// Something of ours failed.
pub(crate) fn internal(error: &dyn std::error::Error) -> Status {
    Status::new(Code::Internal, log::chain(error))
}

/// A request that makes no sense.
pub(crate) fn invalid(message: impl Into<String>) -> Status {
    Status::new(Code::InvalidArgument, message)
}

/// A request that makes no sense now.
pub(crate) fn precondition(message: impl Into<String>) -> Status {
    Status::new(Code::FailedPrecondition, message)
}

/// A failed call of the OCI runtime that should have started a process: a refusal carries its reason as a detail.
pub(crate) fn start_failed(error: &RuntimeError) -> Status {
    let mut status = runtime(error);
    if let RuntimeError::Refused { refusal, message, .. } = error {
        let (kind, exit_code) = match refusal {
            Refusal::CommandNotFound => (StartFailureKind::CommandNotFound, 127),
            Refusal::CommandNotExecutable => (StartFailureKind::CommandNotExecutable, 126),
            Refusal::UnknownOption | Refusal::Other => (StartFailureKind::Other, 128),
        };
        let failure = StartFailure { kind: kind.into(), exit_code, message: message.clone() };
        status.details.push(to_any(&failure));
    }
    status
}

/// Any failed call of the OCI runtime.
pub(crate) fn runtime(error: &RuntimeError) -> Status {
    let code = match error {
        RuntimeError::Refused { .. } => Code::Unknown,
        RuntimeError::Aborted { .. } => Code::Aborted,
        RuntimeError::Spawn { .. } | RuntimeError::File { .. } | RuntimeError::Stray { .. } => Code::Internal,
    };
    Status::new(code, log::chain(error))
}
