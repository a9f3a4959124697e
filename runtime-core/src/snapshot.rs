//! Snapshots: layered root filesystems under keys, with containerd's semantics.
//!
//! `prepare` makes a writable child of a committed snapshot, `commit` freezes it under its own name, `view` is a
//! child that nobody writes to. A snapshot with children cannot be removed. Data is durable before a committed
//! record; removing is one metadata change, the bytes follow in the background.

mod overlayfs;
pub mod peek;
pub mod plugin;
mod recent;
mod usage;

#[cfg(test)]
mod testsuite;

use std::io;
use std::ops::AddAssign;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use overlayfs::Overlayfs;

use crate::clock::Timestamp;
use crate::content::Labels;
use crate::error::ErrorKind;
use crate::ids::{LeaseId, Namespace, SnapshotKey};
use crate::labels::{LabelChange, LabelError};
use crate::lease::LeaseError;
use crate::store::record::{Record, Table};
use crate::store::{Bucket, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Writable, has no children.
    Active,
    /// Read-only, has no children.
    View,
    /// Frozen, may have children.
    Committed,
}

/// One mount, in the form of `containerd.types.Mount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// File system type, or `bind`.
    pub kind: String,
    pub source: String,
    /// Where below the root; empty is the root itself.
    pub target: String,
    pub options: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes allocated on disk.
    pub bytes: u64,
    pub inodes: u64,
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// What a snapshot took at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    pub usage: Usage,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    pub key: SnapshotKey,
    pub kind: Kind,
    /// The name of its folder, never used again.
    pub id: u64,
    pub parent: Option<SnapshotKey>,
    /// Snapshots that name this one as parent.
    pub children: u32,
    pub labels: Labels,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Known once committed.
    pub usage: Option<Usage>,
}

impl Record for SnapshotRecord {
    const BUCKET: &'static str = "snapshots";
    const VERSION: u32 = 1;

    fn key(&self) -> &str {
        self.key.as_str()
    }
}

/// The records of one snapshotter in one namespace.
pub fn table(namespace: &Namespace, snapshotter: &str) -> Table<SnapshotRecord> {
    Table::at(Bucket::in_namespace(namespace, &format!("{}/{snapshotter}", SnapshotRecord::BUCKET)))
}

/// A snapshot to be made.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    pub key: SnapshotKey,
    /// A committed snapshot; none for an empty root.
    pub parent: Option<SnapshotKey>,
    pub labels: Labels,
    /// Holds it from the first moment.
    pub lease: Option<LeaseId>,
}

/// What an active snapshot becomes.
#[derive(Clone, Debug)]
pub struct Commit {
    pub name: SnapshotKey,
    pub labels: Labels,
    /// Holds it from the first moment.
    pub lease: Option<LeaseId>,
}

impl Commit {
    pub fn as_name(name: SnapshotKey) -> Self {
        Self { name, labels: Labels::new(), lease: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("snapshot {key} does not exist in {snapshotter}")]
    NotFound { snapshotter: String, key: SnapshotKey },
    #[error("snapshot {key} exists already in {snapshotter}")]
    Exists { snapshotter: String, key: SnapshotKey },
    #[error("snapshot {key} is not committed and cannot be a parent")]
    ParentNotCommitted { key: SnapshotKey },
    #[error("snapshot {key} is not active and cannot be committed")]
    NotActive { key: SnapshotKey },
    #[error("snapshot {key} is committed and has no mounts of its own")]
    NotMountable { key: SnapshotKey },
    #[error("snapshot {key} has {children} children")]
    HasChildren { key: SnapshotKey, children: u32 },
    #[error("failed to {step} {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to label snapshot {key}")]
    Label {
        key: SnapshotKey,
        #[source]
        source: LabelError,
    },
    #[error("failed to hold snapshot {key}")]
    Lease {
        key: SnapshotKey,
        #[source]
        source: LeaseError,
    },
    #[error("metadata of snapshots")]
    Store(#[from] StoreError),
}

impl SnapshotError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::ParentNotCommitted { .. }
            | Self::NotActive { .. }
            | Self::NotMountable { .. }
            | Self::HasChildren { .. } => ErrorKind::FailedPrecondition,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Io { .. } => ErrorKind::Internal,
            Self::Label { source, .. } => source.kind(),
            Self::Lease { source, .. } => source.kind(),
            Self::Store(source) => source.kind(),
        }
    }
}

/// A way to keep layered file systems. The suite in `testsuite.rs` says what every implementation must do.
#[async_trait]
pub trait Snapshotter: Send + Sync + 'static {
    /// The id of its plugin, such as `overlayfs`.
    fn name(&self) -> &str;

    /// The folder that all its bytes are below.
    fn root(&self) -> PathBuf;

    fn stat(&self, namespace: &Namespace, key: &SnapshotKey) -> Result<SnapshotRecord, SnapshotError>;

    fn list(&self, namespace: &Namespace) -> Result<Vec<SnapshotRecord>, SnapshotError>;

    /// The mounts of an active snapshot or a view. Nothing is mounted.
    fn mounts(&self, namespace: &Namespace, key: &SnapshotKey) -> Result<Vec<Mount>, SnapshotError>;

    async fn prepare(&self, namespace: &Namespace, new: NewSnapshot) -> Result<Vec<Mount>, SnapshotError>;

    async fn view(&self, namespace: &Namespace, new: NewSnapshot) -> Result<Vec<Mount>, SnapshotError>;

    /// Freezes the active snapshot `key` under another name, its data durable first. `key` is gone afterwards.
    async fn commit(
        &self,
        namespace: &Namespace,
        key: &SnapshotKey,
        commit: Commit,
    ) -> Result<(), SnapshotError>;

    /// Changes the labels and nothing else. Returns the record as it is then.
    async fn relabel(
        &self,
        namespace: &Namespace,
        key: &SnapshotKey,
        change: LabelChange,
    ) -> Result<SnapshotRecord, SnapshotError>;

    async fn remove(&self, namespace: &Namespace, key: &SnapshotKey) -> Result<(), SnapshotError>;

    /// What the snapshot itself takes, without its parents. Of one that is written to it is the last figure that is
    /// known, and none when nobody has asked before and it takes long to find out.
    async fn usage(
        &self,
        namespace: &Namespace,
        key: &SnapshotKey,
    ) -> Result<Option<Measured>, SnapshotError>;

    /// What all snapshots of all namespaces take, from the same figures.
    async fn total_usage(&self) -> Result<Usage, SnapshotError>;

    /// Frees the bytes that no record names. For the start of the daemon and after removals.
    async fn cleanup(&self) -> Result<(), SnapshotError>;
}
