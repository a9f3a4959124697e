//! Image records: a name and the descriptor it stands for. What the CRI calls an image is made of several.

use serde::{Deserialize, Serialize};

use crate::clock::{SharedClock, Timestamp};
use crate::content::{Descriptor, Labels};
use crate::error::ErrorKind;
use crate::ids::{Digest, LeaseId, Namespace};
use crate::labels::{self, LabelError};
use crate::lease::{LeaseError, Resource, hold};
use crate::store::record::{Listing, Record, Table};
use crate::store::{SharedStore, StoreError};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    pub name: String,
    pub target: Descriptor,
    pub labels: Labels,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Record for ImageRecord {
    const BUCKET: &'static str = "images";
    const VERSION: u32 = 1;

    fn key(&self) -> &str {
        &self.name
    }
}

/// What a caller says about an image; the times are the store's.
#[derive(Clone, Debug)]
pub struct NewImage {
    pub name: String,
    pub target: Descriptor,
    pub labels: Labels,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageRecordError {
    #[error("image record {name:?} does not exist")]
    NotFound { name: String },
    #[error("image record {name:?} exists already")]
    Exists { name: String },
    #[error("image record {name:?} stands for {found}, not for {expected}")]
    OtherTarget { name: String, expected: Digest, found: Digest },
    #[error("failed to label image record {name:?}")]
    Label {
        name: String,
        #[source]
        source: LabelError,
    },
    #[error("failed to hold image record {name:?}")]
    Lease {
        name: String,
        #[source]
        source: LeaseError,
    },
    #[error("metadata of images")]
    Store(#[from] StoreError),
}

impl ImageRecordError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::OtherTarget { .. } => ErrorKind::FailedPrecondition,
            Self::Label { source, .. } => source.kind(),
            Self::Lease { source, .. } => source.kind(),
            Self::Store(source) => source.kind(),
        }
    }
}

/// The image records of every namespace.
#[derive(Clone)]
pub struct Images {
    store: SharedStore,
    clock: SharedClock,
}

impl Images {
    pub fn new(store: SharedStore, clock: SharedClock) -> Self {
        Self { store, clock }
    }

    pub fn get(&self, namespace: &Namespace, name: &str) -> Result<Option<ImageRecord>, ImageRecordError> {
        Ok(Table::<ImageRecord>::new(namespace).get(&*self.store, name)?)
    }

    pub fn list(&self, namespace: &Namespace) -> Result<Listing<ImageRecord>, ImageRecordError> {
        Ok(Table::<ImageRecord>::new(namespace).list(&*self.store)?)
    }

    /// Adds the record and has `lease` hold it too. Returns it as it is kept.
    pub async fn create(
        &self,
        namespace: &Namespace,
        image: NewImage,
        lease: Option<LeaseId>,
    ) -> Result<ImageRecord, ImageRecordError> {
        let now = self.clock.now();
        let record = checked(record_of(image, now, now))?;
        let (table, namespace) = (Table::<ImageRecord>::new(namespace), namespace.clone());
        self.store
            .write(move |change| {
                let name = record.name.clone();
                if change.get(table.bucket(), &name)?.is_some() {
                    return Err(ImageRecordError::Exists { name });
                }
                table.put(change, &record)?;
                hold(change, &namespace, lease.as_ref(), Resource::Image(name.clone()))
                    .map_err(|source| ImageRecordError::Lease { name, source })?;
                Ok(record)
            })
            .await
    }

    /// Changes the record by `edit`, which sees it as it is then. Returns it as it is kept.
    pub async fn edit<F>(
        &self,
        namespace: &Namespace,
        name: &str,
        edit: F,
    ) -> Result<ImageRecord, ImageRecordError>
    where
        F: FnOnce(&mut ImageRecord) + Send + 'static,
    {
        let (table, name, now) = (Table::<ImageRecord>::new(namespace), name.to_owned(), self.clock.now());
        self.store
            .write(move |change| {
                let Some(old) = table.get(change, &name)? else {
                    return Err(ImageRecordError::NotFound { name });
                };
                let created_at = old.created_at;
                let mut new = old;
                edit(&mut new);
                let new = checked(ImageRecord { name, created_at, updated_at: now, ..new })?;
                table.put(change, &new)?;
                Ok(new)
            })
            .await
    }

    /// Deletes one name, if it still stands for what the caller thinks.
    pub async fn delete(
        &self,
        namespace: &Namespace,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<(), ImageRecordError> {
        let (table, name) = (Table::<ImageRecord>::new(namespace), name.to_owned());
        self.store
            .write(move |change| {
                let Some(record) = table.get(change, &name)? else {
                    return Err(ImageRecordError::NotFound { name });
                };
                if let Some(expected) = expected.filter(|expected| *expected != record.target.digest) {
                    let found = record.target.digest;
                    return Err(ImageRecordError::OtherTarget { name, expected, found });
                }
                table.delete(change, &name);
                Ok(())
            })
            .await
    }

    /// Makes or moves all of `images` in one transaction: all names or none.
    pub async fn put_all(
        &self,
        namespace: &Namespace,
        images: Vec<NewImage>,
    ) -> Result<(), ImageRecordError> {
        let (table, now) = (Table::<ImageRecord>::new(namespace), self.clock.now());
        self.store
            .write(move |change| {
                for image in images {
                    // A record that cannot be read is replaced: the name is what the caller asked for.
                    let created = match table.get(change, &image.name) {
                        Ok(old) => old.map_or(now, |old| old.created_at),
                        Err(StoreError::Corrupt { .. }) => now,
                        Err(error) => return Err(error.into()),
                    };
                    table.put(change, &record_of(image, created, now))?;
                }
                Ok(())
            })
            .await
    }

    /// Deletes the names in one transaction; absent ones are no error.
    pub async fn delete_all(
        &self,
        namespace: &Namespace,
        names: Vec<String>,
    ) -> Result<(), ImageRecordError> {
        let table = Table::<ImageRecord>::new(namespace);
        self.store
            .write(move |change| {
                names.iter().for_each(|name| table.delete(change, name));
                Ok(())
            })
            .await
    }
}

/// Labels are short, and those without a value are not kept.
fn checked(mut record: ImageRecord) -> Result<ImageRecord, ImageRecordError> {
    labels::validate(&record.labels)
        .map_err(|source| ImageRecordError::Label { name: record.name.clone(), source })?;
    record.labels.retain(|_, value| !value.is_empty());
    Ok(record)
}

fn record_of(image: NewImage, created_at: Timestamp, updated_at: Timestamp) -> ImageRecord {
    ImageRecord { name: image.name, target: image.target, labels: image.labels, created_at, updated_at }
}
