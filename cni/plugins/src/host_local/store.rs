//! The files of a network: `<ip>` holds whose it is, `last_reserved_ip.<n>` where the search goes on, `lock` is locked.
//!
//! An open store holds the lock. An address's file appears with its content or not at all: a plugin that is killed leaves
//! no address that nobody can give back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags};

use super::AddressError;
use super::config::StoreConfig;

/// Most of a file that is read, in bytes: an id and a name.
const LARGEST: u64 = 4096;
/// Where a file is written before it gets its name.
const UNNAMED: &str = ".reserving";

/// Whose an address is, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    line: String,
    /// What plugins before 0.6 wrote: no interface.
    old_line: String,
}

impl Owner {
    pub(super) fn new(container: &str, ifname: &str) -> Self {
        Self { line: format!("{container}\r\n{ifname}"), old_line: container.to_owned() }
    }

    pub(super) fn container(&self) -> &str {
        &self.old_line
    }

    fn owns(&self, text: &str) -> bool {
        text == self.line || text == self.old_line
    }
}

/// A network's folder, locked.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    _lock: File,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AddressError {
    move |source| AddressError::File { step, path: path.into(), source }
}

impl Store {
    pub(super) fn open(config: &StoreConfig) -> Result<Self, AddressError> {
        let folder = &config.folder;
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(failed("make the folder", folder))?;
        let path = folder.join("lock");
        let lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(failed("open", &path))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| failed("lock", &path)(error.into()))?;
        Ok(Self { folder: folder.clone(), _lock: lock })
    }

    /// A network that never gave an address out has no folder, and gets none.
    pub(super) fn open_if_there(config: &StoreConfig) -> Result<Option<Self>, AddressError> {
        if config.folder.is_dir() { Self::open(config).map(Some) } else { Ok(None) }
    }

    /// All addresses that are given out.
    pub(super) fn reserved(&self) -> Result<Vec<IpAddr>, AddressError> {
        Ok(self.files()?.iter().filter_map(|path| address(path)).collect())
    }

    /// The addresses of one owner.
    pub(super) fn addresses_of(&self, owner: &Owner) -> Result<Vec<IpAddr>, AddressError> {
        let files =
            self.files()?.into_iter().filter(|path| content(path).is_some_and(|text| owner.owns(&text)));
        Ok(files.filter_map(|path| address(&path)).collect())
    }

    pub(super) fn has(&self, owner: &Owner) -> Result<bool, AddressError> {
        Ok(self.files()?.iter().any(|path| content(path).is_some_and(|text| owner.owns(&text))))
    }

    /// Gives an address to an owner; false when somebody has it.
    pub(super) fn reserve(&self, ip: IpAddr, owner: &Owner, set: usize) -> Result<bool, AddressError> {
        let (path, unnamed) = (self.folder.join(ip.to_string()), self.folder.join(UNNAMED));
        write(&unnamed, &owner.line)?;
        match rustix::fs::renameat_with(CWD, &unnamed, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(error) => {
                // What is left is overwritten by the next one.
                let _ = fs::remove_file(&unnamed);
                return match error {
                    rustix::io::Errno::EXIST => Ok(false),
                    error => Err(failed("write", &path)(error.into())),
                };
            }
        }
        write(&self.last_file(set), &ip.to_string()).map(|()| true)
    }

    /// Takes back what [`Self::reserve`] gave.
    pub(super) fn give_back(&self, ip: IpAddr) -> Result<(), AddressError> {
        remove(&self.folder.join(ip.to_string()))
    }

    /// The address of a set that was given out last.
    pub(super) fn last(&self, set: usize) -> Option<IpAddr> {
        content(&self.last_file(set))?.parse().ok()
    }

    /// Removes all files of an owner; those of the old kind only when there are no others, as the reference does.
    pub(super) fn release(&self, owner: &Owner) -> Result<(), AddressError> {
        let files = self.files()?;
        let of = |line: &str| -> Vec<&PathBuf> {
            files.iter().filter(|path| content(path).is_some_and(|text| text == line)).collect()
        };
        // Who holds the lock finds one only of a plugin that was killed.
        remove(&self.folder.join(UNNAMED))?;
        let mut found = of(&owner.line);
        if found.is_empty() {
            found = of(&owner.old_line);
        }
        found.into_iter().try_for_each(|path| remove(path))
    }

    /// Removes the files of everybody else.
    pub(super) fn release_all_but(&self, owners: &[Owner]) -> Result<(), AddressError> {
        for path in self.files()?.iter().filter(|path| address(path).is_some()) {
            if content(path).is_some_and(|text| !owners.iter().any(|owner| owner.owns(&text))) {
                remove(path)?;
            }
        }
        Ok(())
    }

    fn last_file(&self, set: usize) -> PathBuf {
        self.folder.join(format!("last_reserved_ip.{set}"))
    }

    fn files(&self) -> Result<Vec<PathBuf>, AddressError> {
        let entries = fs::read_dir(&self.folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = entries.map_err(failed("list", &self.folder))?;
        let files = entries.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        Ok(files.map(|entry| entry.path()).collect())
    }
}

/// The address that a file stands for.
fn address(path: &Path) -> Option<IpAddr> {
    path.file_name()?.to_str()?.parse().ok()
}

/// A file's text; none when it is gone or is none of these files.
fn content(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(LARGEST).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

fn write(path: &Path, text: &str) -> Result<(), AddressError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed("write", path))
}

fn remove(path: &Path) -> Result<(), AddressError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}
