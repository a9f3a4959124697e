//! The store on redb: one file, readers on snapshots, one thread that owns every write transaction.
//!
//! The thread takes whatever is queued, up to [`GROUP`] changes, runs them on one transaction and commits once.
//! Every commit is two-phase: record values hold bytes that strangers chose (labels, image configurations), and
//! the file opens in milliseconds after a kill.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    TableHandle, WriteTransaction,
};

use super::overlay::Overlay;
use super::{Bucket, Change, Changed, Observer, Read, Store, StoreError, Verdict};

/// redb's page cache; its default of 1 GiB is for servers. Metadata of a node is a few megabytes.
const CACHE_BYTES: usize = 8 << 20;
/// Changes of one commit: bounds how long the first waits for the last.
const GROUP: usize = 256;

pub struct RedbStore {
    database: Arc<Database>,
    queue: Mutex<Option<Sender<Change>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl RedbStore {
    /// Opens or makes the file at `path`, its folder included, readable by root alone. A file that another
    /// process holds, or whose pages fail their checksums, is an error; nothing is repaired by deleting.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::observed(path, Arc::new(Nobody))
    }

    /// [`RedbStore::open`], with somebody who hears of every change.
    pub fn observed(path: &Path, observer: Arc<dyn Observer>) -> Result<Self, StoreError> {
        let failed = |step| {
            move |source: Arc<dyn std::error::Error + Send + Sync>| StoreError::Open {
                step,
                path: path.display().to_string(),
                source,
            }
        };
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| failed("make the folder of")(Arc::new(error)))?;
        }
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed("open")(Arc::new(error)))?;
        let file = redb::backends::FileBackend::new(file).map_err(|error| failed("lock")(Arc::new(error)))?;
        let database =
            redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(file).map_err(|error| {
                match error {
                    redb::DatabaseError::DatabaseAlreadyOpen => {
                        StoreError::Locked { path: path.display().to_string() }
                    }
                    other => failed("read")(Arc::new(other)),
                }
            })?;
        let database = Arc::new(database);
        let (queue, changes) = channel();
        let writer = std::thread::Builder::new()
            .name("metadata".to_owned())
            .spawn({
                let database = Arc::clone(&database);
                move || write_groups(&database, &changes, &*observer)
            })
            .map_err(|error| failed("start the writer of")(Arc::new(error)))?;
        Ok(Self { database, queue: Mutex::new(Some(queue)), writer: Mutex::new(Some(writer)) })
    }

    /// Commits what is queued and ends the writer thread. Later changes get [`StoreError::Closed`].
    pub fn close(&self) {
        drop(lock(&self.queue).take());
        if let Some(writer) = lock(&self.writer).take() {
            drop(writer.join());
        }
    }

    fn reader(&self) -> Result<RedbView, StoreError> {
        self.database.begin_read().map(RedbView).map_err(|error| access("begin to read", "", error))
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Read for RedbStore {
    fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.reader()?.get(bucket, key)
    }

    fn scan(&self, bucket: &Bucket) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.reader()?.scan(bucket)
    }

    fn buckets(&self, prefix: &str) -> Result<Vec<Bucket>, StoreError> {
        self.reader()?.buckets(prefix)
    }

    fn is_empty(&self, bucket: &Bucket) -> Result<bool, StoreError> {
        self.reader()?.is_empty(bucket)
    }
}

impl Store for RedbStore {
    fn view(&self) -> Result<Box<dyn Read + '_>, StoreError> {
        Ok(Box::new(self.reader()?))
    }

    fn submit(&self, change: Change) -> Result<(), StoreError> {
        let queue = lock(&self.queue);
        queue.as_ref().ok_or(StoreError::Closed)?.send(change).map_err(|_| StoreError::Closed)
    }
}

/// Poisoning means nothing here: both mutexes guard an `Option` that is only taken.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn access(
    step: &'static str,
    bucket: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Access { step, bucket: bucket.to_owned(), source: Arc::new(source) }
}

fn table(bucket: &Bucket) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(bucket.as_str())
}

struct RedbView(ReadTransaction);

impl Read for RedbView {
    fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let table = match self.0.open_table(table(bucket)) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(access("open", bucket.as_str(), error)),
        };
        let found = table.get(key).map_err(|error| access("read", bucket.as_str(), error))?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(&self, bucket: &Bucket) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        match self.0.open_table(table(bucket)) {
            Ok(table) => pairs(&table, bucket),
            Err(TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
            Err(error) => Err(access("open", bucket.as_str(), error)),
        }
    }

    fn buckets(&self, prefix: &str) -> Result<Vec<Bucket>, StoreError> {
        let tables = self.0.list_tables().map_err(|error| access("list", prefix, error))?;
        Ok(names(tables, prefix))
    }

    fn is_empty(&self, bucket: &Bucket) -> Result<bool, StoreError> {
        match self.0.open_table(table(bucket)) {
            Ok(table) => empty(&table, bucket),
            Err(TableError::TableDoesNotExist(_)) => Ok(true),
            Err(error) => Err(access("open", bucket.as_str(), error)),
        }
    }
}

