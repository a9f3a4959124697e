//! Errors of the CRI as gRPC statuses. The codes are the table of `runtime-api`, for one socket serves both.

use std::sync::Arc;

use imagesvc::{ImageError, PullError};
use pod_sandbox::{
    ContainerError, CreateError, ExecError, ForwardError, LookupError, RunError, TeardownError,
};
use runtime_core::error::ErrorKind;
use streaming::{RequestError, TokenError};
use tonic::Status;

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
    runtime_api::answer(error.kind(), &error)
}
