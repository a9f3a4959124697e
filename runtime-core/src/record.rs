//! Container and sandbox records: the core objects that the CRI and containerd's API both show.
//!
//! The fields are containerd's. What a driver such as the CRI needs beyond them is an opaque extension, kept
//! under the driver's own name. Records live in a containerd namespace each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::gc::Roots;
use crate::ids::{Namespace, SnapshotKey};
use crate::lease::Resource;
use crate::store::record::{Record, Table};
use crate::store::{Bucket, Read, StoreError};

/// A typed blob: containerd's `google.protobuf.Any` without the `type.googleapis.com/` prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypedValue {
    pub type_url: String,
    pub value: Vec<u8>,
}

impl TypedValue {
    /// A value encoded as JSON.
    pub fn json<T: Serialize>(type_url: &str, value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { type_url: type_url.to_owned(), value: serde_json::to_vec(value)? })
    }

    pub fn parse_json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.value)
    }
}

/// The type of an OCI runtime spec in a record, as containerd writes it.
pub const OCI_SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Which runtime runs an object and with what options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeInfo {
    /// containerd's runtime type, `io.containerd.runc.v2`.
    pub name: String,
    pub options: Option<TypedValue>,
}

/// A container: metadata for a task, never the task itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    pub image: String,
    pub runtime: RuntimeInfo,
    pub spec: TypedValue,
    pub snapshotter: String,
    pub snapshot_key: String,
    pub sandbox_id: String,
    pub extensions: BTreeMap<String, TypedValue>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Extensions under such names are those of a driver in this daemon, such as the CRI's.
pub const DRIVER_EXTENSIONS: &str = "io.orlop.";

impl ContainerRecord {
    /// The extensions of the driver that keeps this container, if one does.
    pub fn driver_extensions(&self) -> impl Iterator<Item = (&String, &TypedValue)> {
        self.extensions.iter().filter(|(name, _)| name.starts_with(DRIVER_EXTENSIONS))
    }

    /// Whether a driver makes and removes this container itself.
    pub fn is_owned(&self) -> bool {
        self.driver_extensions().next().is_some()
    }
}

impl Record for ContainerRecord {
    const BUCKET: &'static str = "containers";
    const VERSION: u32 = 1;

    fn key(&self) -> &str {
        &self.id
    }
}

/// A sandbox: what a pod is to the core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    pub runtime: RuntimeInfo,
    pub spec: TypedValue,
    pub sandboxer: String,
    pub extensions: BTreeMap<String, TypedValue>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Record for SandboxRecord {
    const BUCKET: &'static str = "sandboxes";
    const VERSION: u32 = 1;

    fn key(&self) -> &str {
        &self.id
    }
}

/// The snapshots of containers are roots of garbage collection: a container keeps its root filesystem.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContainerRoots;

impl Roots for ContainerRoots {
    fn roots(&self, namespace: &Namespace, from: &dyn Read) -> Result<Vec<Resource>, StoreError> {
        let listing = Table::<ContainerRecord>::new(namespace).list(from)?;
        // What cannot be read may hold anything: nothing is garbage then.
        if let Some(corrupt) = listing.corrupt.into_iter().next() {
            return Err(corrupt);
        }
        let snapshot = |record: ContainerRecord| {
            let key = SnapshotKey::parse(record.snapshot_key).map_err(|error| StoreError::Corrupt {
                bucket: Bucket::in_namespace(namespace, ContainerRecord::BUCKET),
                key: record.id,
                why: error.to_string(),
            })?;
            Ok(Resource::Snapshot { snapshotter: record.snapshotter, key })
        };
        let in_snapshots = |record: &ContainerRecord| !record.snapshot_key.is_empty();
        listing.records.into_iter().filter(in_snapshots).map(snapshot).collect()
    }
}
