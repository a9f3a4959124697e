//! Image records: a name and the descriptor it stands for. What the CRI calls an image is made of several.

use serde::{Deserialize, Serialize};

use crate::clock::{SharedClock, Timestamp};
use crate::content::{Descriptor, Labels};
use crate::error::ErrorKind;
use crate::ids::Namespace;
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
    #[error("metadata of images")]
    Store(#[from] StoreError),
}

impl ImageRecordError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
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

    pub async fn create(&self, namespace: &Namespace, image: NewImage) -> Result<(), ImageRecordError> {
        let (table, now) = (Table::<ImageRecord>::new(namespace), self.clock.now());
        self.store
            .write(move |change| {
                if table.get(change, &image.name)?.is_some() {
                    return Err(ImageRecordError::Exists { name: image.name });
                }
                Ok(table.put(change, &record_of(image, now, now))?)
            })
            .await
    }

    /// Replaces target and labels of a record that exists.
    pub async fn update(&self, namespace: &Namespace, image: NewImage) -> Result<(), ImageRecordError> {
        let (table, now) = (Table::<ImageRecord>::new(namespace), self.clock.now());
        self.store
            .write(move |change| match table.get(change, &image.name)? {
                Some(old) => Ok(table.put(change, &record_of(image, old.created_at, now))?),
                None => Err(ImageRecordError::NotFound { name: image.name }),
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

fn record_of(image: NewImage, created_at: Timestamp, updated_at: Timestamp) -> ImageRecord {
    ImageRecord { name: image.name, target: image.target, labels: image.labels, created_at, updated_at }
}
