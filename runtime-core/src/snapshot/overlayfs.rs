//! Snapshots as overlayfs layers: `snapshots/<id>/{fs,work}`, with the records in the metadata store.
//!
//! Ids are never used twice, so that a folder without a record is garbage whenever it is looked at, unless it is
//! among those being made. Nothing is mounted here.

mod folders;
mod records;

use std::collections::HashSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use folders::{ids_in, make_folder};
use records::{chain, checked, held, insert, recorded_ids, tables, take_out};
use tokio_util::sync::CancellationToken;

use super::recent::Recent;
use super::{
    Commit, Kind, Measured, Mount, NewSnapshot, SnapshotError, SnapshotRecord, Snapshotter, Usage, table,
    usage,
};
use crate::clock::SharedClock;
use crate::ids::{Namespace, SnapshotKey};
use crate::labels::LabelChange;
use crate::store::SharedStore;
use crate::store::record::Table;
use crate::tasks::TaskGroup;

const NAME: &str = "overlayfs";

type Making = Arc<Mutex<HashSet<u64>>>;

/// Marks a folder as being made until its record exists; given back on drop.
struct Claim {
    making: Making,
    id: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.making.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

pub struct Overlayfs {
    folders: Arc<Path>,
    root: PathBuf,
    store: SharedStore,
    clock: SharedClock,
    tasks: TaskGroup,
    next: AtomicU64,
    making: Making,
    recent: Recent,
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> SnapshotError + 'a {
    move |source| SnapshotError::Io { step, path: path.to_owned(), source }
}

/// A blocking task that died left its work undone; that is an error of this step, not a panic of its caller.
async fn blocking<T: Send + 'static>(
    step: &'static str,
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, SnapshotError> {
    let at = path.clone();
    let outcome = tokio::task::spawn_blocking(move || work(&at)).await.map_err(io::Error::other);
    outcome.flatten().map_err(failed(step, &path))
}

impl Overlayfs {
    pub fn open(
        root: &Path,
        store: SharedStore,
        clock: SharedClock,
        tasks: TaskGroup,
    ) -> Result<Self, SnapshotError> {
        let folders = root.join("snapshots");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folders)
            .map_err(failed("make the folder", &folders))?;
        let on_disk = ids_in(&folders).map_err(failed("list", &folders))?.into_iter().max();
        // A folder outlives its record, so that the folders alone say which ids were used.
        let next = on_disk.unwrap_or_default() + 1;
        Ok(Self {
            folders: folders.into(),
            root: root.to_owned(),
            store,
            recent: Recent::new(tasks.clone(), clock.clone()),
            clock,
            tasks,
            next: AtomicU64::new(next),
            making: Making::default(),
        })
    }

    fn folder(&self, id: u64) -> PathBuf {
        self.folders.join(id.to_string())
    }

    fn layer(&self, id: u64) -> PathBuf {
        self.folder(id).join("fs")
    }

