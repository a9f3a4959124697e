//! Content: immutable blobs by digest. Bytes are shared by all namespaces, records (labels, times) are each
//! namespace's own. Bytes are durable before the record that names them and go after it.

mod ingest;
mod local;
pub mod plugin;
mod progress;

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
use crate::ids::{Digest, LeaseId, Namespace};
use crate::labels::{LabelChange, LabelError};
use crate::lease::LeaseError;
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

/// Content that is to be written.
#[derive(Clone, Debug)]
pub struct NewContent {
    pub namespace: Namespace,
    /// What the writer calls it; one writer at a time has it.
    pub reference: String,
    /// Bytes it will have, 0 if the writer does not know.
    pub total: u64,
    pub expected: Option<Digest>,
    /// Holds the content from the moment it is there.
    pub lease: Option<LeaseId>,
}

impl NewContent {
    pub fn new(namespace: &Namespace, reference: &str) -> Self {
        let (namespace, reference) = (namespace.clone(), reference.to_owned());
        Self { namespace, reference, total: 0, expected: None, lease: None }
    }
}

/// How far content on its way in has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestStatus {
    pub reference: String,
    pub offset: u64,
    pub total: u64,
    pub expected: Option<Digest>,
    pub started_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("content {digest} does not exist")]
    NotFound { digest: Digest },
    #[error("content {digest} exists already")]
    Exists { digest: Digest },
    #[error("ingest {reference:?} does not exist")]
    NoIngest { reference: String },
    #[error("failed to label content {digest}")]
    Label {
        digest: Digest,
        #[source]
        source: LabelError,
    },
    #[error("failed to hold content {digest}")]
    Lease {
        digest: Digest,
        #[source]
        source: LeaseError,
    },
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
            Self::NotFound { .. } | Self::NoIngest { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Label { source, .. } => source.kind(),
            Self::Lease { source, .. } => source.kind(),
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

    /// The only writer of its reference, behind whatever an earlier writer of it has left. Blocks: it hashes that.
    /// Content that is there already is not written again: with `expected` in the namespace it exists, and bytes
    /// that another namespace has are taken from there.
    fn ingest(&self, new: NewContent) -> Result<Ingest, ContentError>;

    fn ingest_status(&self, namespace: &Namespace, reference: &str) -> Result<IngestStatus, ContentError>;

    fn ingest_statuses(&self, namespace: &Namespace) -> Result<Vec<IngestStatus>, ContentError>;

    /// Forgets what was written under `reference`, unless somebody is writing.
    fn abort(&self, namespace: &Namespace, reference: &str) -> Result<(), ContentError>;

    /// Changes the labels. Returns the record as it is then.
    async fn label(
        &self,
        namespace: &Namespace,
        digest: &Digest,
        change: LabelChange,
    ) -> Result<BlobRecord, ContentError>;

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
