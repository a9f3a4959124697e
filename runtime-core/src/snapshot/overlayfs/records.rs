//! The records of overlayfs snapshots: what a change checks and counts, and which folders are named.

use std::collections::HashSet;

use super::{NAME, Overlayfs};
use crate::ids::{LeaseId, Namespace, SnapshotKey};
use crate::labels::{self, Labels};
use crate::lease::{Resource, hold};
use crate::snapshot::{Kind, SnapshotError, SnapshotRecord};
use crate::store::record::{Record, Table};
use crate::store::{Bucket, Read, StoreError, Write};

/// Adds the record and counts it at its parent, which may have gone since the chain was read.
pub(super) fn insert(
    change: &mut dyn Write,
    table: &Table<SnapshotRecord>,
    record: SnapshotRecord,
) -> Result<(), SnapshotError> {
    if change.get(table.bucket(), record.key())?.is_some() {
        return Err(SnapshotError::Exists { snapshotter: NAME.to_owned(), key: record.key });
    }
    if let Some(key) = &record.parent {
        let parent = table.get(change, key.as_str())?.ok_or_else(|| Overlayfs::not_found(key))?;
        if parent.kind != Kind::Committed {
            return Err(SnapshotError::ParentNotCommitted { key: key.clone() });
        }
        table.put(change, &SnapshotRecord { children: parent.children + 1, ..parent })?;
    }
    Ok(table.put(change, &record)?)
}

/// Labels as they are kept: short, and none without a value.
pub(super) fn checked(key: &SnapshotKey, mut labels: Labels) -> Result<Labels, SnapshotError> {
    labels::validate(&labels).map_err(|source| SnapshotError::Label { key: key.clone(), source })?;
    labels.retain(|_, value| !value.is_empty());
    Ok(labels)
}

/// Has the lease of the call hold the snapshot that the change has made.
pub(super) fn held(
    change: &mut dyn Write,
    namespace: &Namespace,
    lease: Option<&LeaseId>,
    key: SnapshotKey,
) -> Result<(), SnapshotError> {
    let resource = Resource::Snapshot { snapshotter: NAME.to_owned(), key: key.clone() };
    hold(change, namespace, lease, resource).map_err(|source| SnapshotError::Lease { key, source })
}

/// Takes a record without children out and tells its parent. Returns the folder's id.
pub(super) fn take_out(
    change: &mut dyn Write,
    table: &Table<SnapshotRecord>,
    key: &SnapshotKey,
) -> Result<u64, SnapshotError> {
    let record = table.get(change, key.as_str())?.ok_or_else(|| Overlayfs::not_found(key))?;
    if record.children > 0 {
        return Err(SnapshotError::HasChildren { key: key.clone(), children: record.children });
    }
    table.delete(change, key.as_str());
    if let Some(parent) = &record.parent
        && let Some(parent) = table.get(change, parent.as_str())?
    {
        table.put(change, &SnapshotRecord { children: parent.children.saturating_sub(1), ..parent })?;
    }
    Ok(record.id)
}

/// The folder ids from the committed snapshot `key` down to the lowest layer.
pub(super) fn chain(
    from: &(impl Read + ?Sized),
    table: &Table<SnapshotRecord>,
    key: &SnapshotKey,
) -> Result<Vec<u64>, SnapshotError> {
    let mut ids = Vec::new();
    let mut next = Some(key.clone());
    while let Some(key) = next {
        let record = table.get(from, key.as_str())?.ok_or_else(|| Overlayfs::not_found(&key))?;
        if record.kind != Kind::Committed {
            return Err(SnapshotError::ParentNotCommitted { key });
        }
        ids.push(record.id);
        next = record.parent;
    }
    Ok(ids)
}

pub(super) fn tables(from: &(impl Read + ?Sized)) -> Result<Vec<Table<SnapshotRecord>>, StoreError> {
    let wanted = format!("{}/{NAME}", SnapshotRecord::BUCKET);
    let buckets: Vec<Bucket> = from.buckets("")?;
    Ok(buckets.into_iter().filter(|bucket| bucket.name() == wanted).map(Table::at).collect())
}

/// Ids of all namespaces. A record that cannot be read may name any folder, so that it is an error here:
/// nothing is deleted on suspicion.
pub(super) fn recorded_ids(from: &(impl Read + ?Sized)) -> Result<HashSet<u64>, StoreError> {
    let mut ids = HashSet::new();
    for table in tables(from)? {
        let listing = table.list(from)?;
        if let Some(corrupt) = listing.corrupt.into_iter().next() {
            return Err(corrupt);
        }
        ids.extend(listing.records.iter().map(|record| record.id));
    }
    Ok(ids)
}
