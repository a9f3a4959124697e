//! Container records of every namespace: made, changed and taken away, with what containerd demands of them.
//!
//! A record is metadata for a task and a root of garbage collection for its snapshot; spec and extensions are
//! opaque. What runs is none of its business.

use crate::clock::SharedClock;
use crate::error::ErrorKind;
use crate::ids::{ContainerId, IdError, Namespace, SnapshotKey};
use crate::labels::{self, LabelError};
use crate::record::{ContainerRecord, DRIVER_EXTENSIONS};
use crate::store::record::{Listing, Record, Table};
use crate::store::{SharedStore, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum ContainerRecordError {
    #[error("container {id:?} does not exist")]
    NotFound { id: String },
    #[error("container {id:?} exists already")]
    Exists { id: String },
    #[error("container record")]
    Id(#[from] IdError),
    #[error("container {id:?} needs its {field} set")]
    Missing { id: String, field: &'static str },
    #[error("the {field} of container {id:?} cannot be changed")]
    Immutable { id: String, field: &'static str },
    #[error("failed to label container {id:?}")]
    Label {
        id: String,
        #[source]
        source: LabelError,
    },
    #[error("container {id:?} has an extension below {DRIVER_EXTENSIONS:?}, which is this daemon's own")]
    Reserved { id: String },
    #[error("container {id:?} belongs to a pod: remove it through the CRI (crictl rm)")]
    Owned { id: String },
    #[error("metadata of containers")]
    Store(#[from] StoreError),
}

impl ContainerRecordError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Id(_) | Self::Missing { .. } | Self::Immutable { .. } | Self::Reserved { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Label { source, .. } => source.kind(),
            Self::Owned { .. } => ErrorKind::FailedPrecondition,
            Self::Store(source) => source.kind(),
        }
    }
}

/// The container records of every namespace.
#[derive(Clone)]
pub struct Containers {
    store: SharedStore,
    clock: SharedClock,
}

impl Containers {
    pub fn new(store: SharedStore, clock: SharedClock) -> Self {
        Self { store, clock }
    }

    pub fn get(&self, namespace: &Namespace, id: &str) -> Result<ContainerRecord, ContainerRecordError> {
        let found = Table::<ContainerRecord>::new(namespace).get(&*self.store, id)?;
        found.ok_or_else(|| ContainerRecordError::NotFound { id: id.to_owned() })
    }

    pub fn list(&self, namespace: &Namespace) -> Result<Listing<ContainerRecord>, ContainerRecordError> {
        Ok(Table::<ContainerRecord>::new(namespace).list(&*self.store)?)
    }

    /// Adds the record; its times are the store's. Returns it as it is kept.
    pub async fn create(
        &self,
        namespace: &Namespace,
        mut record: ContainerRecord,
    ) -> Result<ContainerRecord, ContainerRecordError> {
        let now = self.clock.now();
        (record.created_at, record.updated_at) = (now, now);
        let record = checked(record)?;
        if record.is_owned() {
            return Err(ContainerRecordError::Reserved { id: record.id });
        }
        let table = Table::<ContainerRecord>::new(namespace);
        self.store
            .write(move |change| {
                if change.get(table.bucket(), &record.id)?.is_some() {
                    return Err(ContainerRecordError::Exists { id: record.id });
                }
                table.put(change, &record)?;
                Ok(record)
            })
            .await
    }

    /// Changes the record by `edit`, which sees it as it is then. Id, runtime and snapshotter cannot change.
    pub async fn update<F>(
        &self,
        namespace: &Namespace,
        id: &str,
        edit: F,
    ) -> Result<ContainerRecord, ContainerRecordError>
    where
        F: FnOnce(&mut ContainerRecord) + Send + 'static,
    {
        let (table, id, now) = (Table::<ContainerRecord>::new(namespace), id.to_owned(), self.clock.now());
        self.store
            .write(move |change| {
                let old = table
                    .get(change, &id)?
                    .ok_or_else(|| ContainerRecordError::NotFound { id: id.clone() })?;
                let mut new = old.clone();
                edit(&mut new);
                let fixed = [
                    ("id", old.id == new.id),
                    ("runtime", old.runtime.name == new.runtime.name),
                    ("snapshotter", old.snapshotter == new.snapshotter),
                    ("extension of the CRI", old.driver_extensions().eq(new.driver_extensions())),
                ];
                if let Some((field, _)) = fixed.into_iter().find(|(_, same)| !same) {
                    return Err(ContainerRecordError::Immutable { id, field });
                }
                (new.created_at, new.updated_at) = (old.created_at, now);
                let new = checked(new)?;
                table.put(change, &new)?;
                Ok(new)
            })
            .await
    }

    /// Takes the record away; a container of the CRI is the CRI's to remove.
    pub async fn delete(&self, namespace: &Namespace, id: &str) -> Result<(), ContainerRecordError> {
        let (table, id) = (Table::<ContainerRecord>::new(namespace), id.to_owned());
        self.store
            .write(move |change| match table.get(change, &id)? {
                None => Err(ContainerRecordError::NotFound { id }),
                Some(record) if record.is_owned() => Err(ContainerRecordError::Owned { id }),
                Some(_) => {
                    table.delete(change, &id);
                    Ok(())
                }
            })
            .await
    }
}

/// containerd's demands on a record. Labels without a value are not kept.
fn checked(mut record: ContainerRecord) -> Result<ContainerRecord, ContainerRecordError> {
    ContainerId::parse(record.key())?;
    let id = || record.id.clone();
    labels::validate(&record.labels).map_err(|source| ContainerRecordError::Label { id: id(), source })?;
    let needed = [
        ("runtime", !record.runtime.name.is_empty()),
        ("spec", !record.spec.type_url.is_empty() || !record.spec.value.is_empty()),
        ("snapshotter", record.snapshot_key.is_empty() || !record.snapshotter.is_empty()),
        ("extension name", record.extensions.keys().all(|name| !name.is_empty())),
    ];
    if let Some((field, _)) = needed.into_iter().find(|(_, there)| !there) {
        return Err(ContainerRecordError::Missing { id: id(), field });
    }
    // Garbage collection reads it: what it cannot parse would stop it.
    if !record.snapshot_key.is_empty() {
        SnapshotKey::parse(record.snapshot_key.as_str())?;
    }
    record.labels.retain(|_, value| !value.is_empty());
    Ok(record)
}

#[cfg(test)]
mod tests;
