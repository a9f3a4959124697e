//! Error kinds to gRPC codes: the only place of this crate that knows them.

use std::sync::Arc;

use imagesvc::{ImageError, PullError};
use pod_sandbox::{
    ContainerError, CreateError, ExecError, ForwardError, LookupError, RunError, TeardownError,
};
use runtime_core::error::{ErrorKind, chain};
use streaming::{RequestError, TokenError};
use tonic::{Code, Status};

use crate::convert::ConvertError;

/// An error that says which kind it is.
pub(crate) trait Kind: std::error::Error + 'static {
    fn kind(&self) -> ErrorKind;
}

macro_rules! kinds {
    ($($error:ty),+ $(,)?) => {
        $(impl Kind for $error {
            fn kind(&self) -> ErrorKind {
                self.kind()
            }
        })+
    };
}

kinds!(
    ContainerError,
    ConvertError,
    CreateError,
    ExecError,
    ForwardError,
    ImageError,
    LookupError,
    PullError,
    RequestError,
    RunError,
    TeardownError,
    TokenError,
);

impl<E: Kind> Kind for Arc<E> {
    fn kind(&self) -> ErrorKind {
        (**self).kind()
    }
}

/// The answer to a call that failed: the code of the kind, and the error with all its causes.
pub(crate) fn status(error: impl Kind) -> Status {
    Status::new(code(error.kind()), chain(&error))
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::DataLoss => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}
