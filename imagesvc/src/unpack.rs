//! Layers: decompressed, checked against their diff id and applied to a snapshot's folder.
//!
//! The `tar` crate only parses. What is written goes through `layer`, which never follows a link out of the
//! folder. Everything here blocks and belongs on a blocking thread.

mod entry;
mod inode;
mod layer;
mod lower;
mod source;
mod walk;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use runtime_core::error::ErrorKind;
use runtime_core::ids::Digest;
use runtime_core::snapshot::Mount;
use tokio_util::sync::CancellationToken;

pub(crate) use source::Source;

use entry::Entry;
use layer::Layer;

/// Why a layer could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    #[error("compression {name} is not supported")]
    Compression { name: &'static str },
    #[error("entry {path:?} is refused: {why}")]
    Refused { path: String, why: &'static str },
    #[error("more than the supported {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    #[error("failed to {step} {path:?}")]
    Write {
        step: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("its diff id is {found}, the image configuration says {expected}")]
    WrongDiffId { expected: Digest, found: Digest },
    #[error("mounts of kind {kind:?} cannot be unpacked into")]
    Mounts { kind: String },
    #[error("cancelled")]
    Cancelled,
}

impl UnpackError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(_) | Self::Refused { .. } | Self::WrongDiffId { .. } => ErrorKind::DataLoss,
            Self::Compression { .. } | Self::Mounts { .. } => ErrorKind::Unimplemented,
            Self::Limit { .. } => ErrorKind::ResourceExhausted,
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Write { .. } => ErrorKind::Internal,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}

/// What one layer may be: far above real images, far below what fills a machine by surprise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Those of the archive and the folders that none of them names.
    pub(crate) entries: u64,
    /// Names looked up on the way to entries, in every layer: some minutes of one core. An image of a million
    /// folders, each ten deep, needs a tenth.
    pub(crate) lookups: u64,
    /// Decompressed bytes, and bytes written to files.
    pub(crate) bytes: u64,
    /// Bytes in the paths of its folders, which are held in memory until the end.
    pub(crate) folder_paths: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 5_000_000, lookups: 100_000_000, bytes: 1 << 40, folder_paths: 256 << 20 }
    }
}

/// The folder a layer goes to and those it will lie upon, uppermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) folder: PathBuf,
    pub(crate) lower: Vec<PathBuf>,
}

impl Target {
    /// Overlay layers are written where they lie; nothing is mounted.
    pub(crate) fn of_mounts(mounts: &[Mount]) -> Result<Self, UnpackError> {
        let refused = |kind: &str| UnpackError::Mounts { kind: kind.to_owned() };
        let [mount] = mounts else {
            return Err(refused("several"));
        };
        let option = |key: &str| mount.options.iter().find_map(|option| option.strip_prefix(key));
        match mount.kind.as_str() {
            "bind" => Ok(Self { folder: PathBuf::from(&mount.source), lower: Vec::new() }),
            "overlay" => {
                let upper = option("upperdir=").ok_or_else(|| refused("overlay without an upper folder"))?;
                let lower = option("lowerdir=").unwrap_or_default();
                Ok(Self {
                    folder: PathBuf::from(upper),
                    lower: lower.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect(),
                })
            }
            other => Err(refused(other)),
        }
    }
}

/// Applies a layer. The folder must be new: what is in it afterwards is the layer, or garbage on an error.
pub(crate) fn apply(
    blob: std::fs::File,
    target: &Target,
    expected: &Digest,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<(), UnpackError> {
    let mut layer = Layer::open(target, limits, cancel.clone())?;
    let source = Source::open(blob, limits, cancel.clone())?;
    let gauge = source.gauge();
    let mut archive = tar::Archive::new(source);
    let mut entries = archive.entries().map_err(source::error_of)?;
    loop {
        // Names, links and attributes come between entries and are held in memory: they get a small budget.
        gauge.begin_header();
        let Some(raw) = entries.next() else { break };
        let mut raw = raw.map_err(source::error_of)?;
        gauge.end_header();
        layer.count_entry()?;
        if let Some(entry) = Entry::parse(&mut raw)? {
            layer.apply(&entry, &mut raw)?;
        }
        io::copy(&mut raw, &mut io::sink()).map_err(source::error_of)?;
    }
    gauge.end_header();
    layer.finish()?;
    let found = archive.into_inner().finish()?;
    if found == *expected {
        Ok(())
    } else {
        Err(UnpackError::WrongDiffId { expected: expected.clone(), found })
    }
}
