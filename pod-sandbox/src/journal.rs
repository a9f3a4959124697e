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

/// Ending of a journal that was set aside.
const ASIDE: &str = "unreadable";
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
    #[error("pod journal {path} has a fact that this version does not know")]
    UnknownFact {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("a fact of {length} bytes is too long for pod journal {path}")]
    TooLong { path: PathBuf, length: usize },
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
    file: Mutex<Tail>,
}

/// The file and how long it is with whole frames only.
#[derive(Debug)]
struct Tail {
    file: File,
    length: u64,
}

impl Journal {
    /// A new journal with the facts that are known from the start. An old file of that name is replaced in one
    /// step, so that a kill leaves the one or the other.
    pub(crate) fn create(path: &Path, boot_id: &str, facts: &[Fact]) -> Result<Self, JournalError> {
        let at = |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(padded(boot_id));
        for fact in facts {
            bytes.extend(encode(path, fact)?);
        }
        let fresh = path.with_extension("new");
        let mut file = options().create(true).truncate(true).open(&fresh).map_err(at("create"))?;
        file.write_all(&bytes).map_err(at("write"))?;
        std::fs::rename(&fresh, path).map_err(at("put in place"))?;
        Self::at_end(path)
    }

    fn at_end(path: &Path) -> Result<Self, JournalError> {
        let at = |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        let file = options().append(true).open(path).map_err(at("open"))?;
        let length = file.metadata().map_err(at("look at"))?.len();
        Ok(Self { path: path.to_owned(), file: Mutex::new(Tail { file, length }) })
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
        let (facts, good) = decode(path, frames)?;
        if good < frames.len() {
            tracing::warn!(journal = %path.display(), bytes = frames.len() - good, "cut off a torn end");
            let file = options().open(path).map_err(at("open"))?;
            file.set_len((HEADER_LENGTH + good) as u64).map_err(at("truncate"))?;
        }
        Ok((Self::at_end(path)?, facts))
    }

    /// Adds one fact; it is safe from the death of this process when this returns. One that does not fit on the
    /// disk leaves no half of itself, so that later ones can be read.
    pub(crate) fn append(&self, fact: &Fact) -> Result<(), JournalError> {
        let frame = encode(&self.path, fact)?;
        let mut tail = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Err(source) = tail.file.write_all(&frame) {
            let kept = tail.length;
            if let Err(error) = tail.file.set_len(kept) {
                tracing::error!(journal = %self.path.display(), %error, "half a fact stays");
            }
            return Err(JournalError::Io { action: "append to", path: self.path.clone(), source });
        }
        tail.length += frame.len() as u64;
        Ok(())
    }
}

/// Puts a journal that cannot be read beside its place, to be looked at.
pub(crate) fn set_aside(path: &Path) -> Result<(), JournalError> {
    let aside = path.with_extension(ASIDE);
    std::fs::rename(path, &aside).map_err(|source| JournalError::Io {
        action: "set aside",
        path: path.to_owned(),
        source,
    })
}

/// Takes the journal at `path` away, and one that was set aside; gone already is fine.
pub(crate) fn remove(path: &Path) -> Result<(), JournalError> {
    for path in [path.to_owned(), path.with_extension(ASIDE)] {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(JournalError::Io { action: "remove", path, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
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

fn encode(path: &Path, fact: &Fact) -> Result<Vec<u8>, JournalError> {
    let payload =
        serde_json::to_vec(fact).map_err(|source| JournalError::Encode { path: path.to_owned(), source })?;
    if payload.len() > MAX_FRAME {
        return Err(JournalError::TooLong { path: path.to_owned(), length: payload.len() });
    }
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend((payload.len() as u32).to_le_bytes());
    frame.extend(crc32fast::hash(&payload).to_le_bytes());
    frame.extend(payload);
    Ok(frame)
}

/// The facts in front of the first damage, and how many bytes they take. A whole frame with a fact that is not
/// understood is no damage: a later version wrote it, and nothing may be made of the rest without it.
fn decode(path: &Path, mut frames: &[u8]) -> Result<(Vec<Fact>, usize), JournalError> {
    let whole = frames.len();
    let mut facts = Vec::new();
    while let Some((payload, rest)) = frame(frames) {
        let fact = serde_json::from_slice(payload)
            .map_err(|source| JournalError::UnknownFact { path: path.to_owned(), source })?;
        facts.push(fact);
        frames = rest;
    }
    Ok((facts, whole - frames.len()))
}

/// The first frame's payload and what follows it; `None` when it is torn or damaged.
fn frame(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = frames.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|n| *n <= MAX_FRAME)?;
    let (payload, rest) = rest.split_at_checked(length)?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*crc)).then_some((payload, rest))
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
            Fact::Ready { at: Timestamp(5), timings: Default::default() },
        ]
    }

    fn written(dir: &Path) -> PathBuf {
        let path = dir.join("pod");
        let journal = Journal::create(&path, BOOT, &[]).expect("create");
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
    fn a_fact_of_a_later_version_is_not_cut_off() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = written(dir.path());
        let payload = br#"{"FactOfTomorrow":{}}"#;
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(crc32fast::hash(payload).to_le_bytes());
        bytes.extend(payload);
        File::create(&path).and_then(|mut f| f.write_all(&bytes)).expect("write");
        assert!(matches!(Journal::open(&path, BOOT), Err(JournalError::UnknownFact { .. })));
        assert_eq!(std::fs::read(&path).expect("read"), bytes, "nothing is lost");
    }

    #[test]
    fn a_journal_begins_with_what_is_known() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("pod");
        drop(Journal::create(&path, BOOT, &facts()).expect("create"));
        assert_eq!(Journal::open(&path, BOOT).expect("open").1, facts());
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
