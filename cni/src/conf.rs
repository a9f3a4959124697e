//! The folder that network add-ons put their configuration in. Read anew at each call: no watcher can be lost when the
//! folder is replaced, and a network is there as soon as its file is.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

use crate::error::with_sources;
use crate::network::{MorePlugins, Network, NetworkError};

/// Largest configuration file, in bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// A folder of network configurations.
#[derive(Clone, Debug)]
pub struct ConfigFolder {
    path: PathBuf,
    max: usize,
}

/// What a folder holds.
#[derive(Clone, Debug)]
pub struct NetworkSet {
    /// In the order of their file names; never empty. The first is the default network.
    pub networks: Vec<Network>,
    /// Files that are no network, each with the reason.
    pub skipped: Vec<(PathBuf, String)>,
}

/// There is no network to attach pods to.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("no CNI network: cannot read {folder}, where a network add-on has to put its configuration")]
    Folder {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "no CNI network in {folder}: a network add-on has to put a .conflist file there{}",
        Skipped(skipped)
    )]
    NoNetwork { folder: PathBuf, skipped: Vec<(PathBuf, String)> },
}

/// One file cannot be used.
#[derive(Debug, Error)]
enum FileError {
    #[error("cannot be read")]
    Read(#[source] io::Error),
    #[error("is no regular file")]
    NotAFile,
    #[error("is larger than 1 MiB")]
    TooLarge,
    #[error("is no CNI configuration")]
    Content(#[source] NetworkError),
    #[error("plugin file {file}")]
    Plugin {
        file: PathBuf,
        #[source]
        source: Box<FileError>,
    },
    #[error("has the network name {name:?} of a file before it")]
    Repeated { name: String },
}

impl ConfigFolder {
    /// A folder of which the first `max` valid files are networks; 0 takes all.
    #[must_use]
    pub fn new(path: PathBuf, max: usize) -> Self {
        Self { path, max }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the networks. A file that is no network is passed over, like the reference implementation does.
    ///
    /// # Errors
    /// When there is none; the text tells the operator what is missing.
    pub fn load(&self) -> Result<NetworkSet, LoadError> {
        let files = files(&self.path, &["conf", "conflist", "json"])
            .map_err(|source| LoadError::Folder { folder: self.path.clone(), source })?;
        let mut set = NetworkSet { networks: Vec::new(), skipped: Vec::new() };
        for file in files {
            if self.max != 0 && set.networks.len() == self.max {
                break;
            }
            match self.load_file(&file).and_then(|network| set.admit(network)) {
                Ok(network) => set.networks.push(network),
                Err(error) => set.skipped.push((file, with_sources(&error))),
            }
        }
        if set.networks.is_empty() {
            return Err(LoadError::NoNetwork { folder: self.path.clone(), skipped: set.skipped });
        }
        Ok(set)
    }

    fn load_file(&self, file: &Path) -> Result<Network, FileError> {
        let bytes = read_regular(file)?;
        if file.extension().is_none_or(|extension| extension != "conflist") {
            return Network::parse_plugin(&bytes, file).map_err(FileError::Content);
        }
        let (mut network, more) = Network::parse_list(&bytes, file).map_err(FileError::Content)?;
        if more == MorePlugins::InFolder {
            self.add_plugins(&mut network)?;
        }
        network.complete().map_err(FileError::Content)
    }

    fn add_plugins(&self, network: &mut Network) -> Result<(), FileError> {
        let files = match files(&self.path.join(&network.name), &["conf"]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            files => files.map_err(FileError::Read)?,
        };
        for file in files {
            read_regular(&file)
                .and_then(|bytes| network.push_plugin(&bytes).map_err(FileError::Content))
                .map_err(|source| FileError::Plugin { file, source: Box::new(source) })?;
        }
        Ok(())
    }
}

impl NetworkSet {
    fn admit(&self, network: Network) -> Result<Network, FileError> {
        // The name is the key of cached results.
        match self.networks.iter().any(|other| other.name == network.name) {
            true => Err(FileError::Repeated { name: network.name }),
            false => Ok(network),
        }
    }
}

/// The files with one of these extensions, by name.
fn files(folder: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extensions.contains(&extension)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_regular(path: &Path) -> Result<Vec<u8>, FileError> {
    match read_capped(path, MAX_FILE) {
        Ok(Capped::All(bytes)) => Ok(bytes),
        Ok(Capped::TooLarge) => Err(FileError::TooLarge),
        Ok(Capped::NotAFile) => Err(FileError::NotAFile),
        Err(error) => Err(FileError::Read(error)),
    }
}

/// What reading a file that someone else wrote gave.
pub(crate) enum Capped {
    All(Vec<u8>),
    TooLarge,
    NotAFile,
}

/// Reads a regular file, or a link to one. Never waits, as an open of a FIFO would.
pub(crate) fn read_capped(path: &Path, cap: u64) -> io::Result<Capped> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(Capped::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(cap + 1).read_to_end(&mut bytes)?;
    let within = u64::try_from(bytes.len()).is_ok_and(|length| length <= cap);
    Ok(if within { Capped::All(bytes) } else { Capped::TooLarge })
}

/// Files passed over, as the end of a sentence. At most a few: this ends in a condition of the node.
struct Skipped<'a>(&'a [(PathBuf, String)]);

impl fmt::Display for Skipped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        for (path, reason) in self.0.iter().take(SHOWN) {
            let name = path.file_name().unwrap_or_default();
            write!(formatter, "; {} {reason}", name.to_string_lossy().escape_debug())?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(formatter, "; {more} more files are no networks either"),
        }
    }
}

#[cfg(test)]
mod tests;
