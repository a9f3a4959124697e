//! Where an entry's folder really is, when this layer and those below are seen as one.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::UnpackError;
use super::entry::{Attributes, shown};
use super::inode::{set_attributes, set_opaque};
use super::layer::{Layer, write_error};
use super::lower::{self, Found, look, open_folder};

/// The kernel's own limit of links in one path (ELOOP).
const MAX_LINKS: usize = 40;
const IMPLICIT_MODE: u32 = 0o755;

impl Layer {
    /// Where `named` really is, as the merged view of all layers resolves it; every folder on the way exists in
    /// this layer afterwards.
    pub(super) fn walk(
        &mut self,
        named: &[OsString],
        entry: &[OsString],
    ) -> Result<Vec<OsString>, UnpackError> {
        let failed = |e: io::Error| write_error("resolve the folder of", entry, e);
        let mut pending: VecDeque<OsString> = named.iter().cloned().collect();
        let mut path: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(part) = pending.pop_front() {
            if part == ".." {
                path.pop();
                continue;
            }
            let place: PathBuf = path.iter().collect();
            let folder = open_folder(&self.root, &place).map_err(failed)?;
            let here = look(&folder, &part).map_err(failed)?;
            let link = match here {
                Found::Folder => None,
                Found::Symlink(target) => Some(target),
                Found::Other => {
                    return Err(UnpackError::Refused {
                        path: shown(entry),
                        why: "the folder it is in is not a folder",
                    });
                }
                Found::Whiteout => {
                    rustix::fs::unlinkat(&folder, part.as_os_str(), AtFlags::empty())
                        .map_err(|e| failed(e.into()))?;
                    self.implicit(&folder, &path, &part, None).map_err(failed)?;
                    open_folder(&folder, Path::new(&part)).and_then(set_opaque).map_err(failed)?;
                    None
                }
                Found::Nothing => self.take_from_below(&folder, &path, &part).map_err(failed)?,
            };
            match link {
                None => path.push(part),
                Some(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(failed(Errno::LOOP.into()));
                    }
                    if target.as_bytes().starts_with(b"/") {
                        path.clear();
                    }
                    let parts = target.as_bytes().split(|c| *c == b'/');
                    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                    for part in parts.rev() {
                        pending.push_front(OsStr::from_bytes(part).to_owned());
                    }
                }
            }
        }
        Ok(path)
    }

    /// Makes `part` like the layers below have it. A symbolic link there is given back instead.
    fn take_from_below(
        &mut self,
        folder: &OwnedFd,
        path: &[OsString],
        part: &OsStr,
    ) -> io::Result<Option<OsString>> {
        let (found, place) = if self.hides_below(path)? {
            (Found::Nothing, None)
        } else {
            lower::find(&self.lower, path, part)?
        };
        match (found, place) {
            (Found::Symlink(target), _) => Ok(Some(target)),
            (Found::Folder, Some(place)) => self.implicit(folder, path, part, Some(&place)).map(|()| None),
            _ => self.implicit(folder, path, part, None).map(|()| None),
        }
    }

    /// Whether a folder of this layer on the way to `path` is opaque.
    fn hides_below(&self, path: &[OsString]) -> io::Result<bool> {
        if self.lower.is_empty() {
            return Ok(true);
        }
        for depth in 0..=path.len() {
            let place: PathBuf = path[..depth].iter().collect();
            if lower::is_opaque(open_folder(&self.root, &place)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A folder that no entry names, with the attributes of the one it will be merged with.
    fn implicit(
        &mut self,
        folder: &OwnedFd,
        path: &[OsString],
        part: &OsStr,
        like: Option<&Path>,
    ) -> io::Result<()> {
        rustix::fs::mkdirat(folder, part, Mode::RWXU)?;
        let made = open_folder(folder, Path::new(part))?;
        let mut attributes = Attributes { mode: IMPLICIT_MODE, ..Attributes::default() };
        if let Some(like) = like {
            use std::os::unix::fs::MetadataExt;
            let below = std::fs::symlink_metadata(like)?;
            attributes.uid = below.uid();
            attributes.gid = below.gid();
            attributes.mode = below.mode() & 0o7777;
            attributes.modified = (below.mtime(), u32::try_from(below.mtime_nsec()).unwrap_or_default());
            let place: PathBuf = path.iter().map(OsString::as_os_str).chain([part]).collect();
            self.set_time_at_the_end(place, attributes.modified);
        }
        set_attributes(made, &attributes)
    }
}