fn pairs(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    bucket: &Bucket,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let rows = table.iter().map_err(|error| access("scan", bucket.as_str(), error))?;
    rows.map(|row| {
        let (key, value) = row.map_err(|error| access("scan", bucket.as_str(), error))?;
        Ok((key.value().to_owned(), value.value().to_vec()))
    })
    .collect()
}

fn empty(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    bucket: &Bucket,
) -> Result<bool, StoreError> {
    Ok(table.first().map_err(|error| access("read", bucket.as_str(), error))?.is_none())
}

fn names(tables: impl Iterator<Item = impl TableHandle>, prefix: &str) -> Vec<Bucket> {
    let mut names: Vec<Bucket> = tables
        .filter(|table| table.name().starts_with(prefix))
        .map(|table| Bucket::from_stored(table.name()))
        .collect();
    names.sort();
    names
}

struct RedbChange(WriteTransaction);

impl RedbChange {
    /// Returns what was there before, if `telling`: nobody else pays for the copy.
    fn apply(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Option<&[u8]>,
        telling: bool,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut table =
            self.0.open_table(table(bucket)).map_err(|error| access("open", bucket.as_str(), error))?;
        let before = match value {
            Some(value) => table.insert(key, value),
            None => table.remove(key),
        };
        let before = before.map_err(|error| access("write", bucket.as_str(), error))?;
        Ok(before.filter(|_| telling).map(|before| before.value().to_vec()))
    }

    /// Opening a table for writing makes it, so that reads look first.
    fn known(&self, bucket: &Bucket) -> Result<bool, StoreError> {
        let mut tables = self.0.list_tables().map_err(|error| access("list", bucket.as_str(), error))?;
        Ok(tables.any(|table| table.name() == bucket.as_str()))
    }
}

impl Read for RedbChange {
    fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if !self.known(bucket)? {
            return Ok(None);
        }
        let table =
            self.0.open_table(table(bucket)).map_err(|error| access("open", bucket.as_str(), error))?;
        let found = table.get(key).map_err(|error| access("read", bucket.as_str(), error))?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(&self, bucket: &Bucket) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        if !self.known(bucket)? {
            return Ok(Vec::new());
        }
        let table =
            self.0.open_table(table(bucket)).map_err(|error| access("open", bucket.as_str(), error))?;
        pairs(&table, bucket)
    }

    fn buckets(&self, prefix: &str) -> Result<Vec<Bucket>, StoreError> {
        let tables = self.0.list_tables().map_err(|error| access("list", prefix, error))?;
        Ok(names(tables, prefix))
    }

    fn is_empty(&self, bucket: &Bucket) -> Result<bool, StoreError> {
        if !self.known(bucket)? {
            return Ok(true);
        }
        let table =
            self.0.open_table(table(bucket)).map_err(|error| access("open", bucket.as_str(), error))?;
        empty(&table, bucket)
    }
}

type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Nobody;

impl Observer for Nobody {
    fn wants(&self) -> bool {
        false
    }

    fn committed(&self, _change: Vec<Changed>) {}
}

fn write_groups(database: &Database, changes: &Receiver<Change>, observer: &dyn Observer) {
    while let Ok(first) = changes.recv() {
        let rest = std::iter::from_fn(|| changes.try_recv().ok());
        let group: Vec<Change> = std::iter::once(first).chain(rest).take(GROUP).collect();
        let mut waiting = Vec::with_capacity(group.len());
        let mut news = observer.wants().then(Vec::new);
        let committed = commit(database, group, &mut waiting, &mut news);
        if committed.is_ok() {
            news.into_iter().flatten().for_each(|change| observer.committed(change));
        }
        for finish in waiting {
            finish(committed.clone());
        }
    }
}

/// Runs `group` on one transaction. When the transaction itself fails, none of the group is kept and every
/// change that has run hears why; changes that could not run any more are dropped, which their callers see.
fn commit(
    database: &Database,
    group: Vec<Change>,
    waiting: &mut Vec<Finish>,
    news: &mut Option<Vec<Vec<Changed>>>,
) -> Result<(), StoreError> {
    let mut transaction = database.begin_write().map_err(|error| access("begin to write", "", error))?;
    transaction.set_durability(Durability::Immediate).map_err(|error| access("begin to write", "", error))?;
    transaction.set_quick_repair(true);
    let transaction = RedbChange(transaction);
    let mut dirty = false;
    for change in group {
        let mut overlay = Overlay::new(&transaction);
        let Ok(Verdict { keep, finish }) = catch_unwind(AssertUnwindSafe(|| change(&mut overlay))) else {
            continue;
        };
        waiting.push(finish);
        if !keep {
            continue;
        }
        let mut records = Vec::new();
        for (bucket, key, after) in overlay.into_changes() {
            let before = transaction.apply(&bucket, &key, after.as_deref(), news.is_some())?;
            dirty = true;
            if news.is_some() && before != after {
                records.push(Changed { bucket, key, before, after });
            }
        }
        if let Some(news) = news.as_mut().filter(|_| !records.is_empty()) {
            news.push(records);
        }
    }
    if dirty {
        transaction.0.commit().map_err(|error| access("commit", "", error))
    } else {
        transaction.0.abort().map_err(|error| access("abort", "", error))
    }
}
