//! The buffer of one change: reads fall through to the transaction, writes stay here until the change succeeds.

use std::collections::BTreeMap;

use super::{Bucket, Read, StoreError, Write};

type Buffered = BTreeMap<String, Option<Vec<u8>>>;

pub(super) struct Overlay<'a> {
    below: &'a dyn Read,
    changes: BTreeMap<Bucket, Buffered>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(below: &'a dyn Read) -> Self {
        Self { below, changes: BTreeMap::new() }
    }

    /// What the change wants written; `None` deletes.
    pub(super) fn into_changes(self) -> impl Iterator<Item = (Bucket, String, Option<Vec<u8>>)> {
        self.changes
            .into_iter()
            .flat_map(|(bucket, keys)| keys.into_iter().map(move |(key, value)| (bucket.clone(), key, value)))
    }
}

impl Read for Overlay<'_> {
    fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(bucket).and_then(|keys| keys.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.below.get(bucket, key),
        }
    }

    fn scan(&self, bucket: &Bucket) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let below = self.below.scan(bucket)?;
        let Some(changes) = self.changes.get(bucket) else {
            return Ok(below);
        };
        let mut merged: BTreeMap<String, Vec<u8>> = below.into_iter().collect();
        for (key, value) in changes {
            match value {
                Some(value) => drop(merged.insert(key.clone(), value.clone())),
                None => drop(merged.remove(key)),
            }
        }
        Ok(merged.into_iter().collect())
    }

    fn buckets(&self, prefix: &str) -> Result<Vec<Bucket>, StoreError> {
        let mut found = self.below.buckets(prefix)?;
        found.extend(self.changes.keys().filter(|bucket| bucket.as_str().starts_with(prefix)).cloned());
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn is_empty(&self, bucket: &Bucket) -> Result<bool, StoreError> {
        if self.changes.contains_key(bucket) {
            return Ok(self.scan(bucket)?.is_empty());
        }
        self.below.is_empty(bucket)
    }
}

impl Write for Overlay<'_> {
    fn put(&mut self, bucket: &Bucket, key: &str, value: Vec<u8>) {
        self.changes.entry(bucket.clone()).or_default().insert(key.to_owned(), Some(value));
    }

    fn delete(&mut self, bucket: &Bucket, key: &str) {
        self.changes.entry(bucket.clone()).or_default().insert(key.to_owned(), None);
    }
}
