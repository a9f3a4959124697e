//! What the layers below say about a path, as overlayfs would merge them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The mark of a folder that hides the same folder of the layers below.
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";

/// What stands at a name.
pub(super) enum Found {
    Nothing,
    Folder,
    Symlink(OsString),
    Whiteout,
    Other,
}

/// Opens a folder of a layer; links on the way are errors.
pub(super) fn open_folder(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?)
}

/// Looks at `name` in an open folder without following it.
pub(super) fn look(folder: impl AsFd, name: &OsStr) -> io::Result<Found> {
    let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        stat => stat?,
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Found::Folder,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
            Found::Symlink(OsString::from_vec(target.into_bytes()))
        }
        FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
        _ => Found::Other,
    })
}

pub(super) fn is_opaque(folder: impl AsFd) -> bool {
    let mut value = [0_u8; 8];
    matches!(rustix::fs::fgetxattr(folder, OPAQUE, &mut value), Ok(1..) if value[0] == b'y')
}

/// One folder as the layers below merge it: what each of them brings, uppermost first; empty is no folder.
#[derive(Clone, Default)]
pub(super) struct Merged(Vec<Rc<OwnedFd>>);

/// What the layers below have at a name.
pub(super) enum Below {
    /// Nothing that a folder up here could be merged with.
    Nothing,
    Symlink(OsString),
    Folder(Merged),
}

impl Merged {
    /// The root of these layers.
    pub(super) fn root(layers: Vec<OwnedFd>) -> Self {
        Self(layers.into_iter().map(Rc::new).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many lookups a step is.
    pub(super) fn cost(&self) -> u64 {
        self.0.len() as u64
    }

    /// The folder that counts for owner, mode and time.
    pub(super) fn uppermost(&self) -> Option<&OwnedFd> {
        self.0.first().map(|folder| &**folder)
    }

    /// Looks into each layer until one hides those below it.
    pub(super) fn step(&self, name: &OsStr) -> io::Result<Below> {
        let mut folders = Vec::new();
        for folder in &self.0 {
            match look(folder, name)? {
                Found::Nothing => {}
                Found::Folder => {
                    let inner = open_folder(folder, Path::new(name))?;
                    let opaque = is_opaque(&inner);
                    folders.push(Rc::new(inner));
                    if opaque {
                        break;
                    }
                }
                Found::Symlink(target) if folders.is_empty() => return Ok(Below::Symlink(target)),
                Found::Symlink(_) | Found::Whiteout | Found::Other => break,
            }
        }
        Ok(if folders.is_empty() { Below::Nothing } else { Below::Folder(Self(folders)) })
    }
}