    async fn make(
        &self,
        namespace: &Namespace,
        new: NewSnapshot,
        kind: Kind,
    ) -> Result<Vec<Mount>, SnapshotError> {
        let parents = match &new.parent {
            Some(parent) => chain(&*self.store, &table(namespace, NAME), parent)?,
            None => Vec::new(),
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.making.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        let _claim = Claim { making: Arc::clone(&self.making), id };
        let folder = self.folder(id);
        make_folder(&folder, kind, parents.first().map(|parent| self.layer(*parent)).as_deref())
            .map_err(failed("make the folder", &folder))?;
        let lease = new.lease.clone();
        let record = self.new_record(new, kind, id)?;
        let (table, held_in) = (table(namespace, NAME), namespace.clone());
        let written = self.store.write(move |change| {
            let key = record.key.clone();
            insert(change, &table, record)?;
            held(change, &held_in, lease.as_ref(), key)
        });
        let written = written.await;
        if let Err(error) = written {
            drop(std::fs::remove_dir_all(&folder));
            return Err(error);
        }
        Ok(self.mounts_of(id, kind, &parents))
    }

    fn new_record(&self, new: NewSnapshot, kind: Kind, id: u64) -> Result<SnapshotRecord, SnapshotError> {
        let now = self.clock.now();
        Ok(SnapshotRecord {
            labels: checked(&new.key, new.labels)?,
            key: new.key,
            kind,
            id,
            parent: new.parent,
            children: 0,
            created_at: now,
            updated_at: now,
            usage: None,
        })
    }

    fn mounts_of(&self, id: u64, kind: Kind, parents: &[u64]) -> Vec<Mount> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let bind = |id: u64, mode: &str| Mount {
            kind: "bind".to_owned(),
            source: path(self.layer(id)),
            target: String::new(),
            options: vec![mode.to_owned(), "rbind".to_owned()],
        };
        match (kind, parents) {
            (Kind::Active, []) => return vec![bind(id, "rw")],
            (_, []) => return vec![bind(id, "ro")],
            (Kind::View, [parent]) => return vec![bind(*parent, "ro")],
            _ => {}
        }
        // index=off: layers are shared between many overlays, and the index wants each upper with one lower.
        let mut options = vec!["index=off".to_owned()];
        if kind == Kind::Active {
            options.push(format!("workdir={}", path(self.folder(id).join("work"))));
            options.push(format!("upperdir={}", path(self.layer(id))));
        }
        let lower: Vec<String> = parents.iter().map(|parent| path(self.layer(*parent))).collect();
        options.push(format!("lowerdir={}", lower.join(":")));
        vec![Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: String::new(),
            options,
        }]
    }

    fn not_found(key: &SnapshotKey) -> SnapshotError {
        SnapshotError::NotFound { snapshotter: NAME.to_owned(), key: key.clone() }
    }

    /// Has the figure of a snapshot renewed if it is old. One that was removed since its record was read has been
    /// forgotten before it was asked for, and would never be again.
    fn measure(&self, table: &Table<SnapshotRecord>, record: &SnapshotRecord) -> Result<(), SnapshotError> {
        if self.recent.refresh(record.id, self.layer(record.id)) {
            let now = table.get(&*self.store, record.key.as_str())?;
            if now.is_none_or(|now| now.id != record.id) {
                self.recent.forget(record.id);
            }
        }
        Ok(())
    }

    /// Deletes folders in the background; what is left when the daemon dies is found by `cleanup`.
    fn delete_later(&self, folders: Vec<PathBuf>) {
        self.tasks.spawn("snapshot-delete", async move {
            for folder in folders {
                let deleted = blocking("delete", folder, |folder| std::fs::remove_dir_all(folder)).await;
                if let Err(error) = deleted {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a removed snapshot stays on disk"
                    );
                }
            }
        });
    }
}

#[async_trait]
impl Snapshotter for Overlayfs {
    fn name(&self) -> &str {
        NAME
    }

    fn root(&self) -> PathBuf {
        self.root.clone()
    }

    fn stat(&self, namespace: &Namespace, key: &SnapshotKey) -> Result<SnapshotRecord, SnapshotError> {
        let found = table(namespace, NAME).get(&*self.store, key.as_str())?;
        found.ok_or_else(|| Self::not_found(key))
    }

    fn list(&self, namespace: &Namespace) -> Result<Vec<SnapshotRecord>, SnapshotError> {
        Ok(table(namespace, NAME).list(&*self.store)?.records)
    }

    fn mounts(&self, namespace: &Namespace, key: &SnapshotKey) -> Result<Vec<Mount>, SnapshotError> {
        let record = self.stat(namespace, key)?;
        let parents = match (record.kind, &record.parent) {
            (Kind::Committed, _) => return Err(SnapshotError::NotMountable { key: key.clone() }),
            (_, None) => Vec::new(),
            (_, Some(parent)) => chain(&*self.store, &table(namespace, NAME), parent)?,
        };
        Ok(self.mounts_of(record.id, record.kind, &parents))
    }

    async fn prepare(&self, namespace: &Namespace, new: NewSnapshot) -> Result<Vec<Mount>, SnapshotError> {
        self.make(namespace, new, Kind::Active).await
    }

    async fn view(&self, namespace: &Namespace, new: NewSnapshot) -> Result<Vec<Mount>, SnapshotError> {
        self.make(namespace, new, Kind::View).await
    }

