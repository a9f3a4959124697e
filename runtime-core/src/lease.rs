//! Leases: what keeps content and snapshots alive before an image or a container names them.
//!
//! A lease and the names it holds are one record, so that adding a name is one transaction.

pub mod plugin;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::{SharedClock, Timestamp};
use crate::content::Labels;
use crate::error::ErrorKind;
use crate::ids::{Digest, LeaseId, Namespace, SnapshotKey};
use crate::labels::{self, LabelError};
use crate::store::record::{Record, Table};
use crate::store::{SharedStore, StoreError, Write};

/// Something that can be held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resource {
    Content(Digest),
    Snapshot {
        snapshotter: String,
        key: SnapshotKey,
    },
    /// The name of an image record.
    Image(String),
    /// The reference of content on its way in.
    Ingest(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    pub id: LeaseId,
    pub labels: Labels,
    pub created_at: Timestamp,
    /// A lease past this instant holds nothing.
    pub expires_at: Option<Timestamp>,
    pub resources: BTreeSet<Resource>,
}

impl Record for LeaseRecord {
    const BUCKET: &'static str = "leases";
    const VERSION: u32 = 1;

    fn key(&self) -> &str {
        self.id.as_str()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("lease {id} does not exist")]
    NotFound { id: LeaseId },
    #[error("lease {id} exists already")]
    Exists { id: LeaseId },
    #[error("failed to label lease {id}")]
    Label {
        id: LeaseId,
        #[source]
        source: LabelError,
    },
    #[error("metadata of leases")]
    Store(#[from] StoreError),
}

impl LeaseError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Label { source, .. } => source.kind(),
            Self::Store(source) => source.kind(),
        }
    }
}

/// The leases of every namespace.
#[derive(Clone)]
pub struct Leases {
    store: SharedStore,
    clock: SharedClock,
}

impl Leases {
    pub fn new(store: SharedStore, clock: SharedClock) -> Self {
        Self { store, clock }
    }

    pub async fn create(
        &self,
        namespace: &Namespace,
        id: LeaseId,
        mut labels: Labels,
        expires_at: Option<Timestamp>,
    ) -> Result<LeaseRecord, LeaseError> {
        labels::validate(&labels).map_err(|source| LeaseError::Label { id: id.clone(), source })?;
        labels.retain(|_, value| !value.is_empty());
        let record =
            LeaseRecord { id, labels, created_at: self.clock.now(), expires_at, resources: BTreeSet::new() };
        let table = Table::<LeaseRecord>::new(namespace);
        self.store
            .write(move |change| {
                if table.get(change, record.key())?.is_some() {
                    return Err(LeaseError::Exists { id: record.id });
                }
                table.put(change, &record)?;
                Ok(record)
            })
            .await
    }

    /// Holds `resources` as well; it is not an error that one does not exist yet.
    pub async fn add(
        &self,
        namespace: &Namespace,
        id: &LeaseId,
        resources: Vec<Resource>,
    ) -> Result<(), LeaseError> {
        let (table, id) = (Table::<LeaseRecord>::new(namespace), id.clone());
        self.store
            .write(move |change| {
                let Some(mut record) = table.get(change, id.as_str())? else {
                    return Err(LeaseError::NotFound { id });
                };
                record.resources.extend(resources);
                Ok(table.put(change, &record)?)
            })
            .await
    }

    /// Holds `resource` no more; it is not an error that it was not held.
    pub async fn release(
        &self,
        namespace: &Namespace,
        id: &LeaseId,
        resource: Resource,
    ) -> Result<(), LeaseError> {
        let (table, id) = (Table::<LeaseRecord>::new(namespace), id.clone());
        self.store
            .write(move |change| {
                let Some(mut record) = table.get(change, id.as_str())? else {
                    return Err(LeaseError::NotFound { id });
                };
                record.resources.remove(&resource);
                Ok(table.put(change, &record)?)
            })
            .await
    }

    /// Gives up the lease; false when it is gone already.
    pub async fn delete(&self, namespace: &Namespace, id: &LeaseId) -> Result<bool, LeaseError> {
        let (table, id) = (Table::<LeaseRecord>::new(namespace), id.clone());
        self.store
            .write(move |change| {
                let there = change.get(table.bucket(), id.as_str())?.is_some();
                table.delete(change, id.as_str());
                Ok(there)
            })
            .await
    }

    /// Gives up every lease that carries `label`, such as those of pulls that died with the last daemon.
    pub async fn delete_labelled(&self, namespace: &Namespace, label: &str) -> Result<usize, LeaseError> {
        let (table, label) = (Table::<LeaseRecord>::new(namespace), label.to_owned());
        self.store
            .write(move |change| {
                let listing = table.list(change)?;
                let stale = listing.records.iter().filter(|record| record.labels.contains_key(&label));
                let mut count = 0;
                for record in stale {
                    table.delete(change, record.key());
                    count += 1;
                }
                Ok(count)
            })
            .await
    }

    pub fn get(&self, namespace: &Namespace, id: &LeaseId) -> Result<LeaseRecord, LeaseError> {
        let found = Table::<LeaseRecord>::new(namespace).get(&*self.store, id.as_str())?;
        found.ok_or_else(|| LeaseError::NotFound { id: id.clone() })
    }

    pub fn list(&self, namespace: &Namespace) -> Result<Vec<LeaseRecord>, LeaseError> {
        Ok(Table::<LeaseRecord>::new(namespace).list(&*self.store)?.records)
    }
}

/// Has the lease of a call hold what the call makes, in the same change. Without a lease there is nothing to do.
pub fn hold(
    change: &mut dyn Write,
    namespace: &Namespace,
    lease: Option<&LeaseId>,
    resource: Resource,
) -> Result<(), LeaseError> {
    let Some(id) = lease else { return Ok(()) };
    let table = Table::<LeaseRecord>::new(namespace);
    let Some(mut record) = table.get(change, id.as_str())? else {
        return Err(LeaseError::NotFound { id: id.clone() });
    };
    if record.resources.insert(resource) {
        table.put(change, &record)?;
    }
    Ok(())
}
