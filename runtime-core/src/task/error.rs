//! What can go wrong between the daemon and a shim.

use std::io;
use std::path::PathBuf;

use runtime_shim::client::{CallError, ConnectError};
use runtime_shim::launch::LaunchError;
use runtime_shim::protocol::Code;
use runtime_shim::stream::session::OpenError;

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
    #[error("the shim of {id} did not {call}")]
    Session {
        id: String,
        call: &'static str,
        #[source]
        source: OpenError,
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
            Self::Call { source, .. } => source.code().map_or(ErrorKind::Unavailable, code_kind),
            Self::Session { source, .. } => session_kind(source),
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
        let failure = match self {
            Self::Call { source, .. } => source.start_failure()?,
            Self::Session { source: OpenError::Refused { start_failure, .. }, .. } => {
                start_failure.clone()?
            }
            _ => return None,
        };
        Some(failure.message)
    }

    /// The connection to the shim was lost: it may have died, or it may not.
    pub fn disconnected(&self) -> bool {
        matches!(
            self,
            Self::Call { source: CallError::Disconnected { .. }, .. }
                | Self::Session { source: OpenError::Connect { .. } | OpenError::Lost { .. }, .. }
                | Self::Connect { .. }
        )
    }
}

fn session_kind(error: &OpenError) -> ErrorKind {
    match error {
        OpenError::Refused { code, .. } => code_kind(*code),
        OpenError::Late { .. } => ErrorKind::DeadlineExceeded,
        OpenError::Connect { .. } | OpenError::Lost { .. } => ErrorKind::Unavailable,
    }
}

fn code_kind(code: Code) -> ErrorKind {
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