    async fn commit(
        &self,
        namespace: &Namespace,
        key: &SnapshotKey,
        commit: Commit,
    ) -> Result<(), SnapshotError> {
        let Commit { name, labels, lease } = commit;
        let (labels, held_in) = (checked(&name, labels)?, namespace.clone());
        let record = self.stat(namespace, key)?;
        let usage = blocking("sync", self.layer(record.id), |layer| {
            rustix::fs::syncfs(std::fs::File::open(layer)?)?;
            usage::of_tree(layer, &CancellationToken::new())
        })
        .await?;
        let (table, key, now) = (table(namespace, NAME), key.clone(), self.clock.now());
        let id = record.id;
        self.store
            .write(move |change| {
                let Some(record) = table.get(change, key.as_str())?.filter(|found| found.id == id) else {
                    return Err(Self::not_found(&key));
                };
                if record.kind != Kind::Active {
                    return Err(SnapshotError::NotActive { key });
                }
                if change.get(table.bucket(), name.as_str())?.is_some() {
                    return Err(SnapshotError::Exists { snapshotter: NAME.to_owned(), key: name });
                }
                table.delete(change, key.as_str());
                let committed = SnapshotRecord {
                    key: name,
                    kind: Kind::Committed,
                    labels,
                    updated_at: now,
                    usage: Some(usage),
                    ..record
                };
                table.put(change, &committed)?;
                held(change, &held_in, lease.as_ref(), committed.key)
            })
            .await?;
        self.recent.forget(id);
        Ok(())
    }

    async fn relabel(
        &self,
        namespace: &Namespace,
        key: &SnapshotKey,
        change: LabelChange,
    ) -> Result<SnapshotRecord, SnapshotError> {
        checked(key, change.labels().clone())?;
        let (table, key, now) = (table(namespace, NAME), key.clone(), self.clock.now());
        self.store
            .write(move |to| {
                let record = table.get(to, key.as_str())?.ok_or_else(|| Self::not_found(&key))?;
                let labels = change.apply(record.labels);
                let record = SnapshotRecord { labels, updated_at: now, ..record };
                table.put(to, &record)?;
                Ok(record)
            })
            .await
    }

    async fn remove(&self, namespace: &Namespace, key: &SnapshotKey) -> Result<(), SnapshotError> {
        let (table, key) = (table(namespace, NAME), key.clone());
        let id = self.store.write(move |change| take_out(change, &table, &key)).await?;
        self.recent.forget(id);
        self.delete_later(vec![self.folder(id)]);
        Ok(())
    }

    async fn usage(
        &self,
        namespace: &Namespace,
        key: &SnapshotKey,
    ) -> Result<Option<Measured>, SnapshotError> {
        let record = self.stat(namespace, key)?;
        if let Some(usage) = record.usage {
            return Ok(Some(Measured { usage, at: self.clock.now() }));
        }
        if record.kind == Kind::View {
            // Nobody writes to it: what it shows is its parents'.
            return Ok(Some(Measured { usage: Usage::default(), at: self.clock.now() }));
        }
        self.measure(&table(namespace, NAME), &record)?;
        Ok(self.recent.figure(record.id).await)
    }

    async fn total_usage(&self) -> Result<Usage, SnapshotError> {
        let mut total = Usage::default();
        let mut measured = Vec::new();
        for table in tables(&*self.store)? {
            for record in table.list(&*self.store)?.records {
                match record.usage {
                    Some(usage) => total += usage,
                    None => {
                        self.measure(&table, &record)?;
                        measured.push(record.id);
                    }
                }
            }
        }
        // Those that have to be waited for are measured at the same time.
        for id in measured {
            total += self.recent.figure(id).await.map_or(Usage::default(), |measured| measured.usage);
        }
        Ok(total)
    }

    async fn cleanup(&self) -> Result<(), SnapshotError> {
        // The order matters: whatever is listed here and not being made a moment later has its record by then.
        let on_disk = ids_in(&self.folders).map_err(failed("list", &self.folders))?;
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let recorded = recorded_ids(&*self.store)?;
        let garbage = on_disk.into_iter().filter(|id| !making.contains(id) && !recorded.contains(id));
        self.delete_later(garbage.map(|id| self.folder(id)).collect());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
