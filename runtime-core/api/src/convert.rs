//! The core's values as the API's messages and back.

use prost_types::Timestamp as WireTime;
use runtime_core::clock::Timestamp;
use runtime_core::content::Descriptor;
use runtime_core::error::ErrorKind;
use runtime_core::ids::Digest;
use runtime_core::record::TypedValue;
use runtime_core::snapshot::Mount;
use runtime_proto::types;
use tonic::Status;

use crate::status::{invalid, refuse};

const NANOS: i64 = 1_000_000_000;

pub(crate) fn time(at: Timestamp) -> WireTime {
    let nanos = i32::try_from(at.nanos().rem_euclid(NANOS)).unwrap_or_default();
    WireTime { seconds: at.nanos().div_euclid(NANOS), nanos }
}

pub(crate) fn timestamp(at: &WireTime) -> Timestamp {
    Timestamp(at.seconds.saturating_mul(NANOS).saturating_add(i64::from(at.nanos)))
}

pub(crate) fn any(value: &TypedValue) -> prost_types::Any {
    prost_types::Any { type_url: value.type_url.clone(), value: value.value.clone() }
}

pub(crate) fn typed(any: prost_types::Any) -> TypedValue {
    TypedValue { type_url: any.type_url, value: any.value }
}

/// A size as the API has them, which are signed.
pub(crate) fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A number that must not be negative.
pub(crate) fn unsigned(what: &str, number: i64) -> Result<u64, Status> {
    u64::try_from(number)
        .map_err(|_| refuse(ErrorKind::InvalidArgument, format!("{what} {number} is negative")))
}

pub(crate) fn digest(text: &str) -> Result<Digest, Status> {
    Digest::parse(text).map_err(invalid)
}

pub(crate) fn wire_descriptor(of: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: of.media_type.clone(),
        digest: of.digest.to_string(),
        size: size(of.size),
        ..Default::default()
    }
}

pub(crate) fn wire_mounts(mounts: Vec<Mount>) -> Vec<types::Mount> {
    let mount = |it: Mount| types::Mount {
        r#type: it.kind,
        source: it.source,
        target: it.target,
        options: it.options,
    };
    mounts.into_iter().map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_wire_before_and_after_the_epoch() {
        for nanos in [0, 1, 1_700_000_000_123_456_789, -1, -1_500_000_000] {
            let wire = time(Timestamp(nanos));
            assert!((0..1_000_000_000).contains(&wire.nanos), "{wire:?}");
            assert_eq!(timestamp(&wire), Timestamp(nanos));
        }
        assert_eq!(timestamp(&WireTime { seconds: i64::MAX, nanos: 0 }), Timestamp(i64::MAX));
    }
}
