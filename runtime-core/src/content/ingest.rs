//! One blob on its way in: exclusive, resumable, checked before it gets its name.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::local::{Claim, Shared};
use super::{BlobRecord, ContentError, Labels, NewContent, progress};
use crate::clock::Timestamp;
use crate::ids::Digest;
use crate::labels;
use crate::lease::{Resource, hold};
use crate::store::atomic;
use crate::store::record::Table;

/// Blobs are never changed once they have their name.
const BLOB_MODE: u32 = 0o444;
/// A sweep may take the bytes between their rename and their record, but hardly thrice in a row.
const LINK_ATTEMPTS: usize = 3;
const REHASH_BUFFER: usize = 256 << 10;

/// The writer of one ingest. Dropping it keeps what was written for the next writer of the same reference.
pub struct Ingest {
    shared: Shared,
    new: NewContent,
    started_at: Timestamp,
    updated_at: Timestamp,
    folder: PathBuf,
    file: File,
    hash: Sha256,
    offset: u64,
    /// The bytes are there already, another namespace has them; until somebody writes others.
    found: Option<Digest>,
    _claim: Claim,
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ContentError + 'a {
    move |source| ContentError::Io { step, path: path.to_owned(), source }
}

impl Ingest {
    pub(super) fn open(shared: Shared, new: NewContent, claim: Claim) -> Result<Self, ContentError> {
        let folder = shared.ingest_folder(&new.namespace, &new.reference);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(failed("make the folder of an ingest", &folder))?;
        let started_at = progress::write(&folder, &new, shared.clock.now())?;
        let path = progress::data(&folder);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut ingest = Self {
            shared,
            new,
            started_at,
            updated_at: started_at,
            folder,
            file,
            hash: Sha256::new(),
            offset: 0,
            found: None,
            _claim: claim,
        };
        if !ingest.find() {
            ingest.rehash().map_err(failed("read", &path))?;
        }
        Ok(ingest)
    }

    /// Whether the expected bytes are on disk under their name.
    fn find(&mut self) -> bool {
        let Some(digest) = &self.new.expected else { return false };
        let Ok(blob) = std::fs::metadata(self.shared.blob_path(digest)) else { return false };
        self.offset = blob.len();
        self.found = Some(digest.clone());
        true
    }

    fn rehash(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; REHASH_BUFFER];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                count => {
                    self.hash.update(&buffer[..count]);
                    self.offset += count as u64;
                }
            }
        }
    }

    /// Bytes written so far, those of earlier writers included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    pub fn updated_at(&self) -> Timestamp {
        self.updated_at
    }

    /// Bytes it will have, as its writer said; 0 if it did not.
    pub fn total(&self) -> u64 {
        self.new.total
    }

    /// The digest of what there is so far.
    pub fn digest(&self) -> Digest {
        self.found.clone().unwrap_or_else(|| Digest::from_sha256(&self.hash.clone().finalize()))
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        if self.found.is_some() {
            self.reset()?;
        }
        self.file.write_all(bytes).map_err(failed("write", &self.folder))?;
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        self.updated_at = self.shared.clock.now();
        Ok(())
    }

    /// Starts over at byte 0.
    pub fn reset(&mut self) -> Result<(), ContentError> {
        self.file.set_len(0).map_err(failed("truncate", &self.folder))?;
        self.hash = Sha256::new();
        self.offset = 0;
        self.found = None;
        Ok(())
    }

    /// Forgets what was written.
    pub fn abort(self) -> Result<(), ContentError> {
        std::fs::remove_dir_all(&self.folder).map_err(failed("remove", &self.folder))
    }

    /// Checks size and digest, makes the bytes durable under their name, then the record. Wrong bytes are
    /// forgotten: nobody could resume them. Blocks.
    pub fn commit(
        self,
        expected: &Digest,
        size: Option<u64>,
        labels: Labels,
    ) -> Result<BlobRecord, ContentError> {
        if let Err(wrong) = self.check(expected, size) {
            self.abort()?;
            return Err(wrong);
        }
        labels::validate(&labels)
            .map_err(|source| ContentError::Label { digest: expected.clone(), source })?;
        if self.found.is_none() {
            self.file
                .set_permissions(Permissions::from_mode(BLOB_MODE))
                .map_err(failed("chmod", &self.folder))?;
            self.file.sync_all().map_err(failed("sync", &self.folder))?;
        }
        let mut attempt = 1;
        let record = loop {
            if self.found.is_none() {
                self.give_name(expected)?;
            }
            match self.record(expected, &labels) {
                Err(ContentError::Vanished { .. }) if attempt < LINK_ATTEMPTS => attempt += 1,
                outcome => break outcome?,
            }
        };
        self.abort()?;
        Ok(record)
    }

    fn check(&self, expected: &Digest, size: Option<u64>) -> Result<(), ContentError> {
        let reference = || self.new.reference.clone();
        if let Some(size) = size.filter(|size| *size != self.offset) {
            return Err(ContentError::WrongSize {
                reference: reference(),
                expected: size,
                found: self.offset,
            });
        }
        let found = self.digest();
        if found == *expected {
            Ok(())
        } else {
            Err(ContentError::WrongDigest { reference: reference(), expected: expected.clone(), found })
        }
    }

    /// A link, not a rename: the bytes stay here until the record exists.
    fn give_name(&self, digest: &Digest) -> Result<(), ContentError> {
        let blob = self.shared.blob_path(digest);
        match std::fs::hard_link(progress::data(&self.folder), &blob) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("name the blob", &blob)(error));
            }
            _ => {}
        }
        atomic::sync_folder_of(&blob).map_err(failed("sync the folder of", &blob))
    }

    /// The record is made where sweeps are decided too, on the writer thread: one of both sees the other.
    fn record(&self, digest: &Digest, labels: &Labels) -> Result<BlobRecord, ContentError> {
        let NewContent { namespace, lease, .. } = self.new.clone();
        let table = Table::<BlobRecord>::new(&namespace);
        let (shared, digest, labels) = (self.shared.clone(), digest.clone(), labels.clone());
        let size = self.offset;
        let now = shared.clock.now();
        self.shared.store.write_blocking(move |change| {
            if std::fs::metadata(shared.blob_path(&digest)).is_err() {
                return Err(ContentError::Vanished { digest });
            }
            let old = table.get(change, digest.as_str())?;
            let created_at = old.as_ref().map_or(now, |old| old.created_at);
            let mut merged = old.map(|old| old.labels).unwrap_or_default();
            merged.extend(labels);
            merged.retain(|_, value| !value.is_empty());
            let record = BlobRecord { digest, size, labels: merged, created_at, updated_at: now };
            table.put(change, &record)?;
            let resource = Resource::Content(record.digest.clone());
            hold(change, &namespace, lease.as_ref(), resource)
                .map_err(|source| ContentError::Lease { digest: record.digest.clone(), source })?;
            Ok(record)
        })
    }
}
