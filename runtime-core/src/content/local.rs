//! Blobs in files: `blobs/sha256/<hex>`, `ingest/<sha256 of the reference>/`, and `deleted/` on the way out.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::{Blob, BlobRecord, Content, ContentError, Ingest, IngestStatus, NewContent, progress};
use crate::clock::SharedClock;
use crate::ids::{Digest, Namespace};
use crate::labels::{self, LabelChange};
use crate::store::record::{Record, Table};
use crate::store::{Bucket, Read, SharedStore, StoreError};

/// How long an interrupted download can be resumed; containerd expires ingests after the same time.
const INGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The store's handle and places, as every ingest needs them.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: SharedStore,
    pub(super) clock: SharedClock,
    pub(super) root: Arc<Path>,
}

impl Shared {
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// A reference is any text: only its hash is a name.
    pub(super) fn ingest_folder(&self, namespace: &Namespace, reference: &str) -> PathBuf {
        let name = hex::encode(Sha256::digest(format!("{namespace}/{reference}")));
        self.root.join("ingest").join(name)
    }
}

type Claimed = Arc<Mutex<HashSet<String>>>;

/// The right to write one reference; given back on drop.
pub(super) struct Claim {
    claimed: Claimed,
    key: String,
}

impl Claim {
    fn take(claimed: &Claimed, namespace: &Namespace, reference: &str) -> Result<Self, ContentError> {
        let key = format!("{namespace}/{reference}");
        if claimed.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            Ok(Self { claimed: Arc::clone(claimed), key })
        } else {
            Err(ContentError::Busy { reference: reference.to_owned() })
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// The local content store below one folder.
pub struct LocalContent {
    shared: Shared,
    claimed: Claimed,
}

impl LocalContent {
    pub fn open(root: &Path, store: SharedStore, clock: SharedClock) -> Result<Self, ContentError> {
        for folder in ["blobs/sha256", "ingest", "deleted"] {
            let path = root.join(folder);
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|source| ContentError::Io { step: "make", path, source })?;
        }
        Ok(Self { shared: Shared { store, clock, root: root.into() }, claimed: Claimed::default() })
    }
}

#[async_trait]
impl Content for LocalContent {
    fn info(&self, namespace: &Namespace, digest: &Digest) -> Result<BlobRecord, ContentError> {
        Table::<BlobRecord>::new(namespace)
            .get(&*self.shared.store, digest.as_str())?
            .ok_or_else(|| ContentError::NotFound { digest: digest.clone() })
    }

    fn list(&self, namespace: &Namespace) -> Result<Vec<BlobRecord>, ContentError> {
        Ok(Table::<BlobRecord>::new(namespace).list(&*self.shared.store)?.records)
    }

    fn open(&self, namespace: &Namespace, digest: &Digest) -> Result<Blob, ContentError> {
        let record = self.info(namespace, digest)?;
        let path = self.shared.blob_path(digest);
        match std::fs::File::open(&path) {
            Ok(file) => Ok(Blob { file, size: record.size }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ContentError::Vanished { digest: digest.clone() })
            }
            Err(source) => Err(ContentError::Io { step: "open", path, source }),
        }
    }

    fn ingest(&self, new: NewContent) -> Result<Ingest, ContentError> {
        if let Some(digest) = &new.expected {
            let known = Table::<BlobRecord>::new(&new.namespace).get(&*self.shared.store, digest.as_str())?;
            if known.is_some() {
                return Err(ContentError::Exists { digest: digest.clone() });
            }
        }
        let claim = Claim::take(&self.claimed, &new.namespace, &new.reference)?;
        Ingest::open(self.shared.clone(), new, claim)
    }

    fn ingest_status(&self, namespace: &Namespace, reference: &str) -> Result<IngestStatus, ContentError> {
        let folder = self.shared.ingest_folder(namespace, reference);
        match progress::read(&folder)? {
            Some(found) if found.is_of(namespace) => Ok(found.status),
            _ => Err(ContentError::NoIngest { reference: reference.to_owned() }),
        }
    }

