//! What the layers below say about a path, as overlayfs would merge them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

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

/// The first layer below that says something about `name` in `folder`, and where it lies.
pub(super) fn find(
    lower: &[(PathBuf, OwnedFd)],
    folder: &[OsString],
    name: &OsStr,
) -> io::Result<(Found, Option<PathBuf>)> {
    for (path, root) in lower {
        let mut at = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
        let mut reached = Some(());
        let mut opaque = false;
        for part in folder {
            match look(&at, part)? {
                Found::Folder => {
                    at = open_folder(&at, Path::new(part))?;
                    opaque = opaque || is_opaque(&at);
                }
                Found::Nothing => {
                    reached = None;
                    break;
                }
                // Anything else hides what lies below it.
                Found::Symlink(_) | Found::Whiteout | Found::Other => return Ok((Found::Nothing, None)),
            }
        }
        if reached.is_some() {
            match look(&at, name)? {
                Found::Nothing => {}
                found => {
                    let mut place = path.clone();
                    place.extend(folder);
                    place.push(OsStr::from_bytes(name.as_bytes()));
                    return Ok((found, Some(place)));
                }
            }
        }
        if opaque {
            break;
        }
    }
    Ok((Found::Nothing, None))
}
