//! A pod's journal: an append-only file below `<state>/pods`, good for one boot of the host.
//!
//! It survives kill -9 of the daemon without an fsync on the start path: a completed `write` is in the page
//! cache. Layout: magic, version, boot id, then frames of length, CRC-32 and one JSON [`Fact`]. A torn last
//! frame is cut off. One lock guards the file; nothing else is done under it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::facts::Fact;

const MAGIC: &[u8; 8] = b"orlopod\x01";
/// A boot id is a UUID in text.
const BOOT_ID_LENGTH: usize = 36;
const HEADER_LENGTH: usize = MAGIC.len() + BOOT_ID_LENGTH;
/// Facts are a few hundred bytes; a longer frame is damage.
const MAX_FRAME: usize = 64 * 1024;
/// A journal that grew beyond this is damage too.
const MAX_FILE: u64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot {action} pod journal {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("pod journal {path} is not of version 1")]
    Header { path: PathBuf },
    #[error("pod journal {path} is of another boot of the host")]
    OtherBoot { path: PathBuf },
    #[error("cannot encode a fact for pod journal {path}")]
    Encode {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// An open journal, shared by the drivers of one pod.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// A new journal; an old file of that name is replaced.
    pub(crate) fn create(path: &Path, boot_id: &str) -> Result<Self, JournalError> {
        let at = |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        let mut header = MAGIC.to_vec();
        header.extend(padded(boot_id));
        let mut file = options().create(true).truncate(true).open(path).map_err(at("create"))?;
        file.write_all(&header).map_err(at("write"))?;
        let file = options().append(true).open(path).map_err(at("open"))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// An existing journal and all it says. What follows a damaged frame is cut off.
    pub(crate) fn open(path: &Path, boot_id: &str) -> Result<(Self, Vec<Fact>), JournalError> {
        let at = |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(at("open"))?;
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(at("read"))?;
        let body = bytes
            .strip_prefix(MAGIC.as_slice())
            .filter(|rest| rest.len() >= BOOT_ID_LENGTH)
            .ok_or_else(|| JournalError::Header { path: path.to_owned() })?;
        let (of_boot, frames) = body.split_at(BOOT_ID_LENGTH);
        if of_boot != padded(boot_id) {
            return Err(JournalError::OtherBoot { path: path.to_owned() });
        }
        let (facts, good) = decode(frames);
        let file = options().append(true).open(path).map_err(at("open"))?;
        if good < frames.len() {
            tracing::warn!(journal = %path.display(), bytes = frames.len() - good, "cut off a torn end");
            file.set_len((HEADER_LENGTH + good) as u64).map_err(at("truncate"))?;
        }
        Ok((Self { path: path.to_owned(), file: Mutex::new(file) }, facts))
    }

    /// Adds one fact; it is safe from the death of this process when this returns.
    pub(crate) fn append(&self, fact: &Fact) -> Result<(), JournalError> {
        let frame =
            encode(fact).map_err(|source| JournalError::Encode { path: self.path.clone(), source })?;
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(&frame).map_err(|source| JournalError::Io {
            action: "append to",
            path: self.path.clone(),
            source,
        })
    }
}

/// Takes the journal at `path` away; gone already is fine.
pub(crate) fn remove(path: &Path) -> Result<(), JournalError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(JournalError::Io { action: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn padded(boot_id: &str) -> Vec<u8> {
    let mut bytes = boot_id.as_bytes().to_vec();
    bytes.resize(BOOT_ID_LENGTH, b' ');
    bytes
}

fn encode(fact: &Fact) -> Result<Vec<u8>, serde_json::Error> {
    let payload = serde_json::to_vec(fact)?;
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend(crc32fast::hash(&payload).to_le_bytes());
    frame.extend(payload);
    Ok(frame)
}

/// The facts in front of the first damage, and how many bytes they take.
fn decode(mut frames: &[u8]) -> (Vec<Fact>, usize) {
    let whole = frames.len();
    let mut facts = Vec::new();
    while let Some((fact, rest)) = decode_one(frames) {
        facts.push(fact);
        frames = rest;
    }
    (facts, whole - frames.len())
}

fn decode_one(frames: &[u8]) -> Option<(Fact, &[u8])> {
    let (length, rest) = frames.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|n| *n <= MAX_FRAME)?;
    let (payload, rest) = rest.split_at_checked(length)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*crc) {
        return None;
    }
    Some((serde_json::from_slice(payload).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Stage;
    use runtime_core::clock::Timestamp;

    const BOOT: &str = "5a2c3f54-0000-4000-8000-1234567890ab";

    fn facts() -> Vec<Fact> {
        vec![
            Fact::Entering(Stage::ShimUp),
            Fact::Shim { pid: 7, start_time: 99 },
            Fact::Ready { at: Timestamp(5) },
        ]
    }

    fn written(dir: &Path) -> PathBuf {
        let path = dir.join("pod");
        let journal = Journal::create(&path, BOOT).expect("create");
        for fact in facts() {
            journal.append(&fact).expect("append");
        }
        path
    }

    #[test]
    fn facts_come_back_in_order() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (_, read) = Journal::open(&written(dir.path()), BOOT).expect("open");
        assert_eq!(read, facts());
    }

    #[test]
    fn a_torn_end_is_cut_at_every_length_and_appending_goes_on() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = written(dir.path());
        let whole = std::fs::read(&path).expect("read");
        for length in HEADER_LENGTH..whole.len() {
            File::create(&path).and_then(|mut f| f.write_all(&whole[..length])).expect("cut");
            let (journal, read) = Journal::open(&path, BOOT).expect("open");
            assert!(facts().starts_with(&read), "{length}");
            journal.append(&Fact::Stopping).expect("append");
            let (_, again) = Journal::open(&path, BOOT).expect("open again");
            assert_eq!(again.last(), Some(&Fact::Stopping));
            assert_eq!(again.len(), read.len() + 1);
        }
    }

    #[test]
    fn another_boot_and_garbage_are_told_apart() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = written(dir.path());
        assert!(matches!(Journal::open(&path, "other"), Err(JournalError::OtherBoot { .. })));
        File::create(&path).and_then(|mut f| f.write_all(b"nonsense")).expect("write");
        assert!(matches!(Journal::open(&path, BOOT), Err(JournalError::Header { .. })));
    }
}
