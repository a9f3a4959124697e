//! What stands beside the bytes of an ingest: whose it is, since when, and what it is to become.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ContentError, IngestStatus, NewContent};
use crate::clock::Timestamp;
use crate::ids::{Digest, Namespace};
use crate::store::atomic;

const FILE: &str = "ingest.json";

#[derive(Serialize, Deserialize)]
struct Kept {
    namespace: Namespace,
    reference: String,
    started_at: Timestamp,
    total: u64,
    expected: Option<Digest>,
}

/// An ingest on disk.
pub(super) struct Found {
    namespace: Namespace,
    pub(super) status: IngestStatus,
}

impl Found {
    pub(super) fn is_of(&self, namespace: &Namespace) -> bool {
        self.namespace == *namespace
    }
}

pub(super) fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// Says what the ingest in `folder` is to become; what an earlier writer said is replaced, but for when it began.
pub(super) fn write(folder: &Path, new: &NewContent, now: Timestamp) -> Result<Timestamp, ContentError> {
    let started_at = read(folder)?.map_or(now, |found| found.status.started_at);
    let kept = Kept {
        namespace: new.namespace.clone(),
        reference: new.reference.clone(),
        started_at,
        total: new.total,
        expected: new.expected.clone(),
    };
    let path = folder.join(FILE);
    let failed = |source| ContentError::Io { step: "write", path: path.clone(), source };
    let text = serde_json::to_vec(&kept).map_err(|error| failed(error.into()))?;
    atomic::write(&path, &text, 0o600).map_err(failed)?;
    Ok(started_at)
}

/// The ingest in `folder`; none when it is not there (any more) or was begun by another version of this daemon.
pub(super) fn read(folder: &Path) -> Result<Option<Found>, ContentError> {
    let path = folder.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ContentError::Io { step: "read", path, source }),
    };
    let Ok(kept) = serde_json::from_slice::<Kept>(&text) else { return Ok(None) };
    let bytes = std::fs::metadata(data(folder)).ok();
    let written = bytes.as_ref().and_then(|bytes| bytes.modified().ok()).map(Timestamp::from);
    let status = IngestStatus {
        reference: kept.reference,
        offset: bytes.map_or(0, |bytes| bytes.len()),
        total: kept.total,
        expected: kept.expected,
        started_at: kept.started_at,
        updated_at: written.unwrap_or(kept.started_at),
    };
    Ok(Some(Found { namespace: kept.namespace, status }))
}
