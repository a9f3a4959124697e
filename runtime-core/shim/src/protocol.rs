//! Wire messages of the shim's services, generated from `proto/`, with the names that go with them.
//!
//! An `Any` of containerd carries the bare full name of its message, without the `type.googleapis.com/` prefix.

use prost::{Message, Name};
use prost_types::{Any, Timestamp};
use thiserror::Error;

#[expect(unreachable_pub, reason = "generated code; what is public is re-exported below")]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/wire.rs"));
}

pub use wire::containerd::runc::v1 as runc;
pub use wire::containerd::runtime::bootstrap::v1 as bootstrap;
pub use wire::containerd::runtime::sandbox::v1 as sandbox;
pub use wire::containerd::task::v3 as task;
pub use wire::containerd::types;
pub use wire::containerd::v1::types as task_types;
pub use wire::orlop::shim::io::v1 as io;
pub use wire::ttrpc as envelope;

/// Task service, current name.
pub const TASK_V3: &str = "containerd.task.v3.Task";
/// Task service under the name that version 2 daemons and shims use; same methods and messages.
pub const TASK_V2: &str = "containerd.task.v2.Task";
/// Sandbox service.
pub const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";
/// Execs and log rotation, private to orlop.
pub const IO: &str = "orlop.shim.io.v1.Io";

/// Type of an `Any` with `LinuxResources` of the OCI runtime specification, JSON.
pub const LINUX_RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// gRPC status codes that the shim uses (google.rpc.Code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    Unimplemented,
    Internal,
    Unavailable,
    /// One that the shim never sends.
    Other(i32),
}

impl Code {
    const TABLE: [(Self, i32); 14] = [
        (Self::Ok, 0),
        (Self::Cancelled, 1),
        (Self::Unknown, 2),
        (Self::InvalidArgument, 3),
        (Self::DeadlineExceeded, 4),
        (Self::NotFound, 5),
        (Self::AlreadyExists, 6),
        (Self::PermissionDenied, 7),
        (Self::ResourceExhausted, 8),
        (Self::FailedPrecondition, 9),
        (Self::Aborted, 10),
        (Self::Unimplemented, 12),
        (Self::Internal, 13),
        (Self::Unavailable, 14),
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        if let Self::Other(number) = self {
            return number;
        }
        Self::TABLE.iter().find(|(code, _)| *code == self).map_or(2, |(_, number)| *number)
    }

    /// The code of a number from the wire.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        Self::TABLE.iter().find(|(_, known)| *known == number).map_or(Self::Other(number), |(code, _)| *code)
    }
}

/// An `Any` could not be read as the message it should hold.
#[derive(Debug, Error)]
pub enum AnyError {
    /// Another message.
    #[error("expected a message of type {expected}, got {found:?}")]
    Type { expected: String, found: String },
    /// Not a message.
    #[error("message of type {expected} is damaged")]
    Damaged {
        expected: String,
        #[source]
        source: prost::DecodeError,
    },
}

macro_rules! named {
    ($($package:literal { $($path:path => $name:literal),+ $(,)? })+) => {
        $($(impl Name for $path {
            const NAME: &'static str = $name;
            const PACKAGE: &'static str = $package;
            fn type_url() -> String {
                Self::full_name()
            }
        })+)+
    };
}

named! {
    "containerd.runc.v1" { runc::Options => "Options" }
    "orlop.shim.io.v1" { io::PodNamespaces => "PodNamespaces", io::StartFailure => "StartFailure" }
}

/// Packs a message as containerd does.
#[must_use]
pub fn to_any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::full_name(), value: message.encode_to_vec() }
}

/// Unpacks a message; a prefix before the type's name is accepted.
///
/// # Errors
/// When the `Any` holds another type, or bytes that are not a message.
pub fn from_any<M: Message + Name + Default>(any: &Any) -> Result<M, AnyError> {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    if name != M::full_name() {
        return Err(AnyError::Type { expected: M::full_name(), found: any.type_url.clone() });
    }
    M::decode(any.value.as_slice()).map_err(|source| AnyError::Damaged { expected: M::full_name(), source })
}

/// Nanoseconds since the Unix epoch as a wire timestamp.
#[must_use]
pub fn timestamp(unix_nanos: i64) -> Timestamp {
    let nanos = i32::try_from(unix_nanos.rem_euclid(1_000_000_000)).expect("a remainder of 10^9 fits");
    Timestamp { seconds: unix_nanos.div_euclid(1_000_000_000), nanos }
}

/// Nanoseconds since the Unix epoch of a wire timestamp; absent or out of range = 0.
#[must_use]
pub fn unix_nanos(timestamp: Option<&Timestamp>) -> i64 {
    timestamp
        .and_then(|at| at.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(at.nanos)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_has_no_prefix_and_is_read_with_or_without_one() {
        let options = runc::Options { binary_name: "crun".into(), ..Default::default() };
        let mut any = to_any(&options);
        assert_eq!(any.type_url, "containerd.runc.v1.Options");
        assert_eq!(from_any::<runc::Options>(&any).unwrap(), options);
        any.type_url = format!("type.googleapis.com/{}", any.type_url);
        assert_eq!(from_any::<runc::Options>(&any).unwrap(), options);
        assert!(matches!(from_any::<io::PodNamespaces>(&any), Err(AnyError::Type { .. })));
        any.value = vec![0xff];
        assert!(matches!(from_any::<runc::Options>(&any), Err(AnyError::Damaged { .. })));
    }

    #[test]
    fn codes_are_their_own_inverse() {
        for number in -1..20 {
            assert_eq!(Code::from_number(number).number(), number);
        }
        assert_eq!(Code::Unimplemented.number(), 12);
    }

    #[test]
    fn timestamps_keep_nanoseconds_before_and_after_the_epoch() {
        for nanos in [0, 1, -1, 1_700_000_000_123_456_789, i64::MAX] {
            assert_eq!(unix_nanos(Some(&timestamp(nanos))), nanos);
        }
        assert_eq!(unix_nanos(None), 0);
        assert_eq!(unix_nanos(Some(&Timestamp { seconds: i64::MAX, nanos: 0 })), 0);
    }
}
