//! Namespaces: names that keep the objects of different users apart, with labels.
//!
//! A namespace needs no record: as in containerd it is there once something is written in it. A record holds the
//! labels and keeps an empty one. Deleting takes away the record, and only when nothing is left in the namespace.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::content::BlobRecord;
use crate::error::ErrorKind;
use crate::ids::Namespace;
use crate::labels::{self, LabelChange, LabelError, Labels};
use crate::lease::LeaseRecord;
use crate::snapshot::SnapshotRecord;
use crate::store::record::{Listing, Record, Table};
use crate::store::{Bucket, Read, SharedStore, StoreError, Write};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    pub name: Namespace,
    pub labels: Labels,
}

impl Record for NamespaceRecord {
    const BUCKET: &'static str = "namespaces";
    const VERSION: u32 = 1;

    fn key(&self) -> &str {
        self.name.as_str()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("namespace {name} does not exist")]
    NotFound { name: Namespace },
    #[error("namespace {name} exists already")]
    Exists { name: Namespace },
    #[error("namespace {name} must be empty, but it still has {}", holds.join(", "))]
    NotEmpty { name: Namespace, holds: Vec<String> },
    #[error("failed to label namespace {name}")]
    Label {
        name: Namespace,
        #[source]
        source: LabelError,
    },
    #[error("metadata of namespaces")]
    Store(#[from] StoreError),
}

impl NamespaceError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::NotEmpty { .. } => ErrorKind::FailedPrecondition,
            Self::Label { source, .. } => source.kind(),
            Self::Store(source) => source.kind(),
        }
    }
}

/// The namespaces of the node.
#[derive(Clone)]
pub struct Namespaces {
    store: SharedStore,
}

impl Namespaces {
    pub fn new(store: SharedStore) -> Self {
        Self { store }
    }

    /// The namespace, also when it has no record but something in it.
    pub fn get(&self, name: &Namespace) -> Result<Option<NamespaceRecord>, NamespaceError> {
        find(&*self.store.view()?, name)
    }

    /// The labels of the namespace. One that is not there yet has none: clients ask for the defaults of a namespace
    /// before they write the first object in it.
    pub fn labels(&self, name: &Namespace) -> Result<Labels, NamespaceError> {
        Ok(table().get(&*self.store, name.as_str())?.map(|record| record.labels).unwrap_or_default())
    }

    /// Every namespace that has a record or something in it, by name.
    pub fn list(&self) -> Result<Listing<NamespaceRecord>, NamespaceError> {
        let view = self.store.view()?;
        let mut listing = table().list(&*view)?;
        let mut known: BTreeSet<Namespace> =
            listing.records.iter().map(|record| record.name.clone()).collect();
        for bucket in view.buckets("")? {
            let Some(name) = bucket.namespace() else { continue };
            if !known.contains(&name) && !view.is_empty(&bucket)? {
                listing.records.push(NamespaceRecord { name: name.clone(), labels: Labels::new() });
                known.insert(name);
            }
        }
        listing.records.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listing)
    }

    pub async fn create(&self, name: &Namespace, labels: Labels) -> Result<(), NamespaceError> {
        let change = LabelChange::Replace(labels);
        check(name, &change)?;
        let name = name.clone();
        self.store
            .write(move |to| match find(to, &name)? {
                Some(_) => Err(NamespaceError::Exists { name }),
                None => Ok(table().put(to, &NamespaceRecord { name, labels: change.apply(Labels::new()) })?),
            })
            .await
    }

    /// Makes a record without labels if there is none, so that the namespace stays when it is empty again. For the
    /// first write of a client in it.
    pub async fn ensure(&self, name: &Namespace) -> Result<(), NamespaceError> {
        if self.store.get(table().bucket(), name.as_str())?.is_some() {
            return Ok(());
        }
        let record = NamespaceRecord { name: name.clone(), labels: Labels::new() };
        self.store
            .write(move |to| match to.get(table().bucket(), record.key())? {
                Some(_) => Ok(()),
                None => Ok(table().put(to, &record)?),
            })
            .await
    }

    /// Changes the labels and returns all of them as they are then.
    pub async fn update(&self, name: &Namespace, change: LabelChange) -> Result<Labels, NamespaceError> {
        check(name, &change)?;
        let name = name.clone();
        self.store
            .write(move |to| {
                let Some(record) = find(to, &name)? else {
                    return Err(NamespaceError::NotFound { name });
                };
                let record = NamespaceRecord { name, labels: change.apply(record.labels) };
                table().put(to, &record)?;
                Ok(record.labels)
            })
            .await
    }

    pub async fn delete(&self, name: &Namespace) -> Result<(), NamespaceError> {
        let name = name.clone();
        self.store.write(move |to| delete(to, name)).await
    }
}

fn table() -> Table<NamespaceRecord> {
    Table::at(Bucket::of_node(NamespaceRecord::BUCKET))
}

fn check(name: &Namespace, change: &LabelChange) -> Result<(), NamespaceError> {
    labels::validate(change.labels()).map_err(|source| NamespaceError::Label { name: name.clone(), source })
}

fn find(from: &(impl Read + ?Sized), name: &Namespace) -> Result<Option<NamespaceRecord>, NamespaceError> {
    if let Some(record) = table().get(from, name.as_str())? {
        return Ok(Some(record));
    }
    let implied = || NamespaceRecord { name: name.clone(), labels: Labels::new() };
    Ok((!holds(from, name)?.is_empty()).then(implied))
}

fn delete(to: &mut dyn Write, name: Namespace) -> Result<(), NamespaceError> {
    let mut holds = holds(to, &name)?;
    holds.retain(|kind| kind != LeaseRecord::BUCKET);
    if !holds.is_empty() {
        return Err(NamespaceError::NotEmpty { name, holds });
    }
    // Leases hold what is there, and there is nothing.
    let leases = Table::<LeaseRecord>::new(&name);
    let held = to.scan(leases.bucket())?;
    // Whether it can be decoded does not matter any more.
    if held.is_empty() && to.get(table().bucket(), name.as_str())?.is_none() {
        return Err(NamespaceError::NotFound { name });
    }
    held.iter().for_each(|(id, _)| leases.delete(to, id));
    table().delete(to, name.as_str());
    Ok(())
}

/// What is still in a namespace, in containerd's words.
fn holds(from: &(impl Read + ?Sized), name: &Namespace) -> Result<Vec<String>, StoreError> {
    let mut holds = Vec::new();
    for bucket in from.buckets(Bucket::in_namespace(name, "").as_str())? {
        if !from.is_empty(&bucket)? {
            holds.push(match bucket.name().split_once('/') {
                Some((SnapshotRecord::BUCKET, snapshotter)) => {
                    format!("snapshots on {snapshotter:?} snapshotter")
                }
                None if bucket.name() == BlobRecord::BUCKET => "blobs".to_owned(),
                _ => bucket.name().to_owned(),
            });
        }
    }
    Ok(holds)
}

#[cfg(test)]
mod tests;
