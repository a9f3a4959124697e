//! What can go wrong between the daemon and a shim.

use std::io;
use std::path::PathBuf;

use runtime_shim::client::{CallError, ConnectError};
use runtime_shim::launch::LaunchError;
use runtime_shim::protocol::Code;

use crate::error::ErrorKind;

#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("cannot make bundle {path}")]
    Bundle {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot launch shim {binary} for {id}")]
    Launch {
        binary: PathBuf,
        id: String,
        #[source]
        source: LaunchError,
    },
    #[error("cannot connect to the shim of {id}")]
    Connect {
        id: String,
        #[source]
        source: ConnectError,
    },
    #[error("cannot identify the shim process of {id}")]
    Process {
        id: String,
        #[source]
        source: io::Error,
    },
    #[error("the shim of {id} did not {call}")]
    Call {
        id: String,
        call: &'static str,
        #[source]
        source: CallError,
    },
    #[error("the process of {id} did not end within {seconds}s")]
    StillThere { id: String, seconds: u64 },
    #[error("the exec in {id} ended without a result")]
    NoResult { id: String },
    #[error("cannot clean up behind the shim of {id}: {message}")]
    CleanUp { id: String, message: String },
}

impl ShimError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Call { source, .. } => call_kind(source),
            Self::Connect { .. } => ErrorKind::Unavailable,
            Self::StillThere { .. } => ErrorKind::DeadlineExceeded,
            Self::Bundle { .. }
            | Self::Launch { .. }
            | Self::Process { .. }
            | Self::NoResult { .. }
            | Self::CleanUp { .. } => ErrorKind::Internal,
        }
    }

    /// What the OCI runtime said when it refused a create or start, if that is what failed.
    pub fn refusal(&self) -> Option<String> {
        let Self::Call { source, .. } = self else { return None };
        source.start_failure().map(|failure| failure.message)
    }

    /// The connection to the shim was lost: it may have died, or it may not.
    pub fn disconnected(&self) -> bool {
        matches!(self, Self::Call { source: CallError::Disconnected { .. }, .. } | Self::Connect { .. })
    }
}

fn call_kind(error: &CallError) -> ErrorKind {
    let Some(code) = error.code() else {
        return ErrorKind::Unavailable;
    };
    match code {
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::InvalidArgument => ErrorKind::InvalidArgument,
        Code::FailedPrecondition | Code::Aborted => ErrorKind::FailedPrecondition,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::Ok | Code::Unknown | Code::Internal | Code::Other(_) => ErrorKind::Internal,
    }
}
