//! Images as the CRI sees them: all records with one configuration are one image, its id the digest of that.

mod views;

use std::fmt;

use runtime_core::content::ContentError;
use runtime_core::error::ErrorKind;
use runtime_core::gc::GcError;
use runtime_core::ids::{ChainId, Digest};
use runtime_core::image::ImageRecordError;
use runtime_core::lease::LeaseError;
use runtime_core::snapshot::SnapshotError;

pub(crate) use views::Views;

use crate::document::{DocumentError, ImageConfig};

/// containerd's mark of images that the kubelet must keep.
pub(crate) const PINNED_LABEL: &str = "io.cri-containerd.pinned";

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("image {reference:?} is not present")]
    NotFound { reference: String },
    #[error("image {name:?} cannot be read")]
    Document {
        name: String,
        #[source]
        source: DocumentError,
    },
    #[error("image {name:?} has content that cannot be read")]
    Blob {
        name: String,
        #[source]
        source: ContentError,
    },
    #[error("failed to free content")]
    Content {
        #[source]
        source: ContentError,
    },
    #[error("failed to look after snapshots")]
    Snapshot {
        #[source]
        source: SnapshotError,
    },
    #[error("records of images")]
    Record(#[from] ImageRecordError),
    #[error("leases of images")]
    Lease(#[from] LeaseError),
    #[error("garbage of images")]
    Gc(#[from] GcError),
}

impl ImageError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Document { source, .. } => source.kind(),
            Self::Blob { source, .. } | Self::Content { source } => source.kind(),
            Self::Snapshot { source } => source.kind(),
            Self::Record(source) => source.kind(),
            Self::Lease(source) => source.kind(),
            Self::Gc(source) => source.kind(),
        }
    }
}

/// The digest of the image's configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub Digest);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One image with all its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: ImageId,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    /// Compressed bytes of its blobs.
    pub size: u64,
    /// The numeric user of its configuration.
    pub uid: Option<u32>,
    /// Its user otherwise; empty means root.
    pub username: String,
    pub pinned: bool,
}

/// What a container is made of.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    pub id: ImageId,
    /// The name that was asked for, completed; the id when it was asked for by id.
    pub name: String,
    /// The snapshot to build upon; an image without layers has none and its root is empty.
    pub chain_id: Option<ChainId>,
    pub config: ImageConfig,
}
