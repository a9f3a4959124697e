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

/// gRPC carries the message in a header, percent-encoded: clients drop the whole answer when it has some 16 KiB.
const LONGEST_MESSAGE: usize = 4000;

/// The answer to a call that failed: the code of the kind, and the error with all its causes.
pub(crate) fn status(error: impl Kind) -> Status {
    Status::new(code(error.kind()), shortened(chain(&error)))
}

/// A message without its middle when it is too long: the thing is named at its start, the cause at its end. What an
/// image or a client has written may be repeated in it.
fn shortened(message: String) -> String {
    if message.len() <= LONGEST_MESSAGE {
        return message;
    }
    let start = message.floor_char_boundary(LONGEST_MESSAGE / 2);
    let end = message.ceil_char_boundary(message.len() - LONGEST_MESSAGE / 2);
    format!("{} … {}", &message[..start], &message[end..])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_ends() {
        assert_eq!(shortened("short".to_owned()), "short");
        let long = shortened(format!("thing {} cause", "ä".repeat(1 << 20)));
        assert!(long.starts_with("thing ä") && long.ends_with("ä cause"), "{long}");
        assert!(long.len() < LONGEST_MESSAGE + 10, "{}", long.len());
    }
}
