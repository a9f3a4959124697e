//! Error kinds to gRPC codes: the only place that knows them, for the CRI's services too.

use runtime_core::container::ContainerRecordError;
use runtime_core::content::ContentError;
use runtime_core::error::{ErrorKind, chain};
use runtime_core::events::{PublishError, SubscribeError, SubscriptionError};
use runtime_core::filter::FilterError;
use runtime_core::gc::GcError;
use runtime_core::image::ImageRecordError;
use runtime_core::lease::LeaseError;
use runtime_core::namespace::NamespaceError;
use runtime_core::snapshot::SnapshotError;
use runtime_proto::types::rpc;
pub(crate) use tonic::Code;
use tonic::Status;

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
    ContainerRecordError,
    FilterError,
    GcError,
    ImageRecordError,
    LeaseError,
    NamespaceError,
    PublishError,
    SnapshotError,
    SubscribeError,
    SubscriptionError,
);

impl Kind for ContentError {
    fn kind(&self) -> ErrorKind {
        match self {
            // It is the client's bytes that are not what the client said: it may try again with others.
            Self::WrongDigest { .. } | Self::WrongSize { .. } => ErrorKind::FailedPrecondition,
            other => other.kind(),
        }
    }
}

/// gRPC carries the message in a header, percent-encoded: clients drop the whole answer when it has some 16 KiB.
const LONGEST_MESSAGE: usize = 4000;

/// The answer to a call that failed: the code of the kind, and the error with all its causes.
pub fn answer(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Status {
    refuse(kind, chain(error))
}

pub(crate) fn status(error: impl Kind) -> Status {
    answer(error.kind(), &error)
}

/// The answer to a request that can never succeed.
pub(crate) fn invalid(error: impl std::error::Error + 'static) -> Status {
    answer(ErrorKind::InvalidArgument, &error)
}

/// The answer to a call that is refused before the core hears of it.
pub(crate) fn refuse(kind: ErrorKind, message: impl Into<String>) -> Status {
    Status::new(code(kind), shortened(message.into()))
}

/// The answer to a read or a write past an end.
pub(crate) fn out_of_range(message: String) -> Status {
    Status::out_of_range(message)
}

/// A failure as a value of a message, not as the outcome of a call.
pub(crate) fn as_value(kind: ErrorKind, message: String) -> rpc::Status {
    rpc::Status { code: code(kind) as i32, message, ..Default::default() }
}

/// The answer when something that has to be in a request is not.
pub(crate) fn missing(what: &str) -> Status {
    refuse(ErrorKind::InvalidArgument, format!("{what} is missing"))
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
