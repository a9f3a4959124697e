//! Single steps on one inode, always by open folder and name.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::entry::{Attributes, Entry, shown};
use super::layer::{Parent, write_error};
use super::lower::{OPAQUE, open_folder};

pub(super) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Owner before mode: chown drops the set-id bits. Attributes last: chown drops capabilities too.
pub(super) fn set_attributes(file: impl AsFd, attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(attributes.mode))?;
    for (name, value) in &attributes.xattrs {
        match rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty()) {
            // The file system has none of this kind; containerd goes on as well.
            Err(Errno::OPNOTSUPP) => {}
            set => set?,
        }
    }
    Ok(())
}

pub(super) fn set_opaque(folder: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())?)
}

/// Hides `hidden` of the layers below. A file of that name in this layer stays, whichever came first.
pub(super) fn whiteout(parent: &Parent, hidden: &OsStr, entry: &Entry) -> Result<(), UnpackError> {
    if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
        return Err(UnpackError::Refused {
            path: shown(&entry.path),
            why: "it hides nothing that has a name",
        });
    }
    match rustix::fs::mknodat(&parent.folder, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::EXIST) => Ok(()),
        made => made.map_err(|e| write_error("make the whiteout", &entry.path, e)),
    }
}

pub(super) fn node(
    parent: &Parent,
    name: &OsStr,
    kind: FileType,
    (major, minor): (u32, u32),
    entry: &Entry,
) -> Result<(), UnpackError> {
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(&parent.folder, name, kind, Mode::empty(), device)
        .map_err(|e| write_error("make node", &entry.path, e))?;
    finish_special(parent, name, &entry.attributes, Some(entry.attributes.mode))
        .map_err(|e| write_error("set the attributes of", &entry.path, e))
}

/// Attributes of what must not be opened. The name was just made by us, so that chmod meets no link.
pub(super) fn finish_special(
    parent: &Parent,
    name: &OsStr,
    attributes: &Attributes,
    mode: Option<u32>,
) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    rustix::fs::chownat(&parent.folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if let Some(mode) = mode {
        rustix::fs::chmodat(&parent.folder, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    let times = times(attributes.modified);
    Ok(rustix::fs::utimensat(&parent.folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes a file or a whole tree by open folders.
pub(super) fn remove(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        removed => return Ok(removed?),
    }
    let inner = open_folder(&folder, Path::new(name))?;
    let names: Vec<OsString> = rustix::fs::Dir::read_from(&inner)?
        .map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()))
        .collect::<Result<_, Errno>>()?;
    for child in names.iter().filter(|child| !matches!(child.as_bytes(), b"." | b"..")) {
        remove(&inner, child)?;
    }
    Ok(rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?)
}
