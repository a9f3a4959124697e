//! Durable metadata: named buckets of key → bytes behind one trait.
//!
//! Readers never wait. All changes run as closures on one writer thread, many closures a commit; a closure that
//! fails leaves no trace. What the bytes mean is [`record`]'s business; bytes of images are not kept here.

pub mod atomic;
mod overlay;
pub mod plugin;
pub mod record;
mod redb;

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

pub use self::redb::RedbStore;
use crate::error::ErrorKind;
use crate::ids::Namespace;

/// A named set of keys, such as `v1/k8s.io/images`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(String);

/// Layout of bucket names; a change of layout gets a new prefix and a migration.
const LAYOUT: &str = "v1";

impl Bucket {
    /// The bucket of one kind of object in one namespace.
    pub fn in_namespace(namespace: &Namespace, name: &str) -> Self {
        Self(format!("{LAYOUT}/{namespace}/{name}"))
    }

    /// A bucket of the node itself; `:` keeps it apart from every namespace.
    pub fn of_node(name: &str) -> Self {
        Self(format!("{LAYOUT}/:node/{name}"))
    }

    pub(crate) fn from_stored(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace of a bucket made by [`Bucket::in_namespace`].
    pub fn namespace(&self) -> Option<Namespace> {
        Namespace::parse(self.0.split('/').nth(1)?).ok()
    }

    /// The name behind the namespace.
    pub fn name(&self) -> &str {
        self.0.splitn(3, '/').nth(2).unwrap_or_default()
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why metadata could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("failed to {step} the metadata store {path}")]
    Open {
        step: &'static str,
        path: String,
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    #[error("the metadata store {path} is held by another process")]
    Locked { path: String },
    #[error("failed to {step} metadata in {bucket}")]
    Access {
        step: &'static str,
        bucket: String,
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    #[error("record {key:?} in {bucket} cannot be decoded: {why}")]
    Corrupt { bucket: Bucket, key: String, why: String },
    #[error("a metadata change panicked, nothing of it was kept")]
    Panicked,
    #[error("the metadata store is closed")]
    Closed,
}

impl StoreError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { .. } | Self::Access { .. } | Self::Panicked => ErrorKind::Internal,
            Self::Corrupt { .. } => ErrorKind::DataLoss,
            Self::Locked { .. } | Self::Closed => ErrorKind::Unavailable,
        }
    }
}

/// A consistent view: the store itself (each call its own view), a [`Store::view`], or a change in progress.
pub trait Read {
    fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// Every pair of the bucket in key order; an unknown bucket is empty.
    fn scan(&self, bucket: &Bucket) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
    /// Every known bucket whose name starts with `prefix`.
    fn buckets(&self, prefix: &str) -> Result<Vec<Bucket>, StoreError>;
    /// Whether the bucket has no keys: a bucket stays known when its last key goes.
    fn is_empty(&self, bucket: &Bucket) -> Result<bool, StoreError> {
        Ok(self.scan(bucket)?.is_empty())
    }
}

/// A change in progress: it reads its own writes and those of every change before it.
pub trait Write: Read {
    fn put(&mut self, bucket: &Bucket, key: &str, value: Vec<u8>);
    fn delete(&mut self, bucket: &Bucket, key: &str);
}

/// What a change hands back to the writer thread.
pub struct Verdict {
    /// Whether its writes are kept.
    pub keep: bool,
    /// Called after the commit that holds the writes, or with the reason why there was none.
    pub finish: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

/// One change, run on the writer thread. [`Store::write`](trait.Store.html#method.write) builds these.
pub type Change = Box<dyn FnOnce(&mut dyn Write) -> Verdict + Send>;

/// A record that a change has written or, with nothing after, taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub bucket: Bucket,
    pub key: String,
    pub before: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

/// Hears of every change once it is durable, before its caller does, in the order of the changes.
///
/// It is called on the writer thread: it must not write, nor wait.
pub trait Observer: Send + Sync + 'static {
    /// Whether anybody would hear; values are not looked up for nobody.
    fn wants(&self) -> bool;
    /// All records of one change.
    fn committed(&self, change: Vec<Changed>);
}

/// The metadata store. [`RedbStore`] is the one implementation.
pub trait Store: Read + Send + Sync + 'static {
    /// A view that later changes do not touch.
    fn view(&self) -> Result<Box<dyn Read + '_>, StoreError>;
    /// Queues a change; never blocks on the disk.
    fn submit(&self, change: Change) -> Result<(), StoreError>;
}

pub type SharedStore = Arc<dyn Store>;

impl dyn Store {
    /// Runs `change` on the writer thread and resolves once it is durable, or with its error once nothing of it
    /// is kept. Dropping the future does not undo it.
    pub async fn write<T, E, F>(&self, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut dyn Write) -> Result<T, E> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.submit(change_of(change, move |result| drop(sender.send(result))))?;
        receiver.await.unwrap_or_else(|_| Err(StoreError::Panicked.into()))
    }

    /// [`Store::write`] for a thread that may block. Never call it from the async runtime or a change.
    pub fn write_blocking<T, E, F>(&self, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut dyn Write) -> Result<T, E> + Send + 'static,
    {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(change_of(change, move |result| drop(sender.send(result))))?;
        receiver.recv().unwrap_or_else(|_| Err(StoreError::Panicked.into()))
    }
}

fn change_of<T, E, F, D>(change: F, deliver: D) -> Change
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: FnOnce(&mut dyn Write) -> Result<T, E> + Send + 'static,
    D: FnOnce(Result<T, E>) + Send + 'static,
{
    Box::new(move |transaction| {
        let outcome = change(transaction);
        Verdict {
            keep: outcome.is_ok(),
            finish: Box::new(move |committed| {
                deliver(outcome.and_then(|value| committed.map(|()| value).map_err(E::from)));
            }),
        }
    })
}

#[cfg(test)]
mod tests;
