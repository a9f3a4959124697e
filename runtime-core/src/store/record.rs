//! Typed records over the bytes of the store: each value carries the version of its type.
//!
//! A value that cannot be decoded is reported by key and left alone; it never hides the records beside it.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Bucket, Read, StoreError, Write};
use crate::ids::Namespace;

/// A type that is stored. Its serde form is the stored form: change it only together with `VERSION`.
pub trait Record: Serialize + DeserializeOwned + Send + 'static {
    /// The bucket's name within a namespace, such as `images`.
    const BUCKET: &'static str;
    const VERSION: u32;

    fn key(&self) -> &str;

    /// Reads a value that an older daemon wrote; `None` means that this version is not understood.
    fn upgrade(version: u32, value: &[u8]) -> Option<Self> {
        let _ = (version, value);
        None
    }
}

/// What a scan found: the records, and the keys that hold something else.
#[derive(Debug)]
pub struct Listing<R> {
    pub records: Vec<R>,
    /// Each a [`StoreError::Corrupt`].
    pub corrupt: Vec<StoreError>,
}

/// The records of one type in one bucket. Works on the store, on a view and within a change.
#[derive(Debug)]
pub struct Table<R> {
    bucket: Bucket,
    record: PhantomData<fn() -> R>,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self { bucket: self.bucket.clone(), record: PhantomData }
    }
}

impl<R: Record> Table<R> {
    pub fn new(namespace: &Namespace) -> Self {
        Self::at(Bucket::in_namespace(namespace, R::BUCKET))
    }

    /// For records that live below another name, such as the snapshots of one snapshotter.
    pub fn at(bucket: Bucket) -> Self {
        Self { bucket, record: PhantomData }
    }

    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub fn get(&self, from: &(impl Read + ?Sized), key: &str) -> Result<Option<R>, StoreError> {
        from.get(&self.bucket, key)?.map(|value| self.decode(key, &value)).transpose()
    }

    pub fn list(&self, from: &(impl Read + ?Sized)) -> Result<Listing<R>, StoreError> {
        let mut listing = Listing { records: Vec::new(), corrupt: Vec::new() };
        for (key, value) in from.scan(&self.bucket)? {
            match self.decode(&key, &value) {
                Ok(record) => listing.records.push(record),
                Err(corrupt) => listing.corrupt.push(corrupt),
            }
        }
        Ok(listing)
    }

    pub fn put(&self, to: &mut (impl Write + ?Sized), record: &R) -> Result<(), StoreError> {
        let mut value = R::VERSION.to_be_bytes().to_vec();
        serde_json::to_writer(&mut value, record)
            .map_err(|error| self.corrupt(record.key(), error.to_string()))?;
        to.put(&self.bucket, record.key(), value);
        Ok(())
    }

    pub fn delete(&self, to: &mut (impl Write + ?Sized), key: &str) {
        to.delete(&self.bucket, key);
    }

    /// The record in the bytes of a key.
    pub(crate) fn decode(&self, key: &str, value: &[u8]) -> Result<R, StoreError> {
        let Some((version, body)) = value.split_first_chunk::<4>() else {
            return Err(self.corrupt(key, "it is shorter than its version".to_owned()));
        };
        let version = u32::from_be_bytes(*version);
        let record = if version == R::VERSION {
            serde_json::from_slice::<R>(body).map_err(|error| self.corrupt(key, error.to_string()))?
        } else {
            R::upgrade(version, body)
                .ok_or_else(|| self.corrupt(key, format!("version {version} is not known")))?
        };
        if record.key() == key {
            Ok(record)
        } else {
            Err(self.corrupt(key, format!("it calls itself {:?}", record.key())))
        }
    }

    fn corrupt(&self, key: &str, why: String) -> StoreError {
        StoreError::Corrupt { bucket: self.bucket.clone(), key: key.to_owned(), why }
    }
}
