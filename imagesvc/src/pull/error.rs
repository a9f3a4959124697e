//! Why a pull failed. Every variant names the image; the sources name the step.

use runtime_core::content::ContentError;
use runtime_core::error::ErrorKind;
use runtime_core::gc::GcError;
use runtime_core::ids::Digest;
use runtime_core::image::ImageRecordError;
use runtime_core::lease::LeaseError;
use runtime_core::snapshot::SnapshotError;

use crate::document::DocumentError;
use crate::reference::ReferenceError;
use crate::registry::{HostsError, RegistryError};
use crate::unpack::UnpackError;

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("failed to pull image {image}")]
    Hosts {
        image: String,
        #[source]
        source: HostsError,
    },
    #[error("failed to pull image {image}")]
    Registry {
        image: String,
        #[source]
        source: RegistryError,
    },
    #[error("failed to pull image {image}: its manifest cannot be used")]
    Document {
        image: String,
        #[source]
        source: DocumentError,
    },
    #[error("failed to pull image {image}: content")]
    Content {
        image: String,
        #[source]
        source: ContentError,
    },
    #[error("failed to pull image {image}: layer {layer} cannot be unpacked")]
    Unpack {
        image: String,
        layer: Digest,
        #[source]
        source: UnpackError,
    },
    #[error("failed to pull image {image}: snapshot of layer {layer}")]
    Snapshot {
        image: String,
        layer: Digest,
        #[source]
        source: SnapshotError,
    },
    #[error("failed to pull image {image}: records")]
    Record {
        image: String,
        #[source]
        source: ImageRecordError,
    },
    #[error("failed to pull image {image}: lease")]
    Lease {
        image: String,
        #[source]
        source: LeaseError,
    },
    #[error("failed to pull image {image}: garbage")]
    Gc {
        image: String,
        #[source]
        source: GcError,
    },
    #[error("pulling image {image} was cancelled")]
    Cancelled { image: String },
    #[error("pulling image {image} ended without a result, see the daemon's log")]
    Lost { image: String },
}

impl PullError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference(_) => ErrorKind::InvalidArgument,
            Self::Hosts { source, .. } => source.kind(),
            Self::Registry { source, .. } => source.kind(),
            Self::Document { source, .. } => source.kind(),
            Self::Content { source, .. } => source.kind(),
            Self::Unpack { source, .. } => source.kind(),
            Self::Snapshot { source, .. } => source.kind(),
            Self::Record { source, .. } => source.kind(),
            Self::Lease { source, .. } => source.kind(),
            Self::Gc { source, .. } => source.kind(),
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::Lost { .. } => ErrorKind::Internal,
        }
    }
}
