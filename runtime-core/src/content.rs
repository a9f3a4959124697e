//! Content: immutable blobs by digest. Bytes are shared by all namespaces, records (labels, times) are each
//! namespace's own. Bytes are durable before the record that names them and go after it.

mod ingest;
mod local;
pub mod plugin;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use ingest::Ingest;
pub use local::LocalContent;

pub use crate::labels::Labels;

use crate::clock::Timestamp;
use crate::error::ErrorKind;
use crate::ids::{Digest, Namespace};
use crate::store::StoreError;
use crate::store::record::Record;

/// What an image names: a blob with its type and size (OCI image-spec, "Content Descriptors").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    pub digest: Digest,
    pub size: u64,
    pub labels: Labels,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Record for BlobRecord {
    const BUCKET: &'static str = "content";
    const VERSION: u32 = 1;

    fn key(&self) -> &str {
        self.digest.as_str()
    }
}

/// An open blob.
#[derive(Debug)]
pub struct Blob {
    pub file: File,
    pub size: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("content {digest} does not exist")]
    NotFound { digest: Digest },
    #[error("the bytes of content {digest} are missing on disk")]
    Vanished { digest: Digest },
    #[error("content {digest} has {size} bytes, more than the {limit} that its kind may have")]
    TooLarge { digest: Digest, size: u64, limit: u64 },
    #[error("ingest {reference:?} is being written by someone else")]
    Busy { reference: String },
    #[error("ingest {reference:?} has digest {found}, expected {expected}")]
    WrongDigest { reference: String, expected: Digest, found: Digest },
    #[error("ingest {reference:?} has {found} bytes, expected {expected}")]
    WrongSize { reference: String, expected: u64, found: u64 },
    #[error("failed to {step} {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("metadata of content")]
    Store(#[from] StoreError),
}

impl ContentError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Vanished { .. } | Self::WrongDigest { .. } | Self::WrongSize { .. } => ErrorKind::DataLoss,
            Self::TooLarge { .. } => ErrorKind::ResourceExhausted,
            Self::Busy { .. } => ErrorKind::Unavailable,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Io { .. } => ErrorKind::Internal,
            Self::Store(source) => source.kind(),
        }
    }
}

/// Blobs of every namespace. What is not `async` is short but may touch the disk.
#[async_trait]
pub trait Content: Send + Sync + 'static {
    fn info(&self, namespace: &Namespace, digest: &Digest) -> Result<BlobRecord, ContentError>;

    fn list(&self, namespace: &Namespace) -> Result<Vec<BlobRecord>, ContentError>;

    fn open(&self, namespace: &Namespace, digest: &Digest) -> Result<Blob, ContentError>;

    /// The only writer of `reference`, behind whatever an earlier writer of it has left. Blocks: it hashes that.
    fn ingest(&self, namespace: &Namespace, reference: &str) -> Result<Ingest, ContentError>;

    /// Sets labels; an empty value removes one.
    async fn label(&self, namespace: &Namespace, digest: &Digest, labels: Labels)
    -> Result<(), ContentError>;

    /// Takes the record away; the bytes follow when no namespace has one.
    async fn delete(&self, namespace: &Namespace, digest: &Digest) -> Result<(), ContentError>;

    /// Frees the bytes of those `digests` that no namespace has a record of.
    async fn sweep(&self, digests: Vec<Digest>) -> Result<(), ContentError>;

    /// Frees bytes that no record names and ingests that nobody will resume. For the start of the daemon.
    async fn sweep_orphans(&self) -> Result<(), ContentError>;
}

/// Reads a small document whole; one above `limit` is refused before any of it is read.
pub fn read_document(
    content: &dyn Content,
    namespace: &Namespace,
    digest: &Digest,
    limit: u64,
) -> Result<Vec<u8>, ContentError> {
    let blob = content.open(namespace, digest)?;
    if blob.size > limit {
        return Err(ContentError::TooLarge { digest: digest.clone(), size: blob.size, limit });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
    blob.file.take(limit).read_to_end(&mut bytes).map_err(|source| ContentError::Io {
        step: "read content",
        path: PathBuf::from(digest.as_str()),
        source,
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
