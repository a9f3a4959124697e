//! One blob on its way in: exclusive, resumable, checked before it gets its name.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::local::{Claim, Shared};
use super::{BlobRecord, ContentError, Labels};
use crate::ids::{Digest, Namespace};
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
    namespace: Namespace,
    reference: String,
    folder: PathBuf,
    file: File,
    hash: Sha256,
    offset: u64,
    _claim: Claim,
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ContentError + 'a {
    move |source| ContentError::Io { step, path: path.to_owned(), source }
}

impl Ingest {
    pub(super) fn open(
        shared: Shared,
        namespace: &Namespace,
        reference: &str,
        claim: Claim,
    ) -> Result<Self, ContentError> {
        let name = hex::encode(Sha256::digest(format!("{namespace}/{reference}")));
        let folder = shared.root.join("ingest").join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(failed("make the folder of an ingest", &folder))?;
        atomic::write(&folder.join("ref"), reference.as_bytes(), 0o600)
            .map_err(failed("write the reference of an ingest", &folder))?;
        let path = folder.join("data");
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut ingest = Self {
            shared,
            namespace: namespace.clone(),
            reference: reference.to_owned(),
            folder,
            file,
            hash: Sha256::new(),
            offset: 0,
            _claim: claim,
        };
        ingest.rehash().map_err(failed("read", &path))?;
        Ok(ingest)
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

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        self.file.write_all(bytes).map_err(failed("write", &self.folder))?;
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Starts over at byte 0.
    pub fn reset(&mut self) -> Result<(), ContentError> {
        self.file.set_len(0).map_err(failed("truncate", &self.folder))?;
        self.hash = Sha256::new();
        self.offset = 0;
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
        self.file
            .set_permissions(Permissions::from_mode(BLOB_MODE))
            .map_err(failed("chmod", &self.folder))?;
        self.file.sync_all().map_err(failed("sync", &self.folder))?;
        let mut attempt = 1;
        let record = loop {
            self.give_name(expected)?;
            match self.record(expected, &labels) {
                Err(ContentError::Vanished { .. }) if attempt < LINK_ATTEMPTS => attempt += 1,
                outcome => break outcome?,
            }
        };
        self.abort()?;
        Ok(record)
    }

    fn check(&self, expected: &Digest, size: Option<u64>) -> Result<(), ContentError> {
        let reference = || self.reference.clone();
        if let Some(size) = size.filter(|size| *size != self.offset) {
            return Err(ContentError::WrongSize {
                reference: reference(),
                expected: size,
                found: self.offset,
            });
        }
        let found = Digest::from_sha256(&self.hash.clone().finalize());
        if found == *expected {
            Ok(())
        } else {
            Err(ContentError::WrongDigest { reference: reference(), expected: expected.clone(), found })
        }
    }

    /// A link, not a rename: the bytes stay here until the record exists.
    fn give_name(&self, digest: &Digest) -> Result<(), ContentError> {
        let blob = self.shared.blob_path(digest);
        match std::fs::hard_link(self.folder.join("data"), &blob) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("name the blob", &blob)(error));
            }
            _ => {}
        }
        atomic::sync_folder_of(&blob).map_err(failed("sync the folder of", &blob))
    }

    /// The record is made where sweeps are decided too, on the writer thread: one of both sees the other.
    fn record(&self, digest: &Digest, labels: &Labels) -> Result<BlobRecord, ContentError> {
        let table = Table::<BlobRecord>::new(&self.namespace);
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
            let record = BlobRecord { digest, size, labels: merged, created_at, updated_at: now };
            table.put(change, &record)?;
            Ok(record)
        })
    }
}