    fn ingest_statuses(&self, namespace: &Namespace) -> Result<Vec<IngestStatus>, ContentError> {
        let folder = self.shared.root.join("ingest");
        let entries = std::fs::read_dir(&folder).map_err(|source| ContentError::Io {
            step: "list",
            path: folder.clone(),
            source,
        })?;
        let mut statuses = Vec::new();
        for entry in entries.flatten() {
            // One that ends while we look is none.
            if let Some(found) = progress::read(&entry.path())?.filter(|found| found.is_of(namespace)) {
                statuses.push(found.status);
            }
        }
        statuses.sort_by(|one, other| one.reference.cmp(&other.reference));
        Ok(statuses)
    }

    fn abort(&self, namespace: &Namespace, reference: &str) -> Result<(), ContentError> {
        let _claim = Claim::take(&self.claimed, namespace, reference)?;
        self.ingest_status(namespace, reference)?;
        let path = self.shared.ingest_folder(namespace, reference);
        std::fs::remove_dir_all(&path).map_err(|source| ContentError::Io { step: "remove", path, source })
    }

    async fn label(
        &self,
        namespace: &Namespace,
        digest: &Digest,
        to: LabelChange,
    ) -> Result<BlobRecord, ContentError> {
        labels::validate(to.labels())
            .map_err(|source| ContentError::Label { digest: digest.clone(), source })?;
        let (table, digest) = (Table::<BlobRecord>::new(namespace), digest.clone());
        let now = self.shared.clock.now();
        self.shared
            .store
            .write(move |change| {
                let Some(mut record) = table.get(change, digest.as_str())? else {
                    return Err(ContentError::NotFound { digest });
                };
                record.labels = to.apply(record.labels);
                record.updated_at = now;
                table.put(change, &record)?;
                Ok(record)
            })
            .await
    }

    async fn delete(&self, namespace: &Namespace, digest: &Digest) -> Result<(), ContentError> {
        let (table, key) = (Table::<BlobRecord>::new(namespace), digest.clone());
        self.shared
            .store
            .write(move |change| {
                if change.get(table.bucket(), key.as_str())?.is_none() {
                    return Err(ContentError::NotFound { digest: key });
                }
                table.delete(change, key.as_str());
                Ok(())
            })
            .await?;
        self.sweep(vec![digest.clone()]).await
    }

    async fn sweep(&self, digests: Vec<Digest>) -> Result<(), ContentError> {
        let shared = self.shared.clone();
        let moved: Vec<PathBuf> =
            self.shared.store.write(move |change| take_unnamed(&shared, change, &digests)).await?;
        blocking(move || moved.iter().for_each(|path| drop(std::fs::remove_file(path)))).await;
        Ok(())
    }

    async fn sweep_orphans(&self) -> Result<(), ContentError> {
        let shared = self.shared.clone();
        let on_disk = blocking(move || {
            empty_folder(&shared.root.join("deleted"));
            expire_ingests(&shared);
            blobs_on_disk(&shared)
        })
        .await;
        self.sweep(on_disk).await
    }
}

/// Runs file work off the async threads. The closure cannot panic: it ignores what it cannot remove.
async fn blocking<T: Default + Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// Moves the bytes that no record names out of the way, on the writer thread, where no record can appear
/// meanwhile. Returns where they are now.
fn take_unnamed(
    shared: &Shared,
    from: &(impl Read + ?Sized),
    digests: &[Digest],
) -> Result<Vec<PathBuf>, StoreError> {
    let buckets: Vec<Bucket> =
        from.buckets("")?.into_iter().filter(|bucket| bucket.name() == BlobRecord::BUCKET).collect();
    let mut moved = Vec::new();
    for digest in digests {
        let mut named = false;
        for bucket in &buckets {
            named = named || from.get(bucket, digest.as_str())?.is_some();
        }
        let target = shared.root.join("deleted").join(digest.hex());
        if !named && std::fs::rename(shared.blob_path(digest), &target).is_ok() {
            moved.push(target);
        }
    }
    Ok(moved)
}

fn empty_folder(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        drop(std::fs::remove_file(entry.path()));
    }
}

fn blobs_on_disk(shared: &Shared) -> Vec<Digest> {
    let entries = std::fs::read_dir(shared.root.join("blobs/sha256")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Digest::parse(format!("sha256:{}", entry.file_name().to_str()?)).ok())
        .collect()
}

fn expire_ingests(shared: &Shared) {
    for entry in std::fs::read_dir(shared.root.join("ingest")).into_iter().flatten().flatten() {
        let written = entry.path().join("data").metadata().and_then(|data| data.modified());
        let resumable =
            written.ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age < INGEST_LIFETIME);
        if !resumable {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}
